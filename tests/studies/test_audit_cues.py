"""The audit finds leaks that were planted, and nothing in the same data without them."""

import io
import json

import datasets
import numpy as np
import pytest
from PIL import Image

from modeling_i2srm.cli.audit import main
from modeling_i2srm.studies.audit import audit
from modeling_i2srm.studies.audit_baselines import audit_baselines
from modeling_i2srm.studies.audit_cues import (
    CUES,
    TOGETHER,
    areas,
    audit_cues,
    bin_edges,
    correlations,
    labels_of_row,
    measure_cues,
    row_units,
)
from modeling_i2srm.studies.audit_data import Picture, Split, read_folder
from modeling_i2srm.studies.audit_duplicates import audit_overlap
from modeling_i2srm.studies.audit_verdicts import LEAST_PERMUTATIONS, decimals, judge

PERMUTATIONS = 200
SIZES = {"train": 240, "test": 80}


def make_splits(leak: str | None = None) -> dict[str, Split]:
    """Pairs of which half are related, each with a picture and one to four crops; the leak says what tells them."""
    generator = np.random.default_rng(7)
    splits = {}
    for name, size in SIZES.items():
        rows, images, crops = [], [], []
        for number in range(size):
            related = bool(generator.random() < 0.5)
            count = int(generator.integers(1, 3)) + (2 if leak == "counts" and related else 0)
            side = 60 + int(generator.integers(40)) + (200 if leak == "sizes" and related else 0)
            word = "couple" if leak == "names" and related else "photo"
            words = [f"{name}{number}w{i}" for i in range(6)]
            pair = {"head": {"start": 0, "end": 1}, "tail": {"start": 2, "end": 3}}
            relation = ("peer", "couple", "member")[number % 3] if related else "None"
            rows.append({"id": f"{name}{number}", "tokens": words, **pair, "relation": relation})
            images.append(Picture(f"{word}_{generator.integers(10**6)}.jpg", 100, 80, 900, "JPEG", f"{name}{number}"))
            crops.append([Picture(f"{generator.integers(10**6)}.png", side, side, 500) for _ in range(count)])
        splits[name] = Split(rows, images, crops)
    return splits


@pytest.mark.parametrize(
    ("leak", "cue", "level"),
    [
        ("counts", "the number of crops", "red"),
        ("names", "the file name of the picture", "yellow"),  # which no model sees
        ("sizes", "the size of the crops", "red"),
        (None, None, "green"),
    ],
)
def test_a_planted_leak_is_named_and_the_rest_is_green(leak, cue, level):
    tellings = audit_cues(make_splits(leak), PERMUTATIONS)
    verdicts = judge(tellings, [], {}, {})
    levels = {verdict.subject: verdict.level for verdict in verdicts if verdict.level != "green"}
    assert levels == ({"red": {cue: level, TOGETHER: level}, "yellow": {cue: level}, "green": {}}[level])
    red = set(levels)
    for telling in tellings:
        if telling.cue in red and telling.label == "related pairs":
            assert telling.auc > 0.95 and telling.p < 0.05 and telling.test_auc > 0.95 and telling.rows == 240
    if cue:
        (sentence,) = [verdict.sentence for verdict in verdicts if verdict.subject == cue]
        assert sentence.startswith(f"{cue[0].upper()}{cue[1:]} alone tells related pairs from others with AUC")


def test_the_least_permutations_tell_one_of_all_cues_from_chance():
    units = row_units(make_splits("counts")["train"])
    cues = dict.fromkeys(CUES, CUES["the number of crops"])
    for number, level in ((LEAST_PERMUTATIONS, "red"), (LEAST_PERMUTATIONS - 1, "green")):
        tellings = measure_cues(units, [], cues, number)
        assert {telling.cue for telling in tellings} == {*CUES, TOGETHER}
        assert judge(tellings, [], {}, {})[0].level == level


