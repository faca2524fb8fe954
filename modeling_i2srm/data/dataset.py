"""Loads a data set for the training scripts, checks its columns and encodes its text."""

import json
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Protocol

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Image
from datasets.fingerprint import Hasher
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import RobertaTokenizer

from ..processing_i2srm import I2SRMProcessor
from ..remote_pictures import is_address
from ..version import __version__
from ..words import DEFAULT_SPLITTING, EntityPairError, split_text
from .columns import LISTS, how_to_name, other_task, post_name

logger = logging.getLogger(__name__)

DOES_NOT_FIT = -1
MAY_BE_NULL = ("relations", "regions")  # of posts without annotation; `convert_graph_columns` checks the others
# Columns of an encoded graph that count what is lost, and their names in the report of the truncation.
GRAPH_LOSSES = {"num_truncated_relations": "relations_lost", "num_regions_left_out": "regions_left_out"}
# Settings of a tokenizer that say where it was loaded from or saved to; they do not change what it computes.
PROVENANCE_KEYS = {"auto_map", "is_local", "local_files_only", "name_or_path", "processor_class"}


class TextTask(Protocol):
    """The parts of a task (`training.tasks`) that this module uses."""

    name: ClassVar[str]
    text_columns: ClassVar[tuple[str, ...]]
    entity_markers: ClassVar[bool]

    def label_names(self, features: datasets.Features, dataset: str) -> list[str]: ...

    def encode(
        self,
        processor: I2SRMProcessor,
        row: dict,
        max_length: int,
        pieces: list | None = None,
        names: list[str] | None = None,
    ) -> dict: ...

    def lost_labels(self, row: dict, words_lost: int, names: list[str]) -> int: ...


def read_splits(path: str) -> DatasetDict:
    """Read a data set as it is; raise `ValueError` where that is not possible."""
    try:
        return datasets.load_dataset(path)
    except MemoryError:
        raise
    except Exception as error:  # each reader raises its own kinds
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise ValueError(
            f"cannot read the data set {path!r}: {reason:.500}; expected a folder of Parquet files that a script of "
            "dataset_scripts wrote, or a Hub id, e.g. --dataset data/twitter2015"
        ) from error


def load_splits(
    path: str,
    text_columns: tuple[str, ...],
    plain_text: bool = False,
    word_splitting: str | None = None,
    other_columns: tuple[str, ...] = (),
) -> DatasetDict:
    """Load a data set and check its columns; pictures stay as bytes until the collator reads them.

    With `plain_text`, a data set without a column "tokens" may have a column "text", which is split into words.

    Args:
        word_splitting: how such a text is split, as of `split_text`.
        other_columns: columns that will do instead of `text_columns`, if they are all there and not all of these.
    """
    splits = read_splits(path)
    for name, split in splits.items():
        if plain_text and "tokens" not in split.column_names and "text" in split.column_names:
            splits[name] = split = with_words(f"{path}: split {name!r}", split, word_splitting)
        columns = text_columns
        missing = [column for column in columns if column not in split.column_names]
        if missing and other_columns and set(other_columns) <= set(split.column_names):
            columns, missing = other_columns, []
        if missing:
            names = split.column_names
            raise ValueError(
                f"{path}: split {name!r} has no column {', '.join(map(repr, missing))}, only "
                f"{', '.join(map(repr, names))}; "
                + ", and ".join(how_to_name(names, split.features, column) for column in missing)
                + other_task(names)
            )
        check_columns(f"{path}: split {name!r}", split, columns)
        if isinstance(split.features.get("image"), Image):
            split = split.cast_column("image", Image(decode=False))
        if "objects" in split.features:
            if not isinstance(split.features["objects"], LISTS):
                raise ValueError(
                    f"{path}: column 'objects' is {split.features['objects']}, expected a list of pictures; e.g. "
                    'dataset.cast_column("objects", List(Image()))'
                )
            split = split.cast_column("objects", datasets.List(Image(decode=False)))
        splits[name] = split
    return splits


