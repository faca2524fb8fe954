"""AttnMixup: attention across the samples of a batch, of all processes if asked to, then Mixup.

docs/concepts/method.md, section 5.
"""

from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn import functional as F


@dataclass
class MixedRows:
    """What AttnMixup hands to the loss: rows to score as they are, and mixed rows with two label sets each.

    With B samples there are n = 2B rows [H; H*] with attention and n = B without. `unmixed`, `first` and `second` index
    the original samples (row % B), so that `labels[rows.first]` are the labels of the mixed rows' first partners.
    """

    unmixed_hidden: torch.Tensor  # (R, ..., D)
    unmixed: torch.Tensor  # (R,) indices of samples
    mixed_hidden: torch.Tensor  # (K, ..., D), K may be 0
    first: torch.Tensor  # (K,) sample of the part weighted with lam
    second: torch.Tensor  # (K,) sample of the part weighted with 1 - lam
    lam: float


class AttnMixup(nn.Module):
    """Let the samples of a batch attend to each other, then interpolate pairs of them. For training only.

    Args:
        hidden_size: size of a row (D).
        num_heads: heads of the attention; must divide D.
        dropout: of the attention layer.
        alpha: lam ~ Beta(alpha, alpha).
        delta: share of the rows that enter the pool for mixing, half from the front (originals), half from the back.
        ratio: 1 - ratio of the mixed rows are scored, and the first (0.5 + ratio/2) of the unmixed ones.
        attention, interpolation: the two halves, each can be switched off (for ablations).
        gather: the rows are those of all training processes (`joint_batch`), so all of them mix with the same draws.

    Example:

    >>> attn_mixup = AttnMixup(hidden_size=64)
    >>> rows = attn_mixup(torch.randn(8, 64))
    >>> rows.unmixed_hidden.shape, rows.mixed_hidden.shape
    (torch.Size([12, 64]), torch.Size([4, 64]))
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int = 4,
        dropout: float = 0.2,
        alpha: float = 1.0,
        delta: float = 0.7,
        ratio: float = 0.6,
        attention: bool = True,
        interpolation: bool = True,
        gather: bool = False,
    ):
        super().__init__()
        self.alpha, self.delta, self.ratio = alpha, delta, ratio
        self.interpolation, self.gather = interpolation, gather
        # Post-norm, ReLU, feed-forward width D, as published.
        self.attention = (
            nn.TransformerEncoderLayer(hidden_size, num_heads, hidden_size, dropout, "relu", batch_first=True)
            if attention
            else None
        )

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None = None,
        lam: float | None = None,
        permutation: torch.Tensor | None = None,
    ) -> MixedRows:
        """Attend and mix.

        Args:
            hidden: (B, D) vectors, or (B, W, D) words with their mask; a row is then a whole sentence.
            mask: (B, W), 1 on the words; needed with 3-D `hidden`.
            lam, permutation: the draws; default Beta(alpha, alpha) and a random permutation of the pool.

        Returns:
            `MixedRows`. Any batch size from 1 works; where a count would be 0 those rows are empty. Without
            interpolation every row is unmixed.
        """
        if (hidden.dim() == 3) != (mask is not None):
            raise ValueError(
                f"hidden of shape {tuple(hidden.shape)} with mask={'given' if mask is not None else None}: give "
                "attn_mixup(vectors of shape (B, D)) or attn_mixup(words of shape (B, W, D), mask=(B, W))"
            )
        samples = torch.arange(len(hidden), device=hidden.device)
        rows, row_mask = hidden, mask
        if self.attention is not None:
            rows = torch.cat([hidden, self.attend(hidden, mask)])  # Z = [H; H*]
            samples = samples.repeat(2)
            row_mask = mask if mask is None else mask.repeat(2, 1)
        n = len(rows)
        if not self.interpolation:
            empty = samples[:0]
            return MixedRows(rows, samples, rows[:0], empty, empty, 1.0)

        pool = self.pool_indices(n).to(hidden.device)
        if lam is None:
            lam = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        if permutation is None:
            permutation = draw_permutation(len(pool))
        if self.gather:
            lam, permutation = same_draws(lam, permutation, rows.device)
        keep = int((1 - self.ratio) * len(pool))
        first, second = pool[:keep], pool[permutation.to(pool.device)][:keep]
        mixed = lam * rows[first] + (1 - lam) * rows[second]  # lam*z + (1-lam)*z[perm]
        if row_mask is not None:  # a word that only one of the two sentences has keeps its own vector
            has_first, has_second = row_mask[first].bool()[..., None], row_mask[second].bool()[..., None]
            mixed = torch.where(has_first & has_second, mixed, torch.where(has_first, rows[first], rows[second]))
        scored = max(int((0.5 + self.ratio * 0.5) * n), 1)
        return MixedRows(rows[:scored], samples[:scored], mixed, samples[first], samples[second], lam)

    def attend(self, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """H*: the encoder layer with the batch as its sequence; for words, at each word position on its own."""
        if mask is None:
            return self.attention(hidden[None])[0]
        words = mask.bool().T  # (W, B)
        # A position that no sentence reaches would attend to nothing and give NaN: let it see itself, it is not used.
        padding = ~words & words.any(1, keepdim=True)
        return self.attention(hidden.transpose(0, 1), src_key_padding_mask=padding).transpose(0, 1)

    def pool_indices(self, n: int) -> torch.Tensor:
        """Rows that may be mixed: the first int(delta/2 * n) and the last n - int((1 - delta/2) * n)."""
        front = torch.arange(int(self.delta / 2 * n))
        back = torch.arange(int((1 - self.delta / 2) * n), n)
        return torch.cat([front, back])


@torch.compiler.disable  # compiled, rows[torch.randperm(n)] fails: github.com/pytorch/pytorch/issues/183988
def draw_permutation(n: int) -> torch.Tensor:
    return torch.randperm(n)


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


__all__ = [
    "AttnMixup",
    "MixedRows",
    "joint_batch",
    "num_processes",
    "same_draws",
]
