"""The rows of all training processes as one batch, for AttnMixup."""

import torch
from torch import distributed
from torch.nn import functional as F


def num_processes() -> int:
    """How many processes train together, 1 without torch.distributed."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def joint_batch(hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the rows of all processes one below the other, those of process 0 first.

    Every process gets all of them and computes the same loss. It differentiates its own rows alone, times the number of
    processes: the average of the gradients over the processes, which data-parallel training takes, is then the gradient
    of the one loss. So backward needs no communication of its own that could cross that of the training.

    Args:
        hidden: (B, D) or (B, W, D); B and W may differ from process to process, and B may be 0.
        labels: (B,) or (B, W), -100 = none. Rows without any label are left out.

    Returns:
        The same two for the joint batch; with one process, or where no process has a label, what was given.
    """
    processes = num_processes()
    if processes == 1:
        return hidden, labels
    labelled = (labels != -100).flatten(1).any(1) if labels.dim() > 1 else labels != -100
    own, own_labels = hidden[labelled], labels[labelled]
    shapes = all_gather(torch.tensor(own.shape[:-1], device=hidden.device))  # of (B,) or (B, W)
    largest = torch.stack(shapes).amax(0).tolist()
    if largest[0] == 0:
        return hidden, labels
    missing = [n - size for n, size in zip(largest, own.shape, strict=False)]
    padding = [size for n in reversed(missing) for size in (0, n)]  # F.pad counts from the last axis
    everyone = all_gather(F.pad(own.detach(), [0, 0, *padding]))
    everyones_labels = all_gather(F.pad(own_labels, padding, value=-100))
    own = own.view_as(own)
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * processes)
    everyone[distributed.get_rank()] = F.pad(own, [0, 0, *padding])
    counts = [int(shape[0]) for shape in shapes]
    return (
        torch.cat([rows[:count] for rows, count in zip(everyone, counts, strict=True)]),
        torch.cat([rows[:count] for rows, count in zip(everyones_labels, counts, strict=True)]),
    )


def all_gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of all processes, which must have the same shape; without gradients."""
    found = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(num_processes())]
    distributed.all_gather(found, tensor.contiguous())
    return found


def same_draws(lam: float, permutation: torch.Tensor, device: torch.device) -> tuple[float, torch.Tensor]:
    """The draws of process 0, in all processes."""
    if num_processes() == 1:
        return lam, permutation
    draws = torch.cat([torch.tensor([lam], dtype=torch.double), permutation.double()]).to(device)
    distributed.broadcast(draws, src=0)
    lam, *permutation = draws.tolist()
    return lam, torch.tensor(permutation, dtype=torch.long)


__all__ = ["joint_batch", "num_processes", "same_draws"]
