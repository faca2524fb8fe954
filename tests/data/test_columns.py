"""Which column is meant, and what to write where it has another name."""

import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from tiny_rows import rows

from modeling_i2srm.data.columns import TASK_COLUMNS, how_to_name, other_name, plain_rows, with_labels
from modeling_i2srm.data.dataset import load_splits
from modeling_i2srm.training.tasks import CLASSIFICATION, JOINT, MNER, MRE, TASKS

TEXT, WORDS, TAGS = Value("string"), List(Value("string")), List(ClassLabel(names=["O", "B-PER"]))
SPAN = {"start": Value("int32"), "end": Value("int32")}


@pytest.mark.parametrize(
    ("columns", "missing", "expected"),
    [
        ({"tokens": WORDS, "labels": TAGS, "objects": List(Image())}, "ner_tags", "labels"),
        ({"words": WORDS, "Tags": WORDS}, "ner_tags", "Tags"),
        ({"words": WORDS, "ner_tags": TAGS}, "tokens", "words"),
        ({"tokens": WORDS, "label": ClassLabel(names=["a", "b"])}, "ner_tags", None),  # of whole posts
        ({"tokens": WORDS, "labels": TAGS, "ner": List(Value("int64"))}, "label", None),  # of words
        ({"tokens": WORDS, "sentiment": Value("int64")}, "label", "sentiment"),
        ({"tokens": WORDS, "head": SPAN, "tail": SPAN, "label": TEXT}, "relation", "label"),
        ({"tokens": WORDS, "h": SPAN, "t": SPAN}, "head", "h"),
        ({"words": TEXT}, "tokens", None),
    ],
)
def test_the_column_of_another_name_has_the_right_type(columns, missing, expected):
    assert other_name(list(columns), Features(columns), missing) == expected
    advice = how_to_name(list(columns), Features(columns), missing)
    assert f'rename_column("{expected or "NAME"}", "{missing}")' in advice
    if expected:
        assert other_name(list(columns), None, missing) == expected


@pytest.mark.parametrize(
    ("task", "columns", "words"),
    [
        (MNER, {"text": ["Kobe lands"], "ner_tags": [[1, 0]]}, ['row["text"].split()']),
        (MNER, {"tokens": [["Kobe"]], "entities": [["Kobe"]]}, ["dataset_scripts/posts.py"]),
        (MNER, {"words": [["Kobe"]], "labels": [[1]]}, ['"words", "tokens"', '"labels", "ner_tags"']),
        (MRE, {"tokens": [["Kobe"]], "label": ["met"]}, ['"NAME", "head"', '"NAME", "tail"', '"label", "relation"']),
        (CLASSIFICATION, {"tokens": [["Kobe"]], "target": [1]}, ['"target", "label"']),
    ],
)
def test_data_sets_of_the_scripts_get_the_right_advice(task, columns, words, tmp_path):
    Dataset.from_dict({**columns, "objects": [[]]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="has no column") as error:
        load_splits(str(tmp_path), task.text_columns)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert '"objects"' not in str(error.value)


@pytest.mark.parametrize(
    ("task", "columns", "command"),
    [
        (JOINT, {"ner_tags": [["B-PER"]]}, "; with these columns, i2srm train mner"),
        (MRE, {"ner_tags": [["B-PER"]]}, "; with these columns, i2srm train mner"),
        (MNER, {"head": [[0, 1]], "tail": [[0, 1]], "relation": ["met"]}, "; with these columns, i2srm train mre"),
        (MNER, {"label": ["met"]}, "; with these columns, i2srm train classification"),
        (MNER, {"head": [[0, 1]]}, '"ner_tags")'),
    ],
)
def test_a_data_set_of_another_task_is_told_which(task, columns, command, tmp_path):
    assert all({*TASKS[name].text_columns} == needed for name, needed in TASK_COLUMNS.items())
    Dataset.from_dict({"tokens": [["Kobe"]], **columns}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="has no column") as error:
        load_splits(str(tmp_path), task.text_columns)
    assert str(error.value).endswith(command)


def test_transformed_rows_stay_as_they_are():
    data = rows(3).with_transform(lambda batch: {"tokens": batch["tokens"], "other": batch["ner_tags"]})
    assert plain_rows(data) is data and with_labels("train_dataset", data, "ner_tags", {"O": 0}) is data


def test_ids_that_mean_the_same_labels_are_not_touched():
    data = rows(3).cast_column("ner_tags", List(ClassLabel(names=["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG"])))
    for ids in ({"O": 0, "B-PER": 1, "I-PER": 2, "B-LOC": 3}, {f"LABEL_{i}": i for i in range(6)}):
        assert with_labels("train_dataset", data.select(range(2)), "ner_tags", ids)[1]["ner_tags"] == [1, 0, 0]
