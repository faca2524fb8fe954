"""The audit of answers: what is compared, what follows the crops, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from modeling_i2srm import example_model
from modeling_i2srm.cli.audit import main
from modeling_i2srm.studies import audit_predictions as audit_answers
from modeling_i2srm.studies.audit_data import Picture, Split, read_folder
from modeling_i2srm.studies.audit_page import traffic_lights, write_audit
from modeling_i2srm.studies.audit_predictions import (
    audit_model,
    audit_predictions,
    count,
    judge_conditions,
    read_answers,
)

POSTS = 240


def make_split() -> Split:
    """Pairs with one to four crops; the relation has nothing to do with them."""
    generator = np.random.default_rng(3)
    pair = {"head": {"start": 0, "end": 1}, "tail": {"start": 1, "end": 2}}
    names = ["None" if generator.random() < 0.5 else "peer" for _ in range(POSTS)]
    rows = [{"id": str(n), "tokens": ["Ann", "Bob"], **pair, "relation": name} for n, name in enumerate(names)]
    images = [Picture("a.jpg", digest=str(n)) for n in range(POSTS)]
    return Split(rows, images, [[Picture("b.jpg")] * int(generator.integers(1, 5)) for _ in rows])


def write_answers(path: Path, split: Split, answers: list[str]) -> Path:
    lines = [
        json.dumps({**row, "gold": row["relation"], "predicted": answer})
        for row, answer in zip(split.rows, answers, strict=True)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def with_errors(split: Split, share: float) -> list[str]:
    """The right answers, but for a share of them."""
    wrong = np.random.default_rng(int(100 * share)).random(POSTS) < share
    other = {"None": "peer", "peer": "None"}
    gold = [row["relation"] for row in split.rows]
    return [other[name] if error else name for name, error in zip(gold, wrong, strict=True)]


def test_grey_squares_that_do_as_well_are_red(tmp_path):
    split = make_split()
    files = {"predictions": 0.1, "predictions-blanked-100": 0.4, "predictions-grey-100": 0.1}
    paths = [write_answers(tmp_path / f"{name}.jsonl", split, with_errors(split, e)) for name, e in files.items()]
    paths.append(write_answers(tmp_path / "text_only/predictions.jsonl", split, with_errors(split, 0.3)))
    report = audit_predictions(paths, split)
    assert [one["condition"] for one in report["conditions"]] == ["as they are", "blanked", "grey", "text twin"]
    blanked = report["conditions"][1]
    assert blanked["metric"] == "relation F1" and blanked["difference"] > 0.1 and blanked["p"] < 0.01
    assert report["conditions"][2]["p"] == 1
    levels = {one["subject"]: one["level"] for one in report["verdicts"]}
    assert levels == {"grey": "red", "blanked": "green", "text twin": "green", "cues": "green"}
    assert "it reads how many there are" in report["verdicts"][0]["sentence"]


def test_answers_that_follow_the_number_of_crops_are_red(tmp_path):
    split = make_split()
    answers = ["peer" if len(crops) > 2 else "None" for crops in split.crops]
    report = audit_predictions([write_answers(tmp_path / "predictions.jsonl", split, answers)], split, 199)
    assert {one["p"] for one in report["followed"]} == {1 / 200}
    assert report["verdicts"][0]["level"] == "red"
    assert report["verdicts"][0]["sentence"].startswith("The answers follow the number of crops")


@pytest.mark.parametrize("kind", ["rows without ids", "pairs of posts"])
def test_answers_are_matched_with_the_ids_that_training_writes(tmp_path, kind):
    split = make_split()
    answers = ["peer" if len(crops) > 2 else "None" for crops in split.crops]
    path = write_answers(tmp_path / "predictions.jsonl", split, answers)
    if kind == "pairs of posts":
        path.write_text(path.read_text(encoding="utf-8").replace('", "tokens"', '-0-1", "tokens"'), encoding="utf-8")
    else:
        for row in split.rows:
            del row["id"]
    assert audit_predictions([path], split)["verdicts"][0]["level"] == "red"


def test_without_a_verdict_nothing_is_green(tmp_path):
    split = make_split()
    path = write_answers(tmp_path / "predictions.jsonl", split, with_errors(split, 0))
    path.write_text("\n".join(path.read_text(encoding="utf-8").split("\n")[:50]), encoding="utf-8")
    report = audit_predictions([path], split)
    assert report["verdicts"] == [] and "the number of crops" in report["not measured"]
    assert traffic_lights("answers", report).startswith("answers: not measured\nNot measured (absent,")
    write_audit({"answers": report}, tmp_path / "audit.html")
    assert "No verdict: there are too few" in (tmp_path / "audit.html").read_text(encoding="utf-8")


def condition(name: str, difference: float, p: float) -> dict:
    return {"condition": name, "metric": "entity F1", "score": 0.8 - difference, "difference": difference, "p": p}


@pytest.mark.parametrize(
    ("conditions", "levels"),
    [
        ([condition("blanked", 0.0, 0.8)], ["yellow"]),
        ([condition("blanked", 0.2, 0.001), condition("shuffled", 0.0, 0.8)], ["green", "red"]),
        ([condition("blanked", 0.2, 0.001), condition("grey", 0.05, 0.01)], ["green", "yellow"]),
        ([condition("blanked", 0.2, 0.001), condition("grey", 0.15, 0.01)], ["green", "green"]),
        ([condition("blanked", 0.0, 0.8), condition("grey", 0.0, 0.8)], ["yellow", "yellow"]),
    ],
)
def test_verdicts_on_conditions(conditions, levels):
    first = {"condition": "as they are", "metric": "entity F1", "score": 0.8}
    assert [verdict.level for verdict in judge_conditions([first, *conditions])] == levels


def test_graphs_and_labels_are_counted():
    entities = [{"start": 0, "end": 1, "label": "PER"}, {"start": 2, "end": 3, "label": "LOC"}]
    gold = {"entities": entities, "relations": [{"head": 0, "tail": 1, "label": "in"}]}
    wrong = {"entities": entities[:1], "relations": []}
    counts = count([{**gold, "gold": gold}, {**wrong, "gold": gold}])
    assert counts["entity F1"].tolist() == [[2, 2, 2], [1, 1, 2]]
    assert counts["triple F1"].tolist() == [[1, 1, 1], [0, 0, 1]]
    unknown = {"entities": entities, "relations": None}
    counts = count([{**gold, "gold": gold}, {**gold, "gold": unknown}])
    assert counts["entity F1"].tolist() == [[2, 2, 2], [2, 2, 2]]
    assert counts["triple F1"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert count([{"gold": "Other", "predicted": "Other"}])["accuracy"].tolist() == [[1, 1, 1]]


def test_answers_in_the_exchange_format_get_the_gold_of_the_data_set(tmp_path):
    split = Split([{"id": 7, "tokens": ["Ann", "in", "Rome"], "ner_tags": ["B-PER", "O", "B-LOC"]}], [None], [[]])
    answer = {"id": "7", "tokens": ["Ann", "in", "Rome"], "entities": [{"start": 0, "end": 1, "label": "PER"}]}
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(answer), encoding="utf-8")
    report = audit_predictions([path], split)
    assert report["conditions"] == [{"condition": "as they are", "metric": "entity F1", "score": pytest.approx(2 / 3)}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no answers"),
        ("[1]", "line 1: no answer with an id"),
        ('{"id": "0"}', "'entities'"),
        ('{"id": "0", "gold": "a", "predicted": "a"}\n' * 2, "line 2: the id '0' occurs twice"),
        ('{"id": "x", "tokens": ["a"], "entities": []}', "no post with the id 'x'"),
        ('{"id": "x", "gold": "a", "predicted": "a"}', "no post with the id 'x', which has '0'"),
        ('{"id": "0", "tokens": ["a"], "entities": []}', "the tokens of '0' are"),
        ('{"id": "0", "tokens": ["a"], "gold": "a", "predicted": "a"}', "the tokens of '0' are"),
    ],
)
def test_answers_that_cannot_be_read_are_refused(tmp_path, text, message):
    path = tmp_path / "answers.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_answers(path, make_split())


def test_other_posts_are_not_compared(tmp_path):
    split = make_split()
    first = write_answers(tmp_path / "a.jsonl", split, with_errors(split, 0))
    second = tmp_path / "b.jsonl"
    second.write_text(first.read_text(encoding="utf-8").split("\n")[0], encoding="utf-8")
    with pytest.raises(ValueError, match="give both whole"):
        audit_predictions([first, second], split)


def test_a_model_is_asked_with_other_pictures(posts):
    report = audit_model(Path(example_model()), Path(posts), read_folder(Path(posts))["test"], max_posts=4)
    scores = {(one["condition"], one["metric"]) for one in report["conditions"]}
    assert {name for name, _ in scores} == {"as they are", "shuffled", "blanked", "grey"}
    assert {metric for _, metric in scores} == {"entity F1", "triple F1"}


def test_a_model_of_the_text_alone_is_asked_without_pictures(posts, tmp_path, monkeypatch):
    split, asked = make_split(), []

    def run(task, arguments):
        asked.append((arguments.model.use_images, arguments.samples.test_mismatch))
        write_answers(Path(arguments.output_dir, "predictions.jsonl"), split, with_errors(split, 0))

    monkeypatch.setattr(audit_answers, "run_training", run)
    folder = Path(shutil.copytree(example_model(), tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "reads_pictures": False}), encoding="utf-8")
    report = audit_model(folder, Path(posts), split)
    assert asked == [(False, None)]
    assert [one["condition"] for one in report["conditions"]] == ["as they are"]
    assert "other pictures (the model was trained without any" in traffic_lights("model", report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_dir", "raw", "--predictions", "a.jsonl"], "--predictions and --model need the one data set"),
        (["--parquet", "a", "b", "--model", "m"], "--predictions and --model need the one data set"),
        (["--parquet", "a", "--permutations", "178"], "--permutations 178 is too few to tell any cue from chance"),
        (["--parquet", "a", "--dataset", "mnre"], "--dataset needs --data_dir"),
        (["--parquet", "a", "-o", "audit.html"], "beside the figures: give --output audit.json"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
