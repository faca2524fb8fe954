"""Crops from a cropper: whatever finds the objects in pictures, `ObjectCropper` or a callable of your own.

A cropper is called with a list of pictures (upright RGB PIL images at full size) and a list of the texts of their posts
(each a `str`, or a list of words where the post has tokens). It gives a list of crops for each picture, the best first,
empty where there is no object. A crop has `box` (left, top, right, bottom in pixels of that picture), `score`, `label`
and `picture`, which is `picture.crop(box)`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from PIL import Image

from .pictures import full_size
from .posts import BoxCrop, Post

PARTS = ("box", "score", "label", "picture")
EXAMPLE = 'cropper=ObjectCropper(load_detector("facebook/detr-resnet-50"))'


class Crop(Protocol):
    """The crop of an object and what is known of it, as a cropper returns it."""

    @property
    def box(self) -> Sequence[float]: ...
    @property
    def score(self) -> float: ...
    @property
    def label(self) -> str: ...
    @property
    def picture(self) -> Image.Image: ...


def check_cropper(cropper: object) -> None:
    """Raise a `ValueError` unless something is a cropper, `None` (as before) or `False` (none)."""
    if not (cropper is None or cropper is False or callable(cropper)):
        raise ValueError(f"cropper={cropper!r:.200} cannot be called with pictures and texts; e.g. {EXAMPLE}")


def add_crops(posts: list[Post], cropper: Callable) -> None:
    """Let a cropper find the objects of the posts whose picture is available at full size, all of them in one call.

    Raises:
        ValueError: as of `find_crops`.
    """
    waiting = [post for post in posts if post.whole is not None]
    answers = find_crops(cropper, [post.whole for post in waiting], [post.source for post in waiting])
    for post, crops in zip(waiting, answers, strict=True):
        post.objects = [crop.picture for crop in crops]
        post.crops, post.whole = [in_full_size(crop, cast(Any, post.whole)) for crop in crops], None


@torch.no_grad()
def find_crops(cropper: Callable, pictures: list, texts: list) -> list[list]:
    """The crops of each picture, all pictures in one call; without pictures the cropper is not called.

    Raises:
        ValueError: the cropper gives anything else than a list of crops per picture.
    """
    if not pictures:
        return []
    answer = cropper(pictures, texts)
    if not isinstance(answer, (list, tuple)) or not all(isinstance(crops, (list, tuple)) for crops in answer):
        raise ValueError(f"the cropper gave {answer!r:.200}, expected a list of crops for each picture, e.g. [[], []]")
    if len(answer) != len(pictures):
        raise ValueError(
            f"the cropper gave crops of {len(answer)} pictures, expected {len(pictures)}, as many as it got"
        )
    for crop in (crop for crops in answer for crop in crops):
        if lacking := [name for name in PARTS if not hasattr(crop, name)]:
            raise ValueError(
                f"the cropper gave {crop!r:.200} without {', '.join(lacking)}, expected crops with {', '.join(PARTS)}, "
                'e.g. ObjectCrop((10, 20, 110, 90), 0.9, "dog", picture.crop((10, 20, 110, 90)))'
            )
    return [list(crops) for crops in answer]


def in_full_size(crop: Crop, whole: Image.Image) -> Crop:
    """The crop of a picture with its box in pixels of the full size, where the picture is decoded at a part of it."""
    if (full := full_size(whole)) == whole.size:
        return crop
    said, across, down = describe_crop(crop), full[0] / whole.width, full[1] / whole.height
    left, top, right, bottom = said["box"]
    box = round(left * across), round(top * down), round(right * across), round(bottom * down)
    return BoxCrop(box, said["score"], said["label"], crop.picture)


def describe_crop(crop: Crop) -> dict:
    """A crop without its picture, as plain data; the box in whole pixels, as `Image.crop` rounds it.

    >>> from types import SimpleNamespace
    >>> describe_crop(SimpleNamespace(box=[0, 9.8, 40.2, 50], score=1, label="dog", picture=None))
    {'box': (0, 10, 40, 50), 'score': 1.0, 'label': 'dog'}
    """
    left, top, right, bottom = (round(float(side)) for side in crop.box)
    return {"box": (left, top, right, bottom), "score": float(crop.score), "label": str(crop.label)}


__all__ = ["Crop", "add_crops", "check_cropper", "describe_crop", "find_crops"]
