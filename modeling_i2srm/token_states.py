"""Words and entities out of the states of sub-tokens."""

import torch


def gather_words(states: torch.Tensor, word_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the positions where `word_mask` is 1 to the front.

    Args:
        states: (B, T, ...).
        word_mask: (B, T), 1 on the first sub-token of each word.

    Returns:
        words (B, W, ...) and their mask (B, W) bool; W = most words in a sentence (at least 1).
    """
    word_mask = word_mask.bool()
    order = word_mask.int().argsort(dim=1, descending=True, stable=True)  # (B, T)
    mask = word_mask.gather(1, order)
    if not torch.compiler.is_compiling():
        width = max(int(word_mask.sum(1).max()), 1)
        order, mask = order[:, :width], mask[:, :width]
    index = order.view(*order.shape, *[1] * (states.dim() - 2)).expand(-1, -1, *states.shape[2:])
    return states.gather(1, index), mask


def mean_of_tokens(states: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """The mean (B, d) of the states (B, T, d) where the mask (B, T) is 1."""
    mask = mask.to(states.dtype)
    count = mask.sum(1, keepdim=True)
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()) and not count.all():
        empty = (count[:, 0] == 0).nonzero()[:, 0].tolist()
        raise ValueError(f"{name} is empty for the posts {empty} of the batch: an entity has at least one token")
    return torch.bmm(mask[:, None], states)[:, 0] / count


__all__ = ["gather_words", "mean_of_tokens"]
