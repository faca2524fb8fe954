"""Answers as plain data, and what else is read as an answer."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from modeling_i2srm.inference.answers import Entity, Extraction, FoundObject, Region, Relation, Withheld
from modeling_i2srm.inference.corpus_table import write_table

EXTRACTION = Extraction(
    "Kobe lands in Paris",
    [Entity("PER", 0.98, "Kobe", 0, 4), Entity("LOC", 0.97, "Paris", 14, 19), Entity("MISC", 0.5, "lands", 5, 10)],
    [Relation(1, 0, "birth", 0.7), Relation(0, 1, "/per/loc/place_of_residence", 0.8)],
    id="7",
    image_errors={"objects[0]": "gone"},
    pairs_left_out=2,
    objects=[FoundObject((1, 2, 30, 40), 0.9, "dog")],
)


def test_extractions_as_plain_data():
    assert EXTRACTION.to_dict() == {
        "text": "Kobe lands in Paris",
        "entities": [
            {"start": 0, "end": 4, "label": "PER", "score": 0.98},
            {"start": 14, "end": 19, "label": "LOC", "score": 0.97},
            {"start": 5, "end": 10, "label": "MISC", "score": 0.5},
        ],
        "relations": [
            {"head": 1, "tail": 0, "label": "birth", "score": 0.7},
            {"head": 0, "tail": 1, "label": "/per/loc/place_of_residence", "score": 0.8},
        ],
        "id": "7",
        "image_errors": {"objects[0]": "gone"},
        "pairs_left_out": 2,
        "objects": [{"box": (1, 2, 30, 40), "score": 0.9, "label": "dog"}],
    }
    first, second = EXTRACTION.to_triples()
    assert first == ("Paris", "birth", "Kobe", "LOC", "PER", 0.7)
    assert second == ("Kobe", "/per/loc/place_of_residence", "Paris", "PER", "LOC", 0.8)
    assert (first.head, first.relation, first.tail_type, first.score) == ("Paris", "birth", "PER", 0.7)
    assert Extraction("", [], []).to_triples() == []


@pytest.mark.parametrize("text", ["Kobe", "東京 مرحبا 👍", "a\u2028b\x85c\r\nd\x1e", "half \ud83d", '"\\'])
def test_extractions_survive_a_line_of_json(tmp_path, text):
    extraction = Extraction(text, [Entity("PER", 0.1 + 0.2, text, 0, len(text))], [], image_errors={"image": text})
    path = tmp_path / "found.jsonl"
    path.write_text(extraction.to_json() + "\n" + EXTRACTION.to_json() + "\n", encoding="utf-8")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [Extraction.from_dict(json.loads(line)) for line in lines] == [extraction, EXTRACTION]


def test_records_of_earlier_versions_are_read():
    values = EXTRACTION.to_earlier_dict()
    assert values["entities"][0] == {"entity": "PER", "score": 0.98, "word": "Kobe", "start": 0, "end": 4}
    assert Extraction.from_dict(values) == EXTRACTION
    del values["objects"]
    assert Extraction.from_dict(values).objects == []


KOBE = {"text": "Kobe lands in Paris", "entities": [{"start": 0, "end": 4, "label": "PER"}]}
KOBE_FOUND = Extraction("Kobe lands in Paris", [Entity("PER", 1.0, "Kobe", 0, 4)], [])


@pytest.mark.parametrize(
    ("parts", "changes"),
    [
        ({"ner_tags": [1, 0, 0, 0], "regions": [0], "label": None}, {}),
        ({"id": None, "tokens": None, "image": None, "objects": None, "relations": None, "withheld": None}, {}),
        ({"entities": None}, {"entities": []}),
        ({"entities": [{"start": 0, "end": 4, "label": "PER", "score": None, "region": None}]}, {}),
        ({"objects": [{"box": [0, 0, 9, 9]}]}, {"objects": [FoundObject((0, 0, 9, 9), 1.0, "object")]}),
        (
            {"objects": [{"path": None, "box": [0, 0, 9, 9], "score": 0.5, "label": "dog"}]},
            {"objects": [FoundObject((0, 0, 9, 9), 0.5, "dog")]},
        ),
        (
            {"objects": [{"path": "a.png", "box": None}, {"bytes": b"a", "path": None}, None, "b.png"]},
            {"objects": ["a.png", None, None, "b.png"]},
        ),
        (
            {"objects": [None, {"box": [0, 0, 9, 9]}, "b.png"]},
            {"objects": [None, FoundObject((0, 0, 9, 9), 1.0, "object"), "b.png"]},
        ),
        ({"image": {"bytes": None, "path": "a.png"}}, {"image": "a.png"}),
        ({"image_errors": [{"picture": "image", "reason": "gone"}]}, {"image_errors": {"image": "gone"}}),
    ],
)
def test_posts_and_rows_of_answers_are_read(parts, changes):
    extraction = Extraction.from_dict({**KOBE, **parts})
    assert extraction == replace(KOBE_FOUND, **changes)
    assert Extraction.from_dict(json.loads(extraction.to_json())) == extraction


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"lang": "en"}, ["'lang': 'en'", "keys of a post"]),
        ({"text": None}, ["neither text nor tokens"]),
        ({"entities": [{"start": 0, "label": "PER"}]}, ["entities[0]={'start': 0", "KeyError: 'end'"]),
        ({"entities": [{"start": 0, "end": 4, "label": "PER", "score": "high"}]}, ["score='high' is not a number"]),
        ({"relations": [{"head": 0, "label": "met"}]}, ["relations[0]={'head': 0", "'tail'"]),
        (
            {"entities": [{"start": 0, "end": 40, "label": "PER"}]},
            ["entities[0]=", "end=40", "at most 19", "characters"],
        ),
        ({"entities": [{"start": 19, "end": 20, "label": "PER"}]}, ["start=19", "one of the 19 characters"]),
        ({"entities": [{"start": -1, "end": 4, "label": "PER"}]}, ["start=-1"]),
        (
            {"text": None, "tokens": ["a", "b"], "entities": [{"start": 1, "end": 0, "label": "PER"}]},
            ["end=0", "2 words"],
        ),
        ({"text": None, "tokens": ["a"], "entities": [{"start": 0, "end": 2, "label": "PER"}]}, ["end=2", "at most 1"]),
        ({"relations": [{"head": 0, "tail": 1, "label": "met"}]}, ["relations[0]=", "tail=1", "one of the 1 entities"]),
        ({"entities": None, "relations": [{"head": 5, "tail": 9, "label": "met"}]}, ["head=5", "the 0 entities"]),
        (
            {"withheld": {"entities": [], "relations": [{"head": 0, "tail": 1, "label": "met"}]}},
            ["withheld.relations[0]=", "tail=1"],
        ),
        (
            {"entities": [{"start": 0, "end": 4, "label": "PER", "region": -3}]},
            ["entities[0]=", "region=-3", "objects"],
        ),
        (
            {"objects": ["a.png"], "entities": [{"start": 0, "end": 4, "label": "PER", "region": 1}]},
            ["region=1", "the 1 objects, nor -1 for none"],
        ),
        ({"objects": ["a.png", {"url": "https://a.org"}]}, ["objects[1]={'url'", "no box, bytes or path"]),
        ({"objects": [{"box": [0, 0]}]}, ["objects[0]={'box': [0, 0]}"]),
        ({"objects": "a.png"}, ["objects='a.png' is not a list"]),
    ],
)
def test_what_is_no_answer_is_named(parts, words):
    with pytest.raises(ValueError) as error:
        Extraction.from_dict({**KOBE, **parts})
    assert [word for word in [*words, "e.g. {"] if word not in str(error.value)] == []


@pytest.mark.parametrize("tokens", [None, ["Kobe", "lands"]])
def test_rows_of_answers_are_read_with_pandas_too(tmp_path, tokens):
    region = Region(1, (0, 0, 9, 9), 0.5)
    entities = [Entity("PER", 0.5, "Kobe", 0, 4, region), Entity("MISC", 0.5, "lands", 5, 10)]
    answer = Extraction("Kobe lands", entities, [Relation(0, 1, "did", 0.5)], "7", {"image": "gone"}, tokens=tokens)
    answer = replace(answer, objects=[None, FoundObject((0, 0, 9, 9), 0.5, "dog"), "a.png"], grounded=True)
    answer.withheld, answer.picture_match = Withheld(entities, [Relation(0, 2, "did", 0.25)]), 0.5
    other = Extraction("Kobe", [], [], withheld=Withheld())
    (tmp_path / "part.jsonl").write_text(answer.to_json() + "\n" + other.to_json())
    write_table([tmp_path / "part.jsonl"], tmp_path / "a.parquet", True, True, True)
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert isinstance(frame["entities"][0], np.ndarray)
    for rows in (frame.to_dict("records"), [row for _, row in frame.iterrows()]):
        read = [Extraction.from_dict(row) for row in rows]
        assert read == [answer, other] and read[0].grounded and not read[1].grounded
        assert json.loads(read[0].to_json()) == json.loads(answer.to_json())
