"""Columns of data sets: which one holds the labels of a model, what is wrong with them, and how to correct it."""

import logging
from collections.abc import Iterable, Mapping, Sequence

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, IterableDataset, Value

from ..checks import label_id

logger = logging.getLogger(__name__)

LISTS = (datasets.List, datasets.LargeList)
# The column of the labels, by the name of the model's class (remote code has classes of its own).
LABEL_COLUMNS = {
    "I2SRMForTokenClassification": "ner_tags",
    "I2SRMForRelationClassification": "relation",
    "I2SRMForSequenceClassification": "label",
}
# What other data sets call these columns.
OTHER_NAMES = {
    "tokens": ("words", "token", "word", "sentence", "text_tokens"),
    "ner_tags": ("labels", "tags", "ner", "label_ids", "ner_labels", "ner_tag", "tag", "tag_ids", "bio_tags", "label"),
    "relations": ("relation", "triples", "edges", "links"),
    "relation": ("label", "labels", "relations", "rel", "relation_label", "relation_id", "label_id", "class"),
    "label": ("labels", "sentiment", "class", "category", "target", "label_id", "label_ids", "topic", "y"),
    "head": ("h", "subj", "subject", "e1", "entity1", "arg1"),
    "tail": ("t", "obj", "object", "e2", "entity2", "arg2"),
}

# The columns of the other tasks; posts with relations have those of "mner", too.
TASK_COLUMNS = {
    "mner": {"tokens", "ner_tags"},
    "mre": {"tokens", "head", "tail", "relation"},
    "classification": {"tokens", "label"},
}


def fits(feature: object, column: str) -> bool:
    """Whether a column of this type can have this name; an unknown type (`None`) always can."""
    if feature is None:
        return True
    if column in ("head", "tail"):
        return isinstance(feature, (dict, *LISTS))
    if column == "relations":
        return isinstance(feature, LISTS) and isinstance(feature.feature, dict)
    if column in ("tokens", "ner_tags"):
        if not isinstance(feature, LISTS):
            return False
        feature = feature.feature
    strings = isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    numbers = isinstance(feature, ClassLabel) or isinstance(feature, Value) and "int" in feature.dtype
    return strings or (numbers and column != "tokens")


def other_name(columns: Iterable[str], features: Mapping | None, missing: str) -> str | None:
    """The column that holds what is missing under another name, judged by names and types."""
    types = features or {}
    called = {name.lower(): name for name in columns if fits(types.get(name), missing)}
    return next((called[name] for name in OTHER_NAMES.get(missing, ()) if name in called), None)


def how_to_name(columns: Sequence[str], features: Mapping | None, missing: str) -> str:
    """The call that gives a data set its missing column, as advice for a message."""
    if name := other_name(columns, features, missing):
        return f'rename it, dataset.rename_column("{name}", "{missing}")'
    if missing == "tokens" and "text" in columns:
        return 'split the texts into words, dataset.map(lambda row: {"tokens": row["text"].split()})'
    if missing == "ner_tags" and "entities" in columns:
        return "turn the entities into tags: dataset_scripts/posts.py reads such posts"
    return f'if it has another name, dataset.rename_column("NAME", "{missing}")'


def other_task(columns: Sequence[str]) -> str:
    """The command for what a data set has labels of, as more advice for a message; empty if it has none."""
    tasks = [task for task, needed in TASK_COLUMNS.items() if needed <= {*columns}]
    return f"; with these columns, i2srm train {tasks[0]}" if tasks else ""


def plain_rows(rows: object) -> object:
    """A data set whose rows are Python values, not arrays, tensors or tables of `with_format`; others as they are.

    Columns that the format leaves out stay out. A transform (`with_transform`) stays.
    """
    if isinstance(rows, Dataset) and rows.format["type"] not in (None, "custom"):
        return rows.with_format(None, columns=rows.format["columns"])
    return rows.with_format(None) if isinstance(rows, IterableDataset) else rows


def columns_of(rows: object) -> tuple[list[str], Features | None] | None:
    """The columns of rows and their types, where both can be told without reading a row; else `None`."""
    if isinstance(rows, Dataset):
        if rows.format["type"] == "custom":  # its rows may have other columns
            return None
        return list(rows.format["columns"]), rows.features
    if isinstance(rows, IterableDataset) and rows.column_names is not None:
        return list(rows.column_names), rows.features
    if isinstance(rows, (list, tuple)) and rows and isinstance(rows[0], Mapping):
        return list(rows[0]), None
    return None


