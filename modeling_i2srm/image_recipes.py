"""Recipes of image processors: that of a ResNet, those of timm, and the PIL twins of those that need torchvision."""

from collections.abc import Mapping

import transformers
from transformers import AutoImageProcessor, BaseImageProcessor, BitImageProcessorPil, PreTrainedConfig
from transformers.utils import logging
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from .configuration_i2srm import backbone_config, import_timm, timm_name
from .loading import loading

logger = logging.get_logger(__name__)

FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # their numbers in Pillow


def resnet_image_processor(image_size: int = 224) -> BitImageProcessorPil:
    """The ResNet recipe: shortest side to 8/7 of the size, centre crop, ImageNet normalisation, bilinear."""
    return recipe_image_processor({}, image_size)


def recipe_image_processor(recipe: Mapping, image_size: int | None = None) -> BitImageProcessorPil:
    """The image processor of a picture recipe with the keys of timm, as a backbone's `config.pretrained_cfg` holds it.

    Args:
        recipe: input_size [3, side, side], crop_pct (share of the resized picture's side that is kept), crop_mode
            ("center" or "squash"), interpolation ("bilinear", "bicubic" ...), mean and std of levels from 0 to 1. What
            it lacks is as in the ResNet recipe; other keys are ignored.
        image_size: side of the pictures instead of that of input_size.

    Raises:
        ValueError: another crop mode or interpolation, pictures that are no square, or a share outside of 0 to 1.
    """
    channels, height, width = recipe.get("input_size", (3, 224, 224)) if image_size is None else (3, *[image_size] * 2)
    share, mode = recipe.get("crop_pct", 0.875), recipe.get("crop_mode", "center")
    name = recipe.get("interpolation", "bilinear")
    known = mode in ("center", "squash") and name in FILTERS
    if not known or channels != 3 or height != width or not 0 < share <= 1:
        raise ValueError(
            f"pretrained_cfg is not a valid picture recipe: {dict(recipe)!r:.400}; e.g. pretrained_cfg="
            '{"input_size": [3, 224, 224], "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"}'
        )
    side = int(height / share)
    return BitImageProcessorPil(
        size={"shortest_edge": side} if mode == "center" else {"height": side, "width": side},
        crop_size={"height": height, "width": width},
        resample=FILTERS[name],
        image_mean=list(recipe.get("mean", IMAGENET_DEFAULT_MEAN)),
        image_std=list(recipe.get("std", IMAGENET_DEFAULT_STD)),
    )


def backbone_image_processor(name_or_path: str) -> BaseImageProcessor:
    """The image processor of a backbone: that of its preprocessor_config.json, or the recipe of its configuration.

    Args:
        name_or_path: local folder or Hub id; "timm/NAME" is NAME of timm, whose recipes timm knows.

    Returns:
        A PIL-backed image processor; with a warning the ResNet recipe, where neither file holds one.

    Raises:
        CheckpointError: a configuration of a model type that nothing registers, or a recipe that cannot be followed.
    """
    with loading("picture recipe", name_or_path):
        if (name := timm_name(name_or_path)) is not None:
            return recipe_image_processor(import_timm().get_pretrained_cfg(name, False).to_dict())
        try:
            return AutoImageProcessor.from_pretrained(name_or_path, backend="pil")
        except (OSError, ValueError) as error:
            reason = error
        try:
            model_type = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
        except (OSError, ValueError):
            model_type = None
        recipe = None if model_type is None else getattr(backbone_config(name_or_path), "pretrained_cfg", None)
        if recipe is None:
            logger.warning(f"no picture recipe at {name_or_path!r} ({reason}); using the ResNet recipe")
        return recipe_image_processor(recipe or {})


def pil_backed(image_processor):
    """The PIL twin of a torchvision-backed image processor, so that results do not depend on what is installed."""
    name = type(image_processor).__name__.removesuffix("Fast")
    twin = None if name.endswith("Pil") else getattr(transformers, f"{name}Pil", None)
    return image_processor if twin is None else twin(**image_processor.to_dict())


__all__ = ["backbone_image_processor", "pil_backed", "recipe_image_processor", "resnet_image_processor"]
