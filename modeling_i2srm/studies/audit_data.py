"""Reads data sets for the audit: their labels, and what the files of their pictures tell without their content."""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from ..checks import NO_RELATION, no_relation_labels
from ..prepare.builder import PostsBuilder, RawPost
from ..prepare.gmner import Gmner
from ..prepare.mnre import Mnre
from ..prepare.mvsa import difference_hash
from ..prepare.picture_files import FORMATS, MAX_PIXELS
from ..prepare.twitter2015 import Twitter2015
from ..prepare.twitter2017 import Twitter2017
from ..support.parquet_rows import ROWS_TOGETHER

BUILDERS: dict[str, type[PostsBuilder]] = {one.NAME: one for one in (Mnre, Twitter2015, Twitter2017, Gmner)}
LABELS = ("ner_tags", "relation", "relations", "label", "regions", "entity_boxes")
READ = ("id", "tokens", "text", "head", "tail", *LABELS, "image", "objects", "object_boxes")
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the picture


class Picture(NamedTuple):
    """What the file of a picture or crop tells; `None` is not known, e.g. because the file is absent.

    Args:
        name: of the file.
        width, height: in pixels.
        size: bytes of the file.
        kind: format of the file, e.g. "JPEG".
        digest: of the bytes of the file.
        hash: difference hash (256,), of main pictures alone.
        box: of a crop, in its picture.
    """

    name: str | None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    kind: str | None = None
    digest: str | None = None
    hash: np.ndarray | None = None
    box: Box | None = None


@dataclass
class Split:
    """The rows of a split, with names in place of label ids, and the pictures and crops of each.

    Args:
        rows: tokens or text; ner_tags, relation with head and tail, relations, label, regions and entity_boxes, those
            that there are.
        images: the main picture of each row, or `None`.
        crops: of each row; `None` without an index of crops.
        unreadable: files of pictures and crops that cannot be read; only their names and sizes in bytes count.
    """

    rows: list[dict]
    images: list[Picture | None]
    crops: list[list[Picture]] | None
    unreadable: int = 0

    @property
    def ids(self) -> list[str]:
        """The id of each row; without a column id its number, as in the predictions of the training scripts."""
        return [str(row.get("id", number)) for number, row in enumerate(self.rows)]

    @property
    def pictures(self) -> list[str | None]:
        """The name of the picture of each row."""
        return [image and image.name for image in self.images]

    @property
    def counts(self) -> list[int] | None:
        """The number of crops of each row; `None` without an index of crops."""
        return None if self.crops is None else [len(crops) for crops in self.crops]


