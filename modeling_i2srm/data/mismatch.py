"""Posts whose pictures are wrong, absent or noisy, to measure how far a model is misled by them."""

import io
from typing import NamedTuple

import numpy as np
from datasets import Dataset, Features, concatenate_datasets
from PIL import Image

from ..pictures import PictureError, load_picture

KINDS = ("shuffled", "blanked", "noised")
PICTURE_COLUMNS = ("image", "objects")
NOISE = 64  # standard deviation, in levels of 0 to 255
NOISY_SIDE = 256  # larger pictures are made this small first, so that the noise is not averaged away


class Mismatch(NamedTuple):
    """What is done to the pictures of a part of the posts.

    Args:
        kind: "shuffled" (each of these posts gets pictures and crops of another one of them), "blanked" (none at all)
            or "noised" (Gaussian noise of 64 levels of 255 over each pixel and channel).
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
            raise ValueError(f"{text!r} is no KIND:PERCENT with KIND of {', '.join(KINDS)}, e.g. shuffled:50")
        return cls(kind, share)

    def __str__(self) -> str:
        return f"{self.kind}:{self.percent:g}"


def mismatch_pictures(split: Dataset, mismatch: Mismatch, seed: int) -> Dataset:
    """A split in which a part of the posts have other pictures than their own; texts and order stay.

    Args:
        split: with the columns image and objects, or one of them; without both it comes back as it is.
        seed: decides which posts, which pictures they get, and the noise. More per cent take in the posts of fewer.
    """
    columns = [name for name in PICTURE_COLUMNS if name in split.column_names]
    pictures = split.select_columns(columns)
    has = [row.get("image") is not None or bool(row.get("objects")) for row in pictures] if columns else []
    places = np.random.default_rng(seed).permutation(np.flatnonzero(has))
    chosen = places[: round(mismatch.percent / 100 * len(places))]
    if not len(chosen):
        return split
    if mismatch.kind == "shuffled":
        order = np.arange(len(split))
        order[chosen] = np.roll(chosen, 1)  # the next one in a random order: nobody keeps its own
        pictures = pictures.select(order)
    else:
        wanted, change = set(chosen.tolist()), blank if mismatch.kind == "blanked" else noise

        def changed(row: dict, place: int) -> dict:
            return change(row, np.random.default_rng((seed, place))) if place in wanted else row

        features = Features({name: pictures.features[name] for name in columns})
        pictures = pictures.map(changed, with_indices=True, features=features, desc=str(mismatch))
    return concatenate_datasets([split.remove_columns(columns), pictures], axis=1)


def blank(row: dict, _generator) -> dict:
    return {name: [] if name == "objects" else None for name in row}


def noise(row: dict, generator: np.random.Generator) -> dict:
    changed = dict(row)
    if "image" in row:
        changed["image"] = noisy(row["image"], generator)
    if row.get("objects"):
        changed["objects"] = [noisy(crop, generator) for crop in row["objects"]]
    return changed


def noisy(picture, generator: np.random.Generator):
    """A picture with noise, as the bytes of a PNG; what cannot be read stays as it is, to be counted by its reader."""
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


__all__ = ["KINDS", "Mismatch", "mismatch_pictures"]