def with_words(where: str, split: Dataset, word_splitting: str | None = None) -> Dataset:
    """Split the column "text" into words, in a new column "tokens"; raise `ValueError` for a row without text."""
    if getattr(split.features["text"], "dtype", None) not in ("string", "large_string"):
        raise ValueError(f"{where}: column 'text' is {split.features['text']}, expected strings")
    refuse_first(where, split, "text", range(len(split)), pc.is_null(split.data.column("text").combine_chunks()))
    words = split.select_columns(["text"]).map(
        lambda row: {"tokens": [word for word, _, _ in split_text(row["text"], word_splitting or DEFAULT_SPLITTING)]},
        features=datasets.Features({"tokens": datasets.List(datasets.Value("string"))}),
        remove_columns=["text"],
        desc="splitting texts into words",
    )
    return datasets.concatenate_datasets([split, words], axis=1)  # does not write the pictures again


def check_columns(where: str, split: Dataset, text_columns: tuple[str, ...]) -> None:
    """Raise a `ValueError` that names the first row with a missing value, an invalid word or an unknown label."""
    tokens = split.features["tokens"]
    if not isinstance(tokens, LISTS) or getattr(tokens.feature, "dtype", None) not in ("string", "large_string"):
        raise ValueError(
            f"{where}: column 'tokens' is {tokens}, expected a list of words; e.g. "
            'dataset.map(lambda row: {"tokens": row["text"].split()})'
        )
    for column in text_columns:
        if column in MAY_BE_NULL:
            continue
        feature, values = split.features[column], split.data.column(column).combine_chunks()
        rows = range(len(values))
        refuse_first(where, split, column, rows, pc.is_null(values))
        if isinstance(feature, LISTS):
            feature, rows, values = feature.feature, pc.list_parent_indices(values), pc.list_flatten(values)
            refuse_first(where, split, column, rows, pc.is_null(values))
        if isinstance(feature, ClassLabel):
            known = pc.and_(pc.greater_equal(values, 0), pc.less(values, len(feature.names)))
            refuse_first(where, split, column, rows, pc.invert(known), f", expected ids 0 to {len(feature.names) - 1}")


def refuse_first(
    where: str, split: Dataset, column: str, rows: range | pa.Array, wrong: pa.Array, expected: str = ""
) -> None:
    """Raise a `ValueError` that names the first wrong value; `rows[i]` is the row of value i."""
    if (first := pc.index(wrong, True).as_py()) < 0:
        return
    row = int(rows[first]) if isinstance(rows, range) else rows[first].as_py()
    raise ValueError(
        f"{where}, row {row}{post_name(split, row)}: {column} is {split[column][row]!r:.200}{expected}; correct it or "
        "leave it out, e.g. dataset.select(rows)"
    )


def first_rows(split: Dataset, count: int | None) -> Dataset:
    return split if count is None else split.select(range(min(count, len(split))))


def count_losses(task: TextTask, text: Dataset, encoded: Dataset, names: list[str] | None) -> dict[str, int]:
    """Count the posts of a split, and the words, labels, relations and regions that are lost.

    Args:
        text: the columns of the split that are encoded.
        encoded: the same rows, with the numbers of what each lost.
        names: of the tags.
    """
    counts = {"posts": len(text), "truncated_posts": 0, "words_lost": 0, "labels_lost": 0}
    for i, lost in enumerate(encoded["num_truncated_words"]):
        if lost:
            counts["truncated_posts"] += 1
            counts["words_lost"] += lost
            counts["labels_lost"] += task.lost_labels(text[i], lost, names or [])
    for column, what in GRAPH_LOSSES.items():
        if column in encoded.column_names:
            counts[what] = sum(encoded[column])
    return counts