class Reader:
    """Reads what files of pictures tell, each content once."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, bool], Picture] = {}
        self.unreadable = 0

    def read(self, name: str | None, content: bytes | None, hashed: bool) -> Picture:
        """What a file tells.

        Args:
            hashed: whether to decode it for its difference hash; else its header is read alone.
        """
        if content is None:
            return Picture(name)
        digest = hashlib.sha256(content).hexdigest()
        if (digest, hashed) not in self.known:
            self.known[digest, hashed] = self.describe(content, digest, hashed)
        return self.known[digest, hashed]._replace(name=name)

    def describe(self, content: bytes, digest: str, hashed: bool) -> Picture:
        picture = Picture(None, size=len(content), digest=digest)
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ValueError(f"{width} x {height} pixels")
                seen = difference_hash(image) if hashed else None
                return picture._replace(width=width, height=height, kind=image.format, hash=seen)
        except Exception:  # Pillow's decoders raise nearly anything for damaged files
            self.unreadable += 1
            return picture


def read_raw(name: str, data_dir: str | Path) -> dict[str, Split]:
    """Read the raw texts of a data set, the index of its released crops and its pictures, those that exist.

    Args:
        name: one of `BUILDERS`.

    Raises:
        FileNotFoundError: the texts are missing.
        ValueError: a split has no readable posts, or an index cannot be read.
    """
    with TemporaryDirectory() as cache:
        config = {"cache_dir": cache, "data_dir": str(data_dir)}
        try:
            raw, indexed = BUILDERS[name](objects="released", **config).read_raw(), True
        except FileNotFoundError:  # if the texts are missing, the next line raises it again
            raw, indexed = BUILDERS[name](**config).read_raw(), False
    splits = {}
    for split, posts in raw.splits.items():
        if not posts:
            raise ValueError(f"{name}: the {split} split has no readable posts")
        reader = Reader()
        images = [read_image(post, reader) for post in posts]
        crops = [[Picture(crop) for crop in post.crops] for post in posts] if indexed else None
        splits[split] = Split([post.columns for post in posts], images, crops, reader.unreadable)
    return splits


def read_image(post: RawPost, reader: Reader) -> Picture | None:
    if post.image is None:
        return None
    return reader.read(post.image, post.image_file.read_bytes() if post.image_file else None, hashed=True)


def read_folder(folder: Path) -> dict[str, Split]:
    """Read the Parquet files of a data set: those that a data set script wrote, or `SPLIT-*.parquet`.

    Main pictures are decoded for their hash; of crops the header is read.

    Raises:
        FileNotFoundError: no such files, or a split without rows.
    """
    splits = {}
    features, files = find_files(folder)
    for split, paths in files.items():
        reader = Reader()
        rows: list[dict] = []
        images: list[Picture | None] = []
        crops: list[list[Picture]] = []
        for row in read_rows(paths, [name for name in features if name in READ]):
            image, objects = row.pop("image", None), row.pop("objects", None) or []
            images.append(image and reader.read(image["path"], image["bytes"], hashed=True))
            found = [reader.read(one["path"], one["bytes"], hashed=False) for one in objects]
            crops.append(place(found, row.pop("object_boxes", None), images[-1]))
            rows.append(name_labels(row, features))
        if not rows:
            raise FileNotFoundError(f"{folder}: no rows in data/{split}-*.parquet")
        splits[split] = Split(rows, images, crops, reader.unreadable)
    return splits


def find_files(folder: Path) -> tuple[datasets.Features, dict[str, list[Path]]]:
    """The columns of a folder, and the files of each split."""
    files: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        files.setdefault(re.split(r"[-.]", path.name)[0], []).append(path)
    if (folder / "dataset_info.json").is_file():
        info = datasets.DatasetInfo.from_directory(str(folder))
        return info.features, {split: files.get(split, []) for split in info.splits}
    if not files:
        raise FileNotFoundError(
            f"{folder}: no dataset_info.json and no Parquet files; give a folder that a data set script wrote, or one "
            "with train-*.parquet, test-*.parquet and so on"
        )
    return datasets.Features.from_arrow_schema(pq.read_schema(next(iter(files.values()))[0])), files


def read_rows(paths: list[Path], columns: list[str]) -> Iterator[dict]:
    for path in paths:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            for batch in file.iter_batches(ROWS_TOGETHER, columns=columns):
                yield from batch.to_pylist()


def place(crops: list[Picture], boxes: list[dict] | None, image: Picture | None) -> list[Picture]:
    """The crops of a row with their boxes, where the row has a box for each and its picture can be read."""
    if not boxes or len(boxes) != len(crops) or image is None or not image.width or not image.height:
        return crops
    sides = (image.width, image.height) * 2
    shares = [tuple(value / side for value, side in zip(one["box"], sides, strict=True)) for one in boxes]
    return [crop._replace(box=(a, b, c, d)) for crop, (a, b, c, d) in zip(crops, shares, strict=True)]


def name_labels(row: dict, features: Mapping) -> dict:
    """The row with the names of its labels; all names of no relation become "None"."""
    if "relation" in row:
        row["relation"] = relation_name(features["relation"], row["relation"])
    if "ner_tags" in row:
        names = names_of(features["ner_tags"].feature, "ner_tags")
        row["ner_tags"] = [names[tag] for tag in row["ner_tags"]]
    if "label" in row:
        labels = getattr(features["label"], "names", None)
        row["label"] = labels[row["label"]] if labels and row["label"] is not None else str(row["label"])
    if row.get("relations"):
        label = features["relations"].feature["label"]
        row["relations"] = [{**one, "label": relation_name(label, one["label"])} for one in row["relations"]]
    return row


def relation_name(feature: object, value: int) -> str:
    names = names_of(feature, "relation")
    return NO_RELATION if names[value] in no_relation_labels(names) else names[value]


def names_of(feature: object, column: str) -> list[str]:
    """The names of the labels of a column; raises a `ValueError` where it has none."""
    names = getattr(feature, "names", None)
    if names is None:
        raise ValueError(
            f"the labels of the column {column} are {feature}, expected a ClassLabel; e.g. "
            f'dataset.class_encode_column("{column}")'
        )
    return names


__all__ = ["BUILDERS", "Picture", "Split", "read_folder", "read_raw"]
