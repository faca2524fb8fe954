"""The audit: what it measures agrees with cases worked out by hand, and with what is known of the real files."""

import io
import json
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from modeling_i2srm.cli.audit import main
from modeling_i2srm.prepare import mnre, posts
from modeling_i2srm.studies.audit import (
    auc,
    audit,
    audit_crops,
    crops_of_relation,
    read_folder,
    read_raw,
    scores,
    within_pictures,
    word_features,
)
from modeling_i2srm.studies.audit_duplicates import near_text, overlaps

ROOT = Path(__file__).parents[2]
SPLITS = {"train": "train", "validation": "val", "test": "test"}
# tokens, head, tail, relation and number of crops; the last pair is the one the rule misses
PAIRS = [
    (["Ann", "meets", "Bob"], "/per/per/peer", 4),
    (["Ann", "likes", "Oslo"], "/per/loc/place_of_residence", 4),
    (["Ann", "in", "Jaws"], "/per/misc/present_in", 3),
    (["Ann", "or", "Rome"], "None", 2),
    (["Bob", "or", "Rome"], "None", 2),
    (["Bob", "or", "Lima"], "None", 1),
    (["Jaws", "and", "Sharks"], "/misc/misc/part_of", 2),
]


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), colour).save(file, "JPEG")
    return file.getvalue()


def write_mnre(folder: Path, index: bool = True) -> Path:
    """Write three splits of `PAIRS`; all texts but the first and last differ between splits, as do the pictures."""
    texts = folder / "RE_data/txt"
    texts.mkdir(parents=True)
    for split, short in SPLITS.items():
        lines, crops = [], {}
        for number, (tokens, relation, count) in enumerate(PAIRS):
            if 0 < number < len(PAIRS) - 1:
                tokens = [*tokens, split]
            row = {"token": tokens, "relation": relation, "img_id": f"{split}{number // 4}.jpg"}
            row["h"], row["t"] = {"name": tokens[0], "pos": [0, 1]}, {"name": tokens[2], "pos": [2, 3]}
            lines.append(repr(row))
            crops[number] = [f"{number}_crop_{i}.png" for i in range(count)]
        (texts / f"ours_{short}.txt").write_text("\n".join(lines), encoding="utf-8")
        if index:
            torch.save(crops, texts / f"mre_{short}_dict.pth")
    return folder


def write_twitter(folder: Path) -> Path:
    """Write three splits of three posts with 1, 2 and 0 crops and 1, 2 and 0 entities."""
    texts, images = folder / "NER_data/twitter2015", folder / "NER_data/twitter2015_images"
    texts.mkdir(parents=True)
    images.mkdir()
    for split, name in {"train": "train", "val": "valid", "test": "test"}.items():
        text = (
            f"IMGID:{name}1\nParis\tB-LOC\n\nIMGID:{name}2\nAnn\tB-PER\nBob\tB-PER\n{name}\tO\n\nIMGID:{name}3\nno\tO\n"
        )
        (texts / f"{name}.txt").write_text(text, encoding="utf-8")
        torch.save(
            {f"{name}1.jpg": ["a.png"], f"{name}2.jpg": ["b.png", "c.png"]}, texts / f"twitter2015_{split}_dict.pth"
        )
        (images / f"{name}1.jpg").write_bytes(picture("orange"))
        (images / f"{name}2.jpg").write_bytes(picture({"train": "red", "valid": "green", "test": "blue"}[name]))
    return folder


def test_scores():
    assert scores([True, True, False, False], [True, False, True, False]) == {"P": 50, "R": 50, "F1": 50}
    assert scores(["a", "b", "None", "a"], ["a", "a", "a", "None"]) == {"P": 33.33, "R": 33.33, "F1": 33.33}
    assert scores(["None", "a"], ["b", "a"]) == {"P": 100, "R": 50, "F1": 66.67}
    assert scores(["None"], ["None"]) == {"P": 0, "R": 0, "F1": 0}


def test_auc():
    labels = [True] * 4 + [False] * 6
    assert auc([2] * 10, labels)["AUC"] == 0.5
    assert auc([3, 3, 3, 3, 2, 2, 2, 1, 1, 1], labels) == {"AUC": 1, "margin": 0}
    assert auc([1, 2, 3], [True, True, True]) == {"AUC": None, "margin": None}
    # Of the 2 x 2 pairs one is won, one lost, two are drawn.
    assert auc([1, 2, 1, 2], [True, True, False, False])["AUC"] == 0.5
    # Hanley and McNeil's own example: 51 abnormal and 58 normal pictures, standard error 0.032.
    ratings = {True: [3, 2, 2, 11, 33], False: [33, 6, 6, 11, 2]}
    rows = [(rating, label) for label, counts in ratings.items() for rating, n in enumerate(counts) for _ in range(n)]
    found = auc([rating for rating, _ in rows], [label for _, label in rows])
    assert found["AUC"] == pytest.approx(0.893, abs=5e-4)
    assert found["margin"] / 1.96 == pytest.approx(0.032, abs=1e-3)