def encode_split(
    task: TextTask,
    split: Dataset,
    processor: I2SRMProcessor,
    max_length: int,
    name: str,
    skip_long_pairs: bool = False,
    length_column: str = "length",
) -> tuple[Dataset, dict[str, int]]:
    """Tokenize the text of a split and count what truncation loses; datasets caches the result.

    Args:
        task: the `Task`.
        skip_long_pairs: leave out pairs that do not fit into `max_length`, and count them.
        length_column: name of the column with the number of sub-tokens, by which batches are grouped.

    Returns:
        the split with input_ids, the task's other inputs and their length; and a dict of the counts posts,
        truncated_posts, words_lost, labels_lost, for graphs relations_lost and regions_left_out (objects beyond the
        processor's num_objects), and for pairs pairs_skipped.

    Raises:
        ValueError: a pair does not fit into `max_length`, and `skip_long_pairs` is false.
    """
    is_graph = "relations" in task.text_columns
    text = split.select_columns([*task.text_columns, *(["regions"] if is_graph else [])])
    names = task.label_names(split.features, name) if "ner_tags" in task.text_columns else None
    known: dict[str, list[int]] = {}  # word -> its sub-tokens, for the words seen so far

    def encode(columns: dict, numbers: list[int]) -> dict:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        encoded = []
        for number, row, pieces in zip(numbers, rows, posts_pieces(processor, columns["tokens"], known), strict=True):
            try:
                encoded.append(encode_row(task, processor, row, max_length, pieces, names))
            except ValueError as error:
                raise ValueError(f"{name}, row {number}{post_name(split, number)}: {error}") from error
        lengths = {length_column: [len(row["input_ids"]) for row in encoded]}
        outputs = dict.fromkeys(name for row in encoded for name in row)
        return lengths | {name: [row.get(name) for row in encoded] for name in outputs}

    encoded = text.map(
        encode,
        with_indices=True,
        batched=True,
        batch_size=100,  # with more live objects Python's garbage collector takes longer
        remove_columns=text.column_names,
        features=encoded_graph(processor, length_column) if is_graph else None,
        new_fingerprint=encoding_fingerprint(task, text, processor, max_length, length_column),
        desc=f"encoding {name}",
    )
    cut = encoded["num_truncated_words"][:]
    long = [i for i, lost in enumerate(cut) if lost == DOES_NOT_FIT]
    if long and not skip_long_pairs:
        ids = split.select(long[:5])["id"] if "id" in split.column_names else long[:5]
        raise ValueError(
            f"{name}: {len(long)} of {len(split)} pairs do not fit into max_length={max_length}: "
            f"{', '.join(map(str, ids))}{' ...' if len(long) > 5 else ''}; raise --max_length, or leave them out with "
            "--skip_long_pairs true"
        )
    if long:
        kept = [i for i, lost in enumerate(cut) if lost != DOES_NOT_FIT]
        split, text, encoded = (rows.select(kept) for rows in (split, text, encoded))
    counts = count_losses(task, text, encoded, names)
    if task.entity_markers:
        counts["pairs_skipped"] = len(long)
    level = logging.WARNING if counts["truncated_posts"] or long else logging.INFO
    logger.log(level, f"{name}: " + ", ".join(f"{value} {key}" for key, value in counts.items()))
    split = split.remove_columns([column for column in encoded.column_names if column in split.column_names])
    # Joining columns does not write the pictures again.
    return datasets.concatenate_datasets([split, encoded], axis=1), counts


def posts_pieces(processor: I2SRMProcessor, posts: list[list[str]], known: dict) -> list[list[list[int]]]:
    """The sub-tokens of each word of each post; words that are not in `known` are tokenized in one call and added."""
    new = list(dict.fromkeys(word for post in posts for word in post if word not in known))
    known.update(zip(new, processor.sub_tokens(new), strict=True))
    return [[known[word] for word in post] for post in posts]


def encoded_graph(processor: I2SRMProcessor, length_column: str) -> datasets.Features:
    """The columns of encoded graphs. They are not inferred: the first posts may have no relations."""
    number = datasets.Value("int32")
    row = {length_column: 0, **processor.encode_graph(["?"], ["O"], label2id={"O": 0})}
    kinds = {name: number if isinstance(value, int) else datasets.List(number) for name, value in row.items()}
    return datasets.Features(
        kinds | {name: datasets.List(kinds["labels"]) for name in ("entity_spans", "relation_labels")}
    )


def encode_row(
    task: TextTask,
    processor: I2SRMProcessor,
    row: dict,
    max_length: int,
    pieces: list[list[int]],
    names: list[str] | None,
) -> dict:
    try:
        return task.encode(processor, row, max_length, pieces, names)
    except EntityPairError:  # a dummy row with an impossible number of lost words marks the pair
        dummy = task.encode(processor, {**row, "tokens": ["?"], "head": (0, 1), "tail": (0, 1)}, max_length)
        return dummy | {"num_truncated_words": DOES_NOT_FIT}


def encoding_fingerprint(
    task: TextTask, text: Dataset, processor: I2SRMProcessor, max_length: int, length_column: str
) -> str:
    """A hash of all that the encoded text depends on; datasets names its cache file after it.

    The default fingerprint of datasets hashes the processor in memory, including its caches: it changes when a
    processor has been used, and with a slow tokenizer it is new every time.
    """
    processor.sub_tokens(["?"])  # switches off the truncation and padding that a tokenizer may have been saved with
    known: list[str | bytes] = [
        text._fingerprint,
        str(text.features),
        task.name,
        str(max_length),
        length_column,
        __version__,
    ]
    if "relations" in task.text_columns:
        known.append(str(processor.num_objects))  # regions beyond are left out
    with tempfile.TemporaryDirectory() as folder:
        processor.tokenizer.save_pretrained(folder)
        for path in sorted(Path(folder).rglob("*.*")):
            content: str | bytes = path.read_bytes()
            if path.name == "tokenizer_config.json":
                settings = json.loads(content)
                content = json.dumps({name: settings[name] for name in sorted(settings.keys() - PROVENANCE_KEYS)})
            known += [path.name, content]
    return Hasher.hash(known)


