"""Recipes of image processors: that of a ResNet, and the PIL twins of those that need torchvision."""

import transformers
from transformers import BitImageProcessorPil
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def resnet_image_processor(image_size: int = 224) -> BitImageProcessorPil:
    """The ResNet recipe: shortest side to 8/7 of the size, centre crop, ImageNet normalisation, bilinear."""
    return BitImageProcessorPil(
        size={"shortest_edge": image_size * 256 // 224},
        crop_size={"height": image_size, "width": image_size},
        resample=2,
        image_mean=IMAGENET_DEFAULT_MEAN,
        image_std=IMAGENET_DEFAULT_STD,
    )


def pil_backed(image_processor):
    """The PIL twin of a torchvision-backed image processor, so that results do not depend on what is installed."""
    name = type(image_processor).__name__.removesuffix("Fast")
    twin = None if name.endswith("Pil") else getattr(transformers, f"{name}Pil", None)
    return image_processor if twin is None else twin(**image_processor.to_dict())


__all__ = ["pil_backed", "resnet_image_processor"]