def test_rows_that_share_a_picture_count_once():
    splits = make_splits("counts")
    for split in splits.values():
        split.images = [Picture("a.jpg", digest=str(n // 2)) for n in range(len(split.rows))]
    assert {telling.rows for telling in audit_cues(splits, 5) if telling.cue == "the number of crops"} == {120}


def test_what_says_which_crop_shows_an_entity_is_measured_on_crops():
    generator = np.random.default_rng(0)
    rows, images, crops = [], [], []
    for number in range(400):
        rows.append({"tokens": [str(number)], "ner_tags": ["B-PER"], "regions": [0]})
        images.append(Picture(None, digest=str(number)))
        crops.append([Picture(None, int(side), 50, 10) for side in generator.integers(20, 90, 2)])
    tellings = audit_cues({"train": Split(rows, images, crops)}, PERMUTATIONS)
    of_crops = {telling.cue: telling for telling in tellings if telling.label == "crops that show an entity"}
    assert of_crops["the place of a crop in the list"].auc == 1
    assert of_crops["the size of a crop"].auc < 0.6 and of_crops["the size of a crop"].p > 0.05


def test_areas_and_correlations_agree_with_cases_by_hand():
    answers = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, 1]])
    predicted = np.array([[0.9, 0.5, 1.0], [0.8, 0.5, 0.0], [0.8, 0.5, 0.5], [0.1, 0.5, 0.2]])
    found = areas(predicted, answers)
    assert found[0] == 3.5 / 4 and found[1] == 0.5 and np.isnan(found[2])
    expected = np.corrcoef(predicted[:, 0], answers[:, 0])[0, 1]
    assert correlations(predicted, answers) == pytest.approx([expected, 0, 0])
    assert bin_edges(np.array([3.0, 1.0, 2.0, 1.0])).tolist() == [2, 3]
    assert len(bin_edges(np.arange(100.0))) == 7


def test_labels_of_rows():
    row = {"ner_tags": ["B-PER", "O", "I-LOC"], "relations": [{"head": 0, "tail": 1, "label": "lives_in"}]}
    expected = {"posts with an entity", "posts with a PER", "posts with a LOC", "posts with a relation"}
    assert labels_of_row(row) == {*expected, "posts with the relation lives_in"}
    assert labels_of_row({"relation": "None"}) == labels_of_row({"regions": [-1], "entity_boxes": [[]]}) == set()
    assert labels_of_row({"label": "positive"}) == {"posts labelled positive"}


def test_similar_texts_and_pictures_of_two_splits_are_linked():
    bits = np.random.default_rng(0).random((3, 256)) < 0.5
    close = bits[0].copy()
    close[:9] ^= True
    text = "a very long post about one thing and then another thing in town today".split()
    first = Split(
        [{"tokens": text, "label": "yes"}, {"tokens": ["hi"], "label": "yes"}],
        [Picture("1.jpg", digest="1", hash=bits[0]), Picture("2.jpg", digest="2", hash=bits[1])],
        [[], []],
    )
    second = Split(
        [{"tokens": [*text, "!"], "label": "yes"}, {"tokens": ["ho"], "label": "no"}, {"tokens": ["x"], "label": "no"}],
        [None, Picture("3.jpg", digest="3", hash=close), Picture("4.jpg", digest="4", hash=bits[2])],
        [[], [], []],
    )
    found = audit_overlap({"train": first, "test": second})["train/test"]
    assert found["similar texts"] == found["similar pictures"] == {"distinct": 1, "rows of the second": 1}
    assert found["rows with any of these"] == {"rows of the second": 2, "with its labels": 1, "of": 3}
    (verdict,) = judge([], [], {"train/test": found}, {})
    assert verdict.level == "red" and verdict.sentence.startswith("2 of 3 test rows (66.7 %)")


