"""AttnMixup: attention across the examples of a batch (optionally of all processes), then Mixup.

docs/concepts/method.md, section 5.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn import functional as F


@dataclass
class MixedRows:
    """The output of AttnMixup: R unmixed rows with their labels, and K mixed rows with two sets of labels."""

    unmixed: torch.Tensor  # (R, ..., D)
    unmixed_labels: torch.Tensor  # (R, ...)
    mixed: torch.Tensor  # (K, ..., D), K may be 0
    first_labels: torch.Tensor  # (K, ...) of the part weighted with lam
    second_labels: torch.Tensor  # (K, ...) of the part weighted with 1 - lam
    lam: float

    def losses(
        self,
        score: Callable[[torch.Tensor], torch.Tensor],
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Score all rows in one call and compute the parts of the loss.

        Args:
            score: a classifier, (N, ..., D) -> (N, ..., labels).
            loss: mean loss of scores and their labels, e.g. `torch.nn.functional.cross_entropy`.

        Returns:
            As `combine`.
        """
        unmixed, mixed = score(torch.cat([self.unmixed, self.mixed])).split([len(self.unmixed), len(self.mixed)])
        both = [loss(mixed, labels) for labels in (self.first_labels, self.second_labels) if len(mixed)]
        return self.combine(loss(unmixed, self.unmixed_labels), *both)

    def combine(
        self, unmixed: torch.Tensor, first: torch.Tensor | None = None, second: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Weight the loss of the mixed rows with their labels (section 5).

        Args:
            unmixed: mean loss of the unmixed rows.
            first, second: mean loss of the mixed rows with the first and with the second labels; not used for K = 0.

        Returns:
            "task_loss", L(unmixed), and for K > 0 "mixup_loss", lam L(mixed, y) + (1 - lam) L(mixed, y_perm).
        """
        parts = {"task_loss": unmixed}
        if len(self.mixed):
            assert first is not None and second is not None
            parts["mixup_loss"] = self.lam * first + (1 - self.lam) * second
        return parts


class AttnMixup(nn.Module):
    """Let the examples of a batch attend to each other, then interpolate pairs of them. For training only.

    Args:
        hidden_size: size of a row (D).
        num_heads: heads of the attention; must divide D.
        dropout: of the attention layer.
        alpha: lam ~ Beta(alpha, alpha).
        delta: share of the rows that enter the pool for mixing, half from the front (originals), half from the back.
        ratio: 1 - ratio of the mixed rows are scored, and the first (0.5 + ratio/2) of the unmixed ones.
        attention, interpolation: the two halves, each can be switched off (for ablations).
        gather: mix the examples of all training processes, which then draw alike (`joint_batch`).

    Example:

    >>> attn_mixup, classifier = AttnMixup(hidden_size=64), nn.Linear(64, 3)
    >>> rows = attn_mixup(torch.randn(8, 64), torch.randint(3, (8,)))
    >>> rows.unmixed.shape, rows.mixed.shape
    (torch.Size([12, 64]), torch.Size([4, 64]))
    >>> list(rows.losses(classifier, F.cross_entropy))
    ['task_loss', 'mixup_loss']
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
        labels: torch.Tensor,
        lam: float | None = None,
        permutation: torch.Tensor | None = None,
    ) -> MixedRows:
        """Gather, attend and mix.

        Args:
            hidden: (B, D) vectors, or (B, W, D) words; a row is then a whole sentence.
            labels: (B,) of the vectors, or (B, W) of the words, -100 where there is no word.
            lam, permutation: the draws; default Beta(alpha, alpha) and a random permutation of the pool.

        Returns:
            `MixedRows`. Any batch size from 1 works; where a count would be 0 those rows are empty. Without
            interpolation every row is unmixed.
        """
        if hidden.dim() not in (2, 3) or labels.shape != hidden.shape[:-1]:
            raise ValueError(
                f"hidden of shape {tuple(hidden.shape)} with labels of shape {tuple(labels.shape)}: call "
                "attn_mixup(vectors of shape (B, D), labels of shape (B,)) or "
                "attn_mixup(words of shape (B, W, D), labels of shape (B, W))"
            )
        if self.gather:
            hidden, labels = joint_batch(hidden, labels)
        rows = hidden
        if self.attention is not None:
            rows = torch.cat(
                [hidden, self.attend(hidden, labels != -100 if hidden.dim() == 3 else None)]
            )  # Z = [H; H*]
            labels = torch.cat([labels, labels])
        if not self.interpolation:
            return MixedRows(rows, labels, rows[:0], labels[:0], labels[:0], 1.0)

        n = len(rows)
        pool = self.pool_indices(n).to(rows.device)
        if lam is None:
            lam = torch.distributions.Beta(self.alpha, self.alpha).sample().item()
        if permutation is None:
            permutation = draw_permutation(len(pool))
        if self.gather:
            lam, permutation = same_draws(lam, permutation, rows.device)
        kept = int((1 - self.ratio) * len(pool))  # K = floor((1 - r) |pool|), section 5
        first, second = pool[:kept], pool[permutation.to(pool.device)][:kept]
        mixed = lam * rows[first] + (1 - lam) * rows[second]  # lam z + (1 - lam) z_perm
        if rows.dim() == 3:  # a word that only one of the two sentences has keeps its own vector
            has_first, has_second = ((labels[half] != -100)[..., None] for half in (first, second))
            mixed = torch.where(has_first & has_second, mixed, torch.where(has_first, rows[first], rows[second]))
        scored = max(int((0.5 + self.ratio * 0.5) * n), 1)  # R = floor((0.5 + 0.5 r) n), section 5
        return MixedRows(rows[:scored], labels[:scored], mixed, labels[first], labels[second], lam)

    def attend(self, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """H*: the encoder layer with the batch as its sequence; for words, at each word position on its own."""
        assert self.attention is not None
        if mask is None:
            return self.attention(hidden[None])[0]
        words = mask.bool().T  # (W, B)
        # A position that no sentence reaches would attend to nothing and give NaN: let it see itself, it is not used.
        padding = ~words & words.any(1, keepdim=True)
        return self.attention(hidden.transpose(0, 1), src_key_padding_mask=padding).transpose(0, 1)

    def pool_indices(self, n: int) -> torch.Tensor:
        """The rows of Z that may be mixed (section 5)."""
        front = torch.arange(int(self.delta / 2 * n))  # the first floor(delta/2 n)
        back = torch.arange(int((1 - self.delta / 2) * n), n)  # the last n - floor((1 - delta/2) n)
        return torch.cat([front, back])


@torch.compiler.disable  # compiled, rows[torch.randperm(n)] fails: github.com/pytorch/pytorch/issues/183988
def draw_permutation(n: int) -> torch.Tensor:
    return torch.randperm(n)


def num_processes() -> int:
    """The number of processes that train together; 1 without torch.distributed."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def joint_batch(hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Concatenate the rows of all processes, those of process 0 first.

    Every process gets all of them and computes the same loss L, but differentiates only its own rows H_p. Data-parallel
    training averages the gradients over the N processes. With the factor N in front of each this gives the gradient of
    L: 1/N sum_p N dL/dH_p dH_p/dw = dL/dw (section 5). So the backward pass needs no communication of its own, which
    could cross that of the training.

    Args:
        hidden: (B, D) or (B, W, D); B and W may differ from process to process, and B may be 0.
        labels: (B,) or (B, W), -100 = none. Rows without any label are left out.

    Returns:
        The same two for the joint batch; unchanged with one process, or where no process has a label.
    """
    processes = num_processes()
    if processes == 1:
        return hidden, labels
    labelled = (labels != -100).flatten(1).any(1) if labels.dim() > 1 else labels != -100
    local, local_labels = hidden[labelled], labels[labelled]
    shapes = all_gather(torch.tensor(local.shape[:-1], device=hidden.device))  # of (B,) or (B, W)
    largest = torch.stack(shapes).amax(0).tolist()
    if largest[0] == 0:
        return hidden, labels
    missing = [most - size for most, size in zip(largest, local.shape, strict=False)]
    padding = [size for count in reversed(missing) for size in (0, count)]  # F.pad counts from the last axis
    gathered = all_gather(F.pad(local.detach(), [0, 0, *padding]))
    gathered_labels = all_gather(F.pad(local_labels, padding, value=-100))
    local = local.view_as(local)
    if local.requires_grad:
        local.register_hook(lambda gradient: gradient * processes)  # N dL/dH_p
    gathered[distributed.get_rank()] = F.pad(local, [0, 0, *padding])
    counts = [int(shape[0]) for shape in shapes]
    return (
        torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)]),
        torch.cat([rows[:count] for rows, count in zip(gathered_labels, counts, strict=True)]),
    )


def all_gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of all processes, which must have the same shape; without gradients."""
    tensors = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(num_processes())]
    distributed.all_gather(tensors, tensor.contiguous())
    return tensors


def same_draws(lam: float, permutation: torch.Tensor, device: torch.device) -> tuple[float, torch.Tensor]:
    """The draws of process 0, in all processes."""
    if num_processes() == 1:
        return lam, permutation
    draws = torch.cat([torch.tensor([lam], dtype=torch.double), permutation.double()]).to(device)
    distributed.broadcast(draws, src=0)
    lam, *order = draws.tolist()
    return lam, torch.tensor(order, dtype=torch.long)


__all__ = [
    "AttnMixup",
    "MixedRows",
    "joint_batch",
    "num_processes",
    "same_draws",
]
