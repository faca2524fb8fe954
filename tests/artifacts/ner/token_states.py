"""Words and entities out of the states of sub-tokens."""

from collections.abc import Callable

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


def finite_words(logits: torch.Tensor, word_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The emissions of the words, for decoding.

    Args:
        logits: (B, T, N) emissions of every token.
        word_mask: (B, T), 1 on the first sub-token of each word.

    Returns:
        (B, W, N) float32, the words of a sentence first, zeros after them, and their mask (B, W).

    Raises:
        ValueError: as `check_finite`, for words.
    """
    emissions, mask = gather_words(logits.float(), word_mask.to(logits.device))
    check_finite(emissions, mask)
    return emissions.masked_fill(~mask[..., None], 0), mask


def check_finite(scores: torch.Tensor, mask: torch.Tensor | None = None, names: Callable | None = None) -> None:
    """Raise a `ValueError` where scores are NaN or infinite: no label could be told from them.

    Args:
        scores: (B, N), or (B, W, N) of words.
        mask: (B, W), 1 on the words; the others may hold anything.
        names: gives what the error calls each of the B posts; default their places in the batch.
    """
    finite = scores.isfinite().all(-1)
    if mask is not None:
        finite = finite | ~mask.bool()
    rows = (~finite.view(len(finite), -1).all(1)).nonzero()[:, 0].tolist()
    if rows:
        called = names and names()
        posts = ", ".join(f"{called[row]!r:.100}" for row in rows) if called else f"{rows} of the batch"
        raise ValueError(
            f"the logits of the posts {posts} are NaN or infinite: check their pictures (pixel_values, "
            "visual_features) and the model's weights for such numbers, or compute in float32, e.g. model.float()"
        )


__all__ = ["check_finite", "finite_words", "gather_words", "mean_of_tokens"]
