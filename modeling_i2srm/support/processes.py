"""Training in several processes as in one on their joint batch (AttnMixup: where it gathers)."""

import torch


def without_repeats(batch: dict, rows: int, process: int, keep_shape: bool = False) -> dict:
    """Take the rows out of the last batch of a data set that only fill it up.

    A sampler that is shared by processes begins anew at its end, so that all of them get as many rows.

    Args:
        batch: of this process, each tensor (B, ...).
        rows: of the data set in the joint batch; B for each process, those of process 0 first.
        process: index of this process.
        keep_shape: leave the rows where they are, without label and picture, so that they count in no loss. The first
            row is left like this, too, where this process has none: the processes have to take every step together.
    """
    size = len(batch["input_ids"])
    own = min(max(rows - process * size, 0), size)
    if own == size:
        return batch
    batch = dict(batch) if keep_shape else {name: tensor[: max(own, 1)] for name, tensor in batch.items()}
    if "labels" in batch:
        batch["labels"] = batch["labels"].clone()
        batch["labels"][own:] = -100
    for name in ("pixel_values", "visual_features"):
        if name in batch:
            mask = batch.get("image_mask")
            mask = batch[name].new_ones(batch[name].shape[:2], dtype=torch.long) if mask is None else mask.clone()
            mask[own:] = 0
            batch["image_mask"] = mask
    return batch


def loss_shares(counts: torch.Tensor, totals: torch.Tensor, processes: int) -> torch.Tensor:
    """What to multiply a process's means with, so that their average over the processes is the mean over all rows.

    Args:
        counts: what this process's means are taken over.
        totals: the same, summed over the processes.
    """
    return counts * processes / totals.clamp(min=torch.finfo(totals.dtype).tiny)


__all__ = ["loss_shares", "without_repeats"]
