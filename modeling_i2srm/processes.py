"""Training in several processes that gives what one process gives on their joint batch."""

import torch


def without_repeats(batch: dict, rows: int, process: int) -> dict:
    """Take the rows out of the last batch of an epoch that only fill it up.

    A sampler that is shared by processes begins anew at its end, so that all of them get as many rows.

    Args:
        batch: of this process, each tensor (B, ...).
        rows: of the data set in the joint batch; B for each process, those of process 0 first.
        process: index of this process.

    Returns:
        The batch with its own rows. Where it has none, its first row without label and picture: the processes have to
        take every step together.
    """
    size = len(batch["input_ids"])
    own = min(max(rows - process * size, 0), size)
    if own == size:
        return batch
    batch = {name: tensor[: max(own, 1)] for name, tensor in batch.items()}
    if own == 0:
        if "labels" in batch:
            batch["labels"] = torch.full_like(batch["labels"], -100)
        for name in ("pixel_values", "visual_features"):
            if name in batch:
                batch["image_mask"] = batch[name].new_zeros(batch[name].shape[:2], dtype=torch.long)
    return batch


def loss_shares(counts: torch.Tensor, totals: torch.Tensor, processes: int) -> torch.Tensor:
    """What to multiply a process's means with, so that their average over the processes is the mean over all rows.

    Args:
        counts: what this process's means are taken over.
        totals: the same, summed over the processes.
    """
    return counts * processes / totals.clamp(min=torch.finfo(totals.dtype).tiny)


__all__ = ["loss_shares", "without_repeats"]