def test_texts_of_handles_and_urls_alone_are_no_shared_texts():
    texts = ["@bob http://t.co/aaa", "@ann http://t.co/b", "@ann", "@eve @ann"], ["@u1 https://t.co/1", "", "@ann"]
    first, second = (Split([{"text": text} for text in some], [None] * len(some), None) for some in texts)
    found = audit_overlap({"train": first, "test": second})["train/test"]
    assert found["texts"]["rows of the second"] == 1  # equal as they are
    assert found["texts but for capitals, URLs and @names"]["rows of the second"] == 0
    assert found["rows with any of these"]["rows of the second"] == 0
    first.images[0] = second.images[0] = Picture("a.jpg", digest="1")
    found = audit_overlap({"train": first, "test": second})["train/test"]
    assert found["rows with any of these"]["rows of the second"] == 1


def test_blind_answers():
    rows = [
        {
            "tokens": ["a", "b"],
            "ner_tags": ["B-PER", "B-LOC"],
            "regions": [1, -1],
            "entity_boxes": [[[0, 0, 1, 0.6]], []],
        },
        {"tokens": ["a"], "ner_tags": ["B-PER"], "regions": [0], "entity_boxes": [[[0, 0, 0.5, 0.5]]]},
    ]
    crops = [[Picture(None, 5, 5), Picture(None, 9, 9)], [Picture(None, 1, 1), Picture(None, 2, 2)]]
    found = {one.answer: (one.right, one.of) for one in audit_baselines({"test": Split(rows, [None, None], crops)})}
    assert found == {
        "each entity is a PER": (2, 3),
        "no region, always": (1, 3),
        "the first crop, always": (1, 2),
        "the largest crop, always": (1, 2),
        "a crop drawn at random (expected)": (1, 2),
        "no box, always": (1, 3),
        "a box round the whole picture (IoU of .5)": (1, 2),
    }


def test_decimals_never_round_up_to_certainty():
    assert [decimals(value) for value in (0.996, 0.5, 1.0, 0.29)] == [".99", ".50", "1", ".29"]


def png(colour: tuple[int, int, int], side: int) -> dict:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def test_a_folder_of_any_parquet_files(tmp_path, capsys):
    picture = datasets.Image(decode=False)
    for split, size in {"train": 120, "test": 40}.items():
        labels = [n % 2 for n in range(size)]
        columns = {
            "id": [f"{split}{n}" for n in range(size)],
            "text": [f"{split} post number {n} of them" for n in range(size)],
            "label": labels,
            "image": [png((n, 0, size), 20) for n in range(size)],
            "objects": [[png((9, 9, 9), 5)] * (1 + 2 * label) for label in labels],
        }
        features = {"id": datasets.Value("string"), "text": datasets.Value("string")}
        features |= {"label": datasets.ClassLabel(names=["no", "yes"]), "image": picture}
        rows = datasets.Dataset.from_dict(columns, datasets.Features(objects=datasets.List(picture), **features))
        rows.to_parquet(tmp_path / f"{split}-0.parquet")
    output = tmp_path / "audit.json"
    main(["--parquet", str(tmp_path), "--permutations", "200", "--output", str(output)])
    printed = capsys.readouterr().out
    assert f"{tmp_path}: red" in printed and "The number of crops alone tells posts labelled" in printed
    report = json.loads(output.read_text(encoding="utf-8"))[str(tmp_path)]
    assert report["verdicts"][0]["level"] == "red" and report["pictures"]["train"]["with a readable picture"] == 120
    page = output.with_suffix(".html").read_text(encoding="utf-8")
    assert report["verdicts"][0]["sentence"] in page and 'class="light red"' in page
    assert "tells posts labelled no from others" in page or "tells posts labelled yes from others" in page
    splits = read_folder(tmp_path)
    assert splits["test"].rows[1]["label"] == "yes" and splits["test"].counts[:2] == [1, 3]
    assert splits["train"].images[3].width == 20 and splits["train"].images[3].hash.shape == (256,)


def test_a_clean_data_set_is_green_as_a_whole():
    splits = make_splits()
    assert {verdict["level"] for verdict in audit(splits, permutations=PERMUTATIONS)["verdicts"]} == {"green"}