def test_within_pictures():
    counts, labels = [4, 2, 3, 3, 2, 2], [True, False, True, False, True, False]
    found = within_pictures(counts, labels, ["a", "a", "b", "b", "c", None])
    assert found == {"number": 2, "fully told": 1, "AUC": 0.75}
    assert within_pictures([1], [True], ["a"]) == {"number": 0, "fully told": 0, "AUC": None}


def test_crops_of_relation():
    assert [crops_of_relation(relation) for _, relation, _ in PAIRS] == [4, 4, 3, 2, 2, 2, 2]


def test_overlaps():
    found = overlaps({"a": [1, 2, None], "b": [2, 2, None, 3], "c": [1, 2, 3, 4]})
    assert found == {
        "a/b": {"distinct": 1, "rows of the second": 2},
        "a/c": {"distinct": 2, "rows of the second": 2},
        "b/c": {"distinct": 2, "rows of the second": 2},
    }


def test_near_text():
    assert near_text(["RT", "@Ann", "Hi", "http://t.co/a1"]) == near_text(["rt", "@", "bob", "hi", "https://t.co/B"])
    assert near_text(["Ann"]) != near_text(["Bob"])


def test_word_features():
    row = {"tokens": ["So", "Ann", "met", "Bob"], "head": {"start": 3, "end": 4}, "tail": {"start": 1, "end": 2}}
    found = {"word: so", "word: ann", "word: met", "word: bob", "head: bob", "tail: ann", "between: met"}
    found |= {"before head: met", "before tail: so", "after tail: met", "order: False", "distance: 1"}
    assert set(word_features(row)) == found
    assert set(word_features({"tokens": ["A", "a"]})) == {"word: a"}


def test_mnre(tmp_path, capsys):
    raw, output = write_mnre(tmp_path / "raw"), tmp_path / "audit.json"
    main(["--data_dir", str(raw), "--words", "--output", str(output)])
    printed = capsys.readouterr()
    assert "twitter2015" in printed.err and "100.0 / 75.0 / 85.71" in printed.out
    report = json.loads(output.read_text(encoding="utf-8"))
    assert list(report) == ["mnre"]
    test = report["mnre"]["crops"]["related"]["test"]
    assert test["rows"] == 7 and test["rows with crops: 2"] == {"no": 2, "yes": 1}
    assert test["rule of 3 or more crops"] == {"P": 100, "R": 75, "F1": 85.71}
    assert test["rule of always yes"] == {"P": 57.14, "R": 100, "F1": 72.73}
    assert test["crop count as it is"]["AUC"] == round((3 * 3 + 1 + 2 * 0.5) / 12, 4)
    # 4, 4, 3 crops against 2 in the first picture: three won; 2 against 2 and 1 in the second: a half and one won.
    assert test["pictures of rows with both answers"] == {"number": 2, "fully told": 1, "AUC": 0.9}
    assert test["rows with 2 crops + 1 for each type but misc"] == 6
    assert test["related, by model of words and crop count"]["F1"] > 80
    assert report["mnre"]["overlap"]["train/test"] == {
        "texts": {"distinct": 2, "rows of the second": 2},
        "texts but for capitals, URLs and @names": {"distinct": 2, "rows of the second": 2},
        "pictures of the same name": {"distinct": 0, "rows of the second": 0},
        "similar texts": {"distinct": 0, "rows of the second": 0},
        "rows with any of these": {"rows of the second": 2, "with its labels": 2, "of": 7},
    }


def test_mnre_without_an_index(tmp_path, capsys):
    main(["--data_dir", str(write_mnre(tmp_path / "raw", index=False)), "--dataset", "mnre"])
    printed = capsys.readouterr().out
    assert "crop counts are not audited" in printed and "what two splits share" in printed


def test_twitter(tmp_path):
    report = audit(read_raw("twitter2015", write_twitter(tmp_path / "raw")))
    test = report["crops"]["with an entity"]["test"]
    assert test["rows with crops: 0"] == {"no": 1, "yes": 0} and test["rows with crops: 2"] == {"no": 0, "yes": 1}
    assert test["crop count as it is"]["AUC"] == test["Spearman of crop count and number of entities"] == 1
    assert test["rule of 3 or more crops"]["R"] == 0
    overlap = report["overlap"]["train/validation"]
    assert overlap["texts"]["distinct"] == 2
    assert overlap["pictures of the same name"]["distinct"] == 0
    assert overlap["pictures of the same content (6 files)"]["distinct"] == 1


def test_parquet_without_crops_tells_nothing(tmp_path):
    mnre.main(["--data_dir", str(write_mnre(tmp_path / "raw")), "--output_dir", str(tmp_path / "out")])
    splits = read_folder(tmp_path / "out")
    assert [row["relation"] for row in splits["test"].rows] == [relation for _, relation, _ in PAIRS]
    test = audit_crops(splits, "related")["test"]
    assert test["rows with crops: 0"] == {"no": 3, "yes": 4}
    assert test["crop count as it is"]["AUC"] == test["related, by model of crop count, its values"]["AUC"] == 0.5


