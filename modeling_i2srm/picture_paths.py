"""Where the paths in the rows of a data set may lead."""

import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from huggingface_hub import constants


def check_picture_paths(path: str, splits: dict[str, Dataset], image_dir: str | None = None):
    """Check that the pictures of a data set are bytes or lie with it, so that no row has another file of yours read.

    Args:
        path: the folder or Hub id that it was loaded from. A path may lead into that folder, and into the caches of
            datasets and the Hub, where what is downloaded lies.
        splits: with columns image and objects, decoded or not.
        image_dir: another folder that paths may lead into.

    Raises:
        ValueError: how many paths lead elsewhere, and the first of them.
    """
    given = [path, image_dir, datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE]
    roots = [os.path.realpath(root) for root in given if root is not None and os.path.isdir(root)]
    for name, split in splits.items():
        paths = [found for column in ("image", "objects") for found in paths_of(split, column)]
        if outside := [found for found in paths if not any(map(Path(os.path.realpath(found)).is_relative_to, roots))]:
            raise ValueError(
                f"{path}: {len(outside)} pictures of the {name} split are paths that lead out of it, e.g. "
                f"{outside[0][:300]!r}; for paths into another folder: --image_dir DIR, or --image_dir / for any"
            )


def paths_of(split: Dataset, column: str) -> list[str]:
    """The paths of those pictures in a column that have no bytes, each once; URLs are looked at when they are read."""
    if column not in split.column_names:
        return []
    found = {}
    for values in split.data.column(column).chunks:
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            values = pc.list_flatten(values)
        if pa.types.is_string(values.type):
            found |= dict.fromkeys(values.drop_null().to_pylist())
        elif pa.types.is_struct(values.type) and {"bytes", "path"} <= {field.name for field in values.type}:
            alone = pc.and_(pc.is_null(pc.struct_field(values, "bytes")), pc.is_valid(pc.struct_field(values, "path")))
            found |= dict.fromkeys(pc.struct_field(values, "path").filter(alone).to_pylist())
    return [path for path in found if "://" not in path]


__all__ = ["check_picture_paths"]
