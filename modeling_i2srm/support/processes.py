"""Several processes: values that they share, and training that equals training in one on their joint batch."""

from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")


def in_process_group() -> bool:
    """Whether this process trains or extracts together with others."""
    return distributed.is_available() and distributed.is_initialized()


def from_first(value: T | None) -> T:
    """Broadcast the value of the first process: files may change between the reads of two processes."""
    shared: list[Any] = [value]
    if in_process_group():
        distributed.broadcast_object_list(shared)
    return shared[0]


def without_repeats(batch: dict, rows: int, process: int, keep_shape: bool = False) -> dict:
    """Remove the rows of an epoch's last batch that only pad it.

    The distributed sampler repeats rows from the start of the data set, so that all processes get the same number.

    Args:
        batch: of this process, each tensor (B, ...).
        rows: number of rows in the joint batch that are not repeated; those of process 0 come first, B per process.
        process: index of this process.
        keep_shape: keep the repeated rows without label and picture, so that no loss counts them. The first row is
            always kept this way if all are repeated: the processes have to take every step together.
    """
    size = len(batch["input_ids"])
    kept = min(max(rows - process * size, 0), size)
    if kept == size:
        return batch
    batch = dict(batch) if keep_shape else {name: tensor[: max(kept, 1)] for name, tensor in batch.items()}
    for name in ("labels", "relation_labels", "region_labels"):
        if name in batch:
            batch[name] = batch[name].clone()
            batch[name][kept:] = -100
    for name in ("pixel_values", "visual_features"):
        if name in batch:
            mask = batch.get("image_mask")
            mask = batch[name].new_ones(batch[name].shape[:2], dtype=torch.long) if mask is None else mask.clone()
            mask[kept:] = 0
            batch["image_mask"] = mask
    return batch


def loss_shares(counts: torch.Tensor, totals: torch.Tensor, processes: int) -> torch.Tensor:
    """The factors of a process's mean losses that make their average over the processes the mean over all rows.

    Args:
        counts: loss denominators of this process.
        totals: loss denominators, summed over the processes.
    """
    return counts * processes / totals.clamp(min=torch.finfo(totals.dtype).tiny)


__all__ = ["from_first", "in_process_group", "loss_shares", "without_repeats"]
