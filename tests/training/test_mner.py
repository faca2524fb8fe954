from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from tiny import TAGS, tiny_processor

from modeling_i2srm import I2SRMForTokenClassification
from modeling_i2srm.data.dataset import encode_split
from modeling_i2srm.training.tasks import MNER, MRE

OTHER_ORDER = ["O", "B-PER", "B-LOC", "I-LOC", "I-PER"]


def features(names: list[str] | None) -> Features:
    kind = Value("string") if names is None else ClassLabel(names=names)
    return Features({"tokens": List(Value("string")), "ner_tags": List(kind)})


def ids(tags: str, names: list[str] = TAGS) -> list[int]:
    return [names.index(tag) for tag in tags.split()]


def test_the_task():
    assert (MNER.name, MNER.model_class) == ("mner", I2SRMForTokenClassification)
    assert MNER.text_columns == ("tokens", "ner_tags")
    assert MNER.main_metrics == ("lenient_f1", "strict_f1")
    predictions = (np.array([[1, 0]]), np.zeros((1, 2)))
    scores = MNER.compute_metrics(TAGS)(SimpleNamespace(predictions=predictions, label_ids=np.array([[1, 0]])))
    assert scores["lenient_f1"] == scores["strict_f1_PER"] == 1


@pytest.mark.parametrize("names", [TAGS, OTHER_ORDER, ["O"], ["O", "B-geo-loc", "I-geo-loc"]])
def test_label_names_are_those_of_the_data(names):
    assert MNER.label_names(features(names), "posts") == names


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["B-PER", "O", "I-PER"], ["posts", "'B-PER'", "O first"]),
        (["O", "PER", "B-LOC"], ["posts", "['PER']", "['O', 'B-PER', 'I-PER']"]),
        (["O", "B-PER", "S-PER", "E-PER"], ["['S-PER', 'E-PER']", "not BIO"]),
        (None, ["posts", "string", "expected a list of ClassLabel", "cast_column"]),
    ],
)
def test_other_labels_are_explained(names, words):
    with pytest.raises(ValueError) as error:
        MNER.label_names(features(names), "posts")
    assert [word for word in words if word not in str(error.value)] == []


def test_tags_of_another_scheme_are_converted_before_a_training():
    kind = Features({"ner_tags": List(ClassLabel(names=["O", "I-PER", "E-PER", "B-PER", "S-PER"]))})
    rows = Dataset.from_dict({"ner_tags": [[3, 2, 0, 4]]}, features=kind)
    splits = MNER.convert_labels(DatasetDict(train=rows), "posts")
    assert MNER.label_names(splits["train"].features, "posts") == ["O", "B-PER", "I-PER"]
    assert splits["train"]["ner_tags"][:] == [[1, 2, 0, 1]]
    assert MRE.convert_labels(splits, "posts") is splits


@pytest.mark.parametrize("names", [TAGS, OTHER_ORDER])
@pytest.mark.parametrize(
    ("tags", "words_lost", "entities_lost"),
    [
        ("B-PER I-PER O B-LOC", 0, 0),
        ("B-PER I-PER O B-LOC", 1, 1),
        ("B-PER I-PER O B-LOC", 2, 1),
        ("B-PER I-PER O B-LOC", 3, 2),  # the person in part
        ("B-PER I-PER O B-LOC", 4, 2),
        ("B-PER I-PER I-LOC O", 2, 1),  # a change of type starts an entity
        ("I-PER I-PER B-PER I-PER", 2, 1),
        ("O O", 2, 0),
    ],
)
def test_lost_entities(names, tags, words_lost, entities_lost):
    row = {"tokens": tags.split(), "ner_tags": ids(tags, names)}
    assert MNER.lost_labels(row, words_lost, names) == entities_lost


@pytest.mark.parametrize("names", [TAGS, OTHER_ORDER])
def test_a_split_is_encoded_and_what_it_loses_counted(names):
    posts = ["B-PER I-PER I-PER O B-LOC I-LOC", "O B-PER", "O O O O B-PER"]
    rows = {"tokens": [["a"] * len(tags.split()) for tags in posts], "ner_tags": [ids(tags, names) for tags in posts]}
    split, counts = encode_split(MNER, Dataset.from_dict(rows, features(names)), tiny_processor(), 6, "test")
    assert counts == {"posts": 3, "truncated_posts": 2, "words_lost": 3, "labels_lost": 2}
    assert split["num_truncated_words"] == [2, 0, 1]
    assert split["tokens"] == rows["tokens"]
    assert split["labels"] == [[-100, *tags[:4], -100] for tags in rows["ner_tags"]]
    assert split["word_mask"] == [[0, *[1] * min(len(tags), 4), 0] for tags in rows["ner_tags"]]


@pytest.mark.parametrize("named", [True, False])
def test_prediction_records(named):
    tokens = [["Ann", "van", "Dyk", "in", "Ghent"], ["no", "one"], []]
    gold = ["B-PER I-PER I-PER O B-LOC", "O O", ""]
    rows = {"tokens": tokens, "ner_tags": [ids(tags) for tags in gold]}
    split = Dataset.from_dict({"id": ["p1", "p2", "p3"], **rows} if named else rows)
    # The word "van" has two sub-tokens; the last word of the first post was truncated.
    labels = np.array([[-100, 1, 2, -100, 2, 0, -100], [-100, 0, 0, *[-100] * 4], [-100] * 7])
    tags = np.where(labels == -100, -100, np.array([[0, 1, 2, 7, 2, 0, 0], [0, 3, 5, 0, 0, 0, 0], [0] * 7]))
    scores = np.where(labels == -100, -100.0, [[1, 0.9, 0.50004, 1, 0.8, 0.7, 1], [1, 0.6, 0.3, 1, 1, 1, 1], [1] * 7])
    entities = np.full(labels.shape, -100.0)  # at the first word of each
    entities[0, 1], entities[1, 1], entities[1, 2] = 0.40004, 0.6, 0.3
    first, second, third = MNER.prediction_records(
        split, SimpleNamespace(predictions=(tags, scores, entities), label_ids=labels), TAGS
    )
    assert first == {
        "id": "p1" if named else "0",
        "tokens": tokens[0],
        "gold": gold[0].split(),
        "predicted": ["B-PER", "I-PER", "I-PER", "O", "O"],
        "scores": [0.9, 0.5, 0.8, 0.7, None],
        "entities": [{"entity": "PER", "word": "Ann van Dyk", "start": 0, "end": 3, "score": 0.4}],
    }
    assert second["id"] == ("p2" if named else "1") and second["predicted"] == ["B-LOC", "B-ORG"]
    assert [(e["entity"], e["word"], e["start"], e["end"], e["score"]) for e in second["entities"]] == [
        ("LOC", "no", 0, 1, 0.6),
        ("ORG", "one", 1, 2, 0.3),
    ]
    assert third["predicted"] == third["scores"] == third["entities"] == third["gold"] == []
