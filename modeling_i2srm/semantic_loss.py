"""The semantic loss pulls the visual distribution to the textual one (docs/concepts/method.md, section 4)."""

import torch
from torch import nn
from torch.nn import functional as F

from .visual_prompt import FusionLinear


class SemanticLoss(nn.Module):
    """KL( softmax(t) || softmax(W v) ) over the feature axis, averaged over the posts that have a picture.

    Args:
        text_size, vision_size: sizes of t and v.
        detach_text: stop the gradient at the text side.

    Example:

    >>> loss = SemanticLoss(text_size=1024, vision_size=2048)
    >>> loss(torch.randn(8, 1024), torch.randn(8, 2048), present=torch.ones(8)).shape
    torch.Size([])
    """

    def __init__(self, text_size: int, vision_size: int, detach_text: bool = False):
        super().__init__()
        self.projection = FusionLinear(vision_size, text_size, bias=False)  # W
        self.detach_text = detach_text

    def forward(self, text: torch.Tensor, vision: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the loss.

        Args:
            text: (B, text_size) text vectors t.
            vision: (B, vision_size) picture vectors v.
            present: (B,) 1 where the post has a picture; default all. With none the loss is 0. The vectors of posts
                without one may hold anything.

        Returns:
            Scalar in float32, also under autocast; unweighted.
        """
        text = text.detach() if self.detach_text else text
        if present is not None:  # a weight of 0 would let NaN through
            vision = vision.masked_fill(~present.bool()[:, None], 0)
        log_t = text.float().log_softmax(-1)
        log_v = self.projection(vision).float().log_softmax(-1)
        # KL(softmax(t) || softmax(W v)), section 4
        divergence = F.kl_div(log_v, log_t, reduction="none", log_target=True).sum(-1)  # (B,)
        if present is None:
            return divergence.mean()
        present = present.to(divergence.dtype)
        return (divergence * present).sum() / present.sum().clamp(min=1)


__all__ = ["SemanticLoss"]