def with_labels(name: str, rows: object, column: str, label2id: Mapping[str, int], wanted: bool = True) -> object:
    """Rows with labels that a model knows, checked where their columns are known.

    Args:
        name: what messages call the rows, e.g. "train_dataset".
        rows: a data set; of what is not a `datasets.Dataset`, a stream or a list nothing is known.
        column: of the labels; of rows that are encoded (input_ids) it is "labels".
        wanted: whether rows without labels are refused; else a column that looks like them gets a warning.

    Returns:
        The rows; of a data set whose ids mean other labels than those of the model, with the names of the labels.

    Raises:
        ValueError: no labels, or labels that the model does not know, with the first row and the corrected call.
    """
    known = columns_of(rows)
    if known is None:
        return rows
    columns, features = known
    column = "labels" if "input_ids" in columns else column
    if column not in columns:
        problem = f"{name} has no column {column!r} for the labels of this model, only {', '.join(map(repr, columns))}"
        if wanted:
            raise ValueError(f"{problem}; {how_to_name(columns, features, column)}")
        if other_name(columns, features, column):
            logger.warning(f"{problem}; they are predicted only. To evaluate, {how_to_name(columns, features, column)}")
        return rows
    if features is not None and column != "labels":
        rows = with_names(name, rows, column, features, label2id)
    if isinstance(rows, Dataset):
        check_values(name, rows, column, label2id)
    return rows


def with_names(name: str, rows: object, column: str, features: Features, label2id: Mapping[str, int]) -> object:
    """A data set with the names of its labels instead of ids, where an id means another label than in a model."""
    feature = features[column]
    listed = isinstance(feature, LISTS)
    kind = feature.feature if listed else feature
    if not isinstance(kind, ClassLabel):
        return rows
    names = kind.names
    if not (other := [label for i, label in enumerate(names) if label2id.get(label, i) != i]):
        return rows
    logger.warning(
        f"{name}: ids of column {column!r} mean other labels than those of the model ({', '.join(other)}); they are "
        "converted by their names"
    )

    def to_names(row: dict) -> dict:
        ids = row[column] if listed else [row[column]]
        called = [names[i] if i is not None and 0 <= i < len(names) else i if i is None else str(i) for i in ids or ()]
        return {column: called if listed else called[0]}

    strings = Features({column: datasets.List(Value("string")) if listed else Value("string")})
    if isinstance(rows, IterableDataset):
        return rows.map(to_names, features=Features({**features, **strings}))
    if not isinstance(rows, Dataset):
        return rows
    labels = rows.select_columns([column]).map(to_names, features=strings, desc=f"names of {column}")
    return datasets.concatenate_datasets([rows.remove_columns([column]), labels], axis=1)  # pictures stay as they are


def with_relation_names(name: str, rows: object, relation2id: Mapping[str, int]) -> object:
    """A data set with the names of its relations instead of ids, where an id means another one than in a joint model.

    Args:
        name: what messages call the rows.
        rows: as of `with_labels`; rows that are encoded stay as they are.
    """
    columns, known = columns_of(rows) or ([], None)
    features = dict(known or {})
    fields = getattr(features.get("relations"), "feature", None)
    fields = fields if isinstance(fields, dict) else {}
    label = fields.get("label")
    if "input_ids" in columns or not isinstance(rows, (Dataset, IterableDataset)) or not isinstance(label, ClassLabel):
        return rows
    if not (other := [name for i, name in enumerate(label.names) if relation2id.get(name, i) != i]):
        return rows
    logger.warning(
        f"{name}: ids of column 'relations' mean other relations than those of the model ({', '.join(other)}); they "
        "are converted by their names"
    )

    def to_names(row: dict) -> dict:
        relations = row["relations"]
        return {"relations": relations and [{**one, "label": label.names[one["label"]]} for one in relations]}

    strings = Features({"relations": datasets.List({**fields, "label": Value("string")})})
    if isinstance(rows, IterableDataset):
        return rows.map(to_names, features=Features({**features, **strings}))
    relations = rows.select_columns(["relations"]).map(to_names, features=strings, desc="names of relations")
    return datasets.concatenate_datasets([rows.remove_columns(["relations"]), relations], axis=1)


def check_values(name: str, rows: Dataset, column: str, label2id: Mapping[str, int]) -> None:
    """Raise a `ValueError` that names the first row with a label that a model does not know."""
    values = rows.with_format("arrow").select_columns([column])[:].column(column).combine_chunks()
    parents = None
    if isinstance(rows.features[column], LISTS):
        parents, values = pc.list_parent_indices(values), pc.list_flatten(values)
    if pa.types.is_nested(values.type):
        raise ValueError(f"{name}: column {column!r} is {rows.features[column]}, expected one label per word or row")
    for value in pc.unique(values).to_pylist():
        if value is None and parents is None:  # a row without a label
            continue
        try:
            label_id(value, label2id)
        except ValueError as error:
            place = pc.index(pc.is_null(values), True) if value is None else pc.index(values, pa.scalar(value))
            row = place.as_py() if parents is None else parents[place.as_py()].as_py()
            raise ValueError(
                f"{name}, row {row}{post_name(rows, row)}, column {column!r}: {error}; correct the row, or make the "
                "model with id2label of all labels"
            ) from None


def post_name(split: Dataset, row: int) -> str:
    """The id of a row for messages, where it has one."""
    return f" (id {split[row]['id']})" if "id" in split.column_names else ""


__all__ = [
    "LABEL_COLUMNS",
    "how_to_name",
    "other_task",
    "plain_rows",
    "post_name",
    "with_labels",
    "with_relation_names",
]
