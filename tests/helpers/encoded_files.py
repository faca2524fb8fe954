"""Encoded data sets as files."""

from datasets import Dataset
from tiny import (
    SENTENCES,
    TAGS,
)

from modeling_i2srm import I2SRMProcessor
from modeling_i2srm.data.dataset import encode_split, load_splits
from modeling_i2srm.prepare.builder import mner_features
from modeling_i2srm.training.tasks import MNER

TRICKY = [
    "",
    " ",
    "  Paris",
    "[SEP]",
    "<s>",
    "</s>",
    "<head>",
    "\u200d",
    "\ud83d",
    "a\ud800b",
    "Kobe",
    "kobe",
    "é",
    "👩‍👧",
]


POSTS = [*map(str.split, SENTENCES), TRICKY, [], TRICKY[::-1], ["Kobe"] * 40]


def entities(posts=POSTS) -> Dataset:
    posts = [[word.encode("utf-8", "replace").decode() for word in post] for post in posts]  # Arrow holds no surrogates
    tags = [[(i + len(post)) % len(TAGS) for i in range(len(post))] for post in posts]
    return Dataset.from_dict({"tokens": posts, "ner_tags": tags, "length": ["long"] * len(posts)}).cast_column(
        "ner_tags", mner_features(TAGS)["ner_tags"]
    )


def encode_files(data: str, processor, task=MNER, max_length: int = 24) -> list[str]:
    """The files in which the encoded text of a data set is cached."""
    if isinstance(processor, str):
        processor = I2SRMProcessor.from_pretrained(processor)
    split = load_splits(data, task.text_columns)["train"]
    before = {file["filename"] for file in split.cache_files}
    encoded, _ = encode_split(task, split, processor, max_length, "train")
    return sorted({file["filename"] for file in encoded.cache_files} - before)