def test_parquet_with_crops(tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "7.jpg").write_bytes(picture("red"))
    rows = [
        {"text": "Kobe lands", "ner_tags": ["B-PER", "O"], "image": "7.jpg", "objects": ["7.jpg", "7.jpg"]},
        {"text": "he lands", "ner_tags": ["O", "O"], "image": "8.jpg"},
    ]
    (raw / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (raw / "test.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    posts.main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out")])
    splits = read_folder(tmp_path / "out")
    assert splits["train"].counts == [2, 0] and splits["train"].pictures == ["7.jpg", None]
    assert splits["train"].rows[0]["ner_tags"] == ["B-PER", "O"]
    main(["--parquet", str(tmp_path / "out")])
    assert "1.0 / 0.0" in capsys.readouterr().out
    overlap = audit(splits)["overlap"]["train/test"]
    assert overlap["texts"]["distinct"] == overlap["pictures of the same name"]["distinct"] == 1


def test_one_split_and_no_labels(tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "train.jsonl").write_text('{"text": "Kobe lands"}', encoding="utf-8")
    posts.main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out")])
    capsys.readouterr()
    main(["--parquet", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "crop counts are not audited" in printed and "there is one split only" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_dir", "{}"], "no data set in"),
        (["--data_dir", "{}", "--dataset", "mnre"], "expected one file ours_train.txt"),
        (["--data_dir", "{}/absent", "--dataset", "mnre"], "no folder"),
        (["--parquet", "{}"], "no dataset_info.json"),
    ],
)
def test_what_is_absent_is_said(tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main([argument.format(tmp_path) for argument in arguments])


def test_a_damaged_index_is_said(tmp_path):
    raw = write_mnre(tmp_path / "raw")
    (raw / "RE_data/txt/mre_val_dict.pth").write_bytes(b"not an archive")
    with pytest.raises(SystemExit, match="mre_val_dict.pth: cannot be read as an index of crops"):
        main(["--data_dir", str(raw)])


def test_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("I2SRM_DATA_DIR", str(tmp_path / "absent"))
    draw = runpy.run_path(str(ROOT / "docs/figures/draw_leakage.py"))["main"]
    output = tmp_path / "leakage.png"
    draw(["--output", str(output)])
    assert "not drawn again" in capsys.readouterr().out and not output.exists()
    with pytest.raises(SystemExit, match="no index of MNRE's crops"):
        draw(["--output", str(output), "--data_dir", str(write_mnre(tmp_path / "texts", index=False))])
    draw(["--output", str(output), "--data_dir", str(write_mnre(tmp_path / "raw"))])
    assert Image.open(output).width == 960


@pytest.mark.slow  # the fast suite reads its crops in tests/prepare/test_mnre.py, and audits rows made here
def test_real_mnre(shared_data):
    report = audit(read_raw("mnre", shared_data))
    crops = report["crops"]["related"]
    rule = {split: entry["rule of 3 or more crops"] for split, entry in crops.items()}
    assert rule["train"] == {"P": 100, "R": 98.2, "F1": 99.09}
    assert rule["validation"] == {"P": 100, "R": 97.6, "F1": 98.78}
    assert rule["test"] == {"P": 100, "R": 97.81, "F1": 98.89}
    test = crops["test"]
    assert test["related, by model of crop count"] == rule["test"]
    assert test["rows with crops: 2"] == {"no": 974, "yes": 14} and test["rows with crops: 4"] == {"no": 0, "yes": 519}
    assert test["rows with 2 crops + 1 for each type but misc"] == test["rows"] == 1614
    assert test["pictures of rows with both answers"] == {"number": 120, "fully told": 118, "AUC": 0.9936}
    assert test["relations, by model of crop count"]["F1"] == pytest.approx(36.33, abs=0.01)
    assert shared(report, "texts") == [5, 2, 1]
    assert shared(report, "pictures of the same name") == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "texts", "area", "spearman"),
    [
        pytest.param("twitter2015", [2, 4, 3], 0.5652, 0.3731, marks=pytest.mark.slow),
        ("twitter2017", [1, 0, 0], 0.6078, 0.4445),
    ],
)
def test_real_twitter(shared_data, name, texts, area, spearman):
    report = audit(read_raw(name, shared_data))
    test = report["crops"]["with an entity"]["test"]
    assert test["crop count as it is"]["AUC"] == area
    assert test["Spearman of crop count and number of entities"] == spearman
    assert shared(report, "texts") == texts
    assert shared(report, "pictures of the same name") == [0, 0, 0]


def shared(report: dict, what: str) -> list[int]:
    pairs = ("train/validation", "train/test", "validation/test")
    return [report["overlap"][pair][what]["distinct"] for pair in pairs]