def longest_first(split: Dataset, length_column: str) -> tuple[Dataset, list[int]]:
    """Sort a split by length, longest rows first, so that batches need little padding; also the rows' old indices."""
    lengths = split[length_column][:]
    order = sorted(range(len(split)), key=lambda row: -lengths[row])  # a stable sort
    return split.select(order), order


def train_tokenizer(token_lists: Iterable[list[str]], vocab_size: int, max_length: int) -> RobertaTokenizer:
    """Train a byte-level BPE tokenizer on the words of a data set; the same words give the same tokenizer."""
    tokenizer = RobertaTokenizer(add_prefix_space=True).train_new_from_iterator(
        (" ".join(tokens) for tokens in token_lists), vocab_size, show_progress=False
    )
    tokenizer.model_max_length = max_length
    return tokenizer


def check_picture_paths(path: str, splits: dict[str, Dataset], image_dir: str | None = None) -> None:
    """Check that no row of a data set makes the loader read a file outside of the data set.

    Args:
        path: the folder or Hub id that it was loaded from. Pictures may be files in that folder, or in the caches of
            datasets and the Hub, which hold downloads.
        splits: with columns image and objects, decoded or not.
        image_dir: another folder that pictures may be files in.

    Raises:
        ValueError: paths lead elsewhere; names their number and the first of them.
    """
    allowed = [path, image_dir, datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE]
    roots = [os.path.realpath(root) for root in allowed if root is not None and os.path.isdir(root)]
    for name, split in splits.items():
        files = [file for column in ("image", "objects") for file in paths_of(split, column)]
        if outside := [file for file in files if not any(map(Path(os.path.realpath(file)).is_relative_to, roots))]:
            raise ValueError(
                f"{path}: {len(outside)} pictures of the {name} split are paths that lead out of it, e.g. "
                f"{outside[0][:300]!r}; for paths into another folder: --image_dir DIR, or --image_dir / for any"
            )


def paths_of(split: Dataset, column: str) -> list[str]:
    """The distinct paths of the pictures in a column that have no bytes; without URLs, which are checked when read."""
    if column not in split.column_names:
        return []
    paths: dict[str, None] = {}
    for values in split.data.column(column).chunks:
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            values = pc.list_flatten(values)
        if pa.types.is_string(values.type):
            paths |= dict.fromkeys(values.drop_null().to_pylist())
        elif pa.types.is_struct(values.type) and {"bytes", "path"} <= {field.name for field in values.type}:
            alone = pc.and_(pc.is_null(pc.struct_field(values, "bytes")), pc.is_valid(pc.struct_field(values, "path")))
            paths |= dict.fromkeys(pc.struct_field(values, "path").filter(alone).to_pylist())
    return [path for path in paths if not is_address(path)]


SHOWN = {"edition": str, "objects": str, "warnings": list, "ceilings": dict}


def read_data_report(dataset: str) -> dict:
    """Read those entries of a data set's report.json that have to be shown with every result.

    Args:
        dataset: a folder or a data set on the Hub, as for `datasets.load_dataset`.

    Returns:
        a dict with edition, objects, warnings (a list of sentences) and ceilings (of made-up data: what readers of the
        text alone, the crops alone and both reach), each where the report has it; empty for data without a report, and
        for a data set on the Hub that cannot be reached.
    """
    path = Path(dataset) / "report.json"
    if not Path(dataset).exists():
        try:
            path = Path(hf_hub_download(dataset, "report.json", repo_type="dataset"))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
            return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(report, dict):
        return {}
    return {name: report[name] for name, type in SHOWN.items() if isinstance(report.get(name), type) and report[name]}


__all__ = [
    "check_picture_paths",
    "encode_split",
    "first_rows",
    "load_splits",
    "longest_first",
    "posts_pieces",
    "read_data_report",
    "read_splits",
    "train_tokenizer",
]
