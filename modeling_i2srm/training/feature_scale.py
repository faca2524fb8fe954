"""Measures, on the first pictures of a training, whether their features are too large for the visual prompts.

A unit of their tanh projector beyond 0.99 is saturated: it passes on less than 2 % of its gradient. A warning comes
where more than 20 % of the units are. New prompts reach that with features of 3.6 on the root mean square, since the
inputs of their tanh then have a standard deviation of 2.1.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..pretrained_model import I2SRMPreTrainedModel

logger = logging.getLogger(__name__)

SATURATED = 0.99
LARGEST_SHARE = 0.2


@contextmanager
def watching_feature_scale(model: I2SRMPreTrainedModel) -> Iterator[None]:
    """Warn once in this block, on the first batch with pictures, if much of the prompts' tanh projector is saturated.

    The numbers come from the forward pass of that batch; nothing more is computed, and no random number is drawn.

    Args:
        model: an I2SRM model with or without a head, not compiled.
    """
    base = model.base_model
    handles: list[torch.utils.hooks.RemovableHandle] = []
    pooled = list[torch.Tensor]()

    def keep(module: torch.nn.Module, inputs: tuple) -> None:
        pooled[:] = [inputs[0].detach().flatten(0, 1).float()]  # (B*K, C, 2, 2)

    def measure(module: torch.nn.Module, inputs: tuple, units: torch.Tensor) -> None:
        features = pooled.pop()
        present = features.flatten(1).any(1)  # the features of absent pictures are zeros
        if present.any():
            stop()
            share = (units.detach().flatten(0, 1)[present].abs() > SATURATED).float().mean().item()
            stages = features[present].split(list(base.vision_encoder.channels), dim=1)
            warn_of_saturation(share, [stage.square().mean().sqrt().item() for stage in stages])

    def stop() -> None:
        while handles:
            handles.pop().remove()

    handles.append(base.visual_prompt.register_forward_pre_hook(keep))
    handles.append(base.visual_prompt.projector[1].register_forward_hook(measure))
    try:
        yield
    finally:
        stop()


def warn_of_saturation(share: float, sizes: list[float]) -> None:
    """Warn if more than `LARGEST_SHARE` of the projector is saturated.

    Args:
        share: of its units, 0 to 1.
        sizes: root mean square of the features of each stage.
    """
    if share > LARGEST_SHARE:
        logger.warning(
            f"{share:.0%} of the units of the visual prompts are saturated on the first pictures (|tanh| > "
            f"{SATURATED}; above {LARGEST_SHARE:.0%} they learn slowly): the features are too large. The root mean "
            f"squares of the stages are {', '.join(f'{size:.3g}' for size in sizes)}. Scale or normalise the feature "
            "maps in the backbone, or leave stages out with --vision_out_features"
        )


__all__ = ["LARGEST_SHARE", "SATURATED", "watching_feature_scale"]
