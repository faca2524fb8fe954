"""Exchanges, removes, greys out or blurs with noise the pictures of posts, to measure how far they mislead a model."""

import io
import logging
from functools import cache
from typing import NamedTuple

import numpy as np
from datasets import Dataset, Features, concatenate_datasets
from PIL import Image

from ..checks import IGNORE
from ..pictures import PictureError, load_picture

logger = logging.getLogger(__name__)

KINDS = ("shuffled", "blanked", "noised", "grey")
PICTURE_COLUMNS = ("image", "objects")
NOISE = 64  # standard deviation, in levels of 0 to 255
GREY_SIDE, GREY_LEVEL = 64, 128
NOISY_SIDE = 256  # larger pictures are reduced to this side first, so that resizing does not average the noise away


class Mismatch(NamedTuple):
    """A change of the pictures of some posts.

    Args:
        kind: "shuffled" (the chosen posts exchange their pictures and crops), "blanked" (they lose them), "noised"
            (Gaussian noise with a standard deviation of 64 of 255 levels is added to each pixel and channel) or "grey"
            (each picture and crop becomes the same grey square, so that only their number is left).
        percent: of the posts that have a picture or crop, 0 to 100.

    Example:

    >>> Mismatch.parse("shuffled:30")
    Mismatch(kind='shuffled', percent=30.0)
    >>> str(_)
    'shuffled:30'
    """

    kind: str
    percent: float

    @classmethod
    def parse(cls, text: str) -> "Mismatch":
        """Read KIND:PERCENT; raises `ValueError` for anything else."""
        kind, _, percent = text.partition(":")
        try:
            share = float(percent)
        except ValueError:
            share = -1.0
        if kind not in KINDS or not 0 <= share <= 100:
            raise ValueError(
                f"{text!r} must be KIND:PERCENT, where KIND is one of {', '.join(KINDS)}, e.g. shuffled:50"
            )
        return cls(kind, share)

    def __str__(self) -> str:
        return f"{self.kind}:{self.percent:g}"


def mismatch_pictures(split: Dataset, mismatch: Mismatch, seed: int) -> Dataset:
    """Change the pictures of some posts of a split; texts and order stay, and their regions are not annotated.

    Args:
        split: with the columns image and objects, or one of them; without both it is returned unchanged.
        seed: of the chosen posts, the exchange and the noise. The posts chosen at one percentage are among those chosen
            at a higher one.
    """
    columns = [name for name in PICTURE_COLUMNS if name in split.column_names]
    pictures = split.select_columns(columns)
    has = [row.get("image") is not None or bool(row.get("objects")) for row in pictures] if columns else []
    places = np.random.default_rng(seed).permutation(np.flatnonzero(has))
    chosen = places[: round(mismatch.percent / 100 * len(places))]
    if not len(chosen):
        return split
    if mismatch.kind == "shuffled" and len(chosen) == 1:
        logger.warning(
            f"{mismatch} of {len(places)} posts with pictures is one post, which keeps its own picture; choose more, "
            "e.g. shuffled:100"
        )
    if mismatch.kind == "shuffled":
        order = np.arange(len(split))
        order[chosen] = np.roll(chosen, 1)  # the pictures of the next one in a random order: no post keeps its own
        pictures = pictures.select(order)
    else:
        wanted, change = set(chosen.tolist()), CHANGES[mismatch.kind]

        def changed(row: dict, place: int) -> dict:
            return change(row, np.random.default_rng((seed, place))) if place in wanted else row

        features = Features({name: pictures.features[name] for name in columns})
        pictures = pictures.map(changed, with_indices=True, features=features, desc=str(mismatch))
    changed_split = concatenate_datasets([split.remove_columns(columns), pictures], axis=1)
    return without_regions(changed_split, chosen)


def without_regions(split: Dataset, places: np.ndarray) -> Dataset:
    """The same rows; in some, which crop shows an entity is not annotated, since the crops are others now."""
    for name, unknown in (("regions", None), ("region_labels", IGNORE)):
        if name in split.column_names:
            feature, column = split.features[name], split[name][:]
            for place in places:
                column[place] = None if column[place] is None else [unknown] * len(column[place])
            regions = Dataset.from_dict({name: column}, Features({name: feature}))
            split = concatenate_datasets([split.remove_columns(name), regions], axis=1)
    return split


def blank(row: dict, _generator: np.random.Generator) -> dict:
    return {name: [] if name == "objects" else None for name in row}


def grey_out(row: dict, _generator: np.random.Generator) -> dict:
    square = grey_square()
    changed = dict(row)
    if row.get("image") is not None:
        changed["image"] = square
    if row.get("objects"):
        changed["objects"] = [square for _ in row["objects"]]
    return changed


@cache
def grey_square() -> dict:
    buffer = io.BytesIO()
    Image.new("RGB", (GREY_SIDE, GREY_SIDE), (GREY_LEVEL,) * 3).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def noise(row: dict, generator: np.random.Generator) -> dict:
    changed = dict(row)
    if "image" in row:
        changed["image"] = noisy(row["image"], generator)
    if row.get("objects"):
        changed["objects"] = [noisy(crop, generator) for crop in row["objects"]]
    return changed


def noisy(picture: object, generator: np.random.Generator) -> object:
    """A picture with noise, as a PNG; an unreadable one stays as it is, and whoever reads it later counts it."""
    if picture is None:
        return None
    try:
        image = load_picture(picture).convert("RGB")
    except PictureError:
        return picture
    image.thumbnail((NOISY_SIDE, NOISY_SIDE))
    levels = np.asarray(image) + generator.normal(0, NOISE, (*image.size[::-1], 3))
    buffer = io.BytesIO()
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


CHANGES = {"blanked": blank, "noised": noise, "grey": grey_out}

__all__ = ["KINDS", "Mismatch", "mismatch_pictures"]
