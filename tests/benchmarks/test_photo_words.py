"""Words that tell what a photo shows: where they stand, and that a probe predicts training photos it has not seen."""

import json

import numpy as np
from datasets import ClassLabel, Dataset, Features, List, Value

from benchmarks.photo_words import TYPES, annotated_types, probed_types, tell

NAMES = ["O", "B-people", "I-people", "B-animals", "I-animals"]


def captions(ids: list[str]) -> Dataset:
    tags = List(ClassLabel(names=NAMES))
    features = Features({"id": Value("string"), "tokens": List(Value("string")), "ner_tags": tags})
    return Dataset.from_dict(
        {"id": ids, "tokens": [["Bo", "runs"]] * len(ids), "ner_tags": [[1, 0]] * len(ids)}, features
    )


def test_the_types_of_all_captions_of_a_photo_stand_at_the_end(tmp_path):
    texts = ["[/EN#1/people A man] and [/EN#2/animals a dog]", "[/EN#0/notvisual it] is [/EN#3/scene outside]"]
    rows = {"sentences": [{"id": "7", "split": "test", "sentences": texts}], "boxes": []}
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    types = annotated_types(tmp_path)
    told = tell(captions(["7#0"]), types["7"][None])[0]
    assert told["tokens"] == ["Bo", "runs", "people", "animals", "scene"]
    assert told["ner_tags"] == [1, 0, 0, 0, 0]


def test_a_probe_finds_what_the_features_hold_and_nothing_else():
    rng = np.random.default_rng(0)
    ids = {"train": [f"{n}#0" for n in range(200)], "test": [f"{n}#0" for n in range(200, 300)]}
    gold = {str(n): rng.random(len(TYPES)) < 0.5 for n in range(300)}
    shown = {name: np.array([gold[one.partition("#")[0]][:1] for one in split]) for name, split in ids.items()}
    features = {name: 4.0 * one + rng.standard_normal((len(one), 5)) for name, one in shown.items()}
    found, scores = probed_types({name: captions(split) for name, split in ids.items()}, gold, features)
    assert found["train"].shape == (200, len(TYPES)) and found["test"].shape == (100, len(TYPES))
    assert scores[TYPES[0]] > 0.99 and max(scores[kind] for kind in TYPES[1:]) < 0.7
    wrong = [(found["train"][:, place] != [gold[str(n)][place] for n in range(200)]).mean() for place in range(2)]
    assert wrong[0] < 0.05 and wrong[1] > 0.35  # a probe that had seen its rows would do better by chance
