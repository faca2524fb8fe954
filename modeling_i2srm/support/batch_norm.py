"""Folds batch-norm into the convolutions before it, and makes ReLU in-place, for inference."""

from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Fold batch-norm in evaluation mode into the convolutions: the same features except for rounding, and faster.

    ReLU becomes in-place, which saves a copy of the feature maps.

    Args:
        model: a model or backbone, changed in place; its backbone can no longer be trained or saved. The layers of
            transformers' convolutional backbones (ResNet, RegNet ...) are known; others stay unchanged.

    Returns:
        The model.

    Raises:
        ValueError: a batch-norm layer is in training mode. `model.save_pretrained` raises it from then on.

    Example:

    >>> model = fold_batch_norm(I2SRMForTokenClassification.from_pretrained("runs/quickstart"))  # doctest: +SKIP
    """
    # Of a user-defined backbone the order of the parts is not known.
    known = [layer for layer in model.modules() if type(layer).__module__.startswith("transformers.")]
    layers: list[Any] = [
        layer
        for layer in known
        if isinstance(getattr(layer, "normalization", None), nn.BatchNorm2d)
        and isinstance(getattr(layer, "convolution", None), nn.Conv2d)
    ]
    if any(layer.normalization.training for layer in layers):
        raise ValueError("batch-norm is in training mode; fold it for inference: fold_batch_norm(model.eval())")
    for layer in layers:
        layer.convolution = fuse_conv_bn_eval(layer.convolution, layer.normalization).requires_grad_(False)
        layer.normalization = nn.Identity()
    blocks: list[Any] = [layer for layer in known if hasattr(layer, "shortcut")]
    for layer in (*layers, *blocks):
        if isinstance(getattr(layer, "activation", None), nn.ReLU):
            layer.activation.inplace = True
    if layers and hasattr(model, "save_pretrained"):
        model.__dict__["save_pretrained"] = refuse_to_save
    return model


def refuse_to_save(*args: object, **kwargs: object) -> None:
    """Raise a `ValueError`; a function of the module, since a folded model has to be picklable."""
    raise ValueError("batch-norm of this model is folded; save the model as it was loaded, without fold_batch_norm")


__all__ = ["fold_batch_norm"]
