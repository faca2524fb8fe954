"""Flickr30k Entities: both layouts give the same rows, phrases change as asked, and what is odd is counted or named."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from raw_files import jpeg, load, picture, read_report, read_stored, write

from modeling_i2srm.data.dataset import load_splits
from modeling_i2srm.prepare.flickr30k_entities import (
    Flickr30kEntities,
    count_irregularities,
    count_photos,
    find_texts,
    main,
)
from modeling_i2srm.prepare.flickr30k_files import parse_caption, read_annotation, read_files
from modeling_i2srm.training.tasks import JOINT

CAPTIONS = [
    "[/EN#1/people Two young guys] ride [/EN#2/vehicles/scene a red car] past [/EN#0/notvisual it] .",
    "[/EN#1/people Friends] [/EN#3/scene outside]",
    "[/EN#4/other Nothing] is on [/EN#1/animals them] .",
]
BOXES = {  # in pixels of a photo of 200 x 100
    (0, 0, 20, 10): ["1"],
    (50, 50, 200, 100): ["1", "2"],
    (10, 10, 40, 50): ["1"],
    (0, 90, 200, 100): ["9"],
}
ORDER = [(0, 0, 20, 10), (10, 10, 40, 50), (0, 90, 200, 100), (50, 50, 200, 100)]  # that of the hashes, photo 26
PLACES = [[3, 3], [3, -1], [None, 3]]
SPLITS = {"train": "26", "val": "8", "test": "9"}


def shares(box: tuple) -> list[float]:
    return [side / length for side, length in zip(box, (200, 100) * 2, strict=True)]


def jsonl_row(id: str, **changes: object) -> dict:
    boxes = [{"entities": names, "box": shares(box)} for box, names in BOXES.items()]
    return {"id": id, "width": 200, "height": 100, "boxes": boxes, "scene": ["3"], "nobox": ["3"]} | changes


def write_jsonl(root: Path, size: tuple[int, int] = (100, 100)) -> Path:
    texts = [{"id": id, "split": split, "sentences": CAPTIONS} for split, id in SPLITS.items()]
    write(root / "sentences.jsonl", "".join(f"{json.dumps(row)}\n" for row in texts))
    write(root / "boxes.jsonl", "".join(f"{json.dumps(jsonl_row(id))}\n" for id in SPLITS.values()))
    for id in SPLITS.values():
        write(root / f"images/{id}.jpg", jpeg(*size))
    return root


def xml_object(names: list[str], inside: str) -> str:
    return f"<object>{''.join(f'<name>{name}</name>' for name in names)}{inside}</object>"


def xml(*objects: str) -> str:
    for box, names in BOXES.items():
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        inside = "".join(f"<{tag}>{side}</{tag}>" for tag, side in sides)
        objects += (xml_object(names, f"<bndbox>{inside}</bndbox>"),)
    size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
    return f"<annotation><filename>26.jpg</filename>{size}{''.join(objects)}</annotation>"


def write_original(root: Path) -> Path:
    flags = xml_object(["3"], "<scene>1</scene><nobndbox>1</nobndbox>")
    for split, id in SPLITS.items():
        write(root / f"flickr30k_entities/{split}.txt", f"{id}\n")
        write(root / f"annotations/Sentences/{id}.txt", "\n".join(CAPTIONS) + "\n")
        write(root / f"annotations/Annotations/{id}.xml", xml(flags))
        write(root / f"flickr30k-images/{id}.jpg", jpeg(200, 100))
    return root


def build(raw: Path, out: Path, *options: str) -> list[dict]:
    main(["--data_dir", str(raw), "--output_dir", str(out), *options])
    return read_stored(out)


def read_raw(raw: Path, **options: object):
    builder = Flickr30kEntities(data_dir=str(raw), cache_dir=str(raw.parent / "cache"), **options)
    return builder.read_raw()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The data set of the two JSONL files, whose photos are stretched."""
    root = tmp_path_factory.mktemp("flickr")
    build(write_jsonl(root / "raw"), root / "out")
    return root / "out"


def test_phrases_become_tags_and_boxes_become_crops(built, tmp_path):
    tags = load(built, tmp_path / "cache").features["ner_tags"].feature.names
    rows = read_stored(built)
    assert [row["id"] for row in rows] == ["26#0", "26#1", "26#2"]
    assert rows[0]["tokens"] == "Two young guys ride a red car past it .".split()
    named = ["B-people", "I-people", "I-people", "O", "B-vehicles", "I-vehicles", "I-vehicles", "O", "O", "O"]
    assert [tags[tag] for tag in rows[0]["ner_tags"]] == named
    assert [row["regions"] for row in rows] == PLACES
    assert [row["relations"] for row in rows] == [None] * 3
    assert rows[1]["entity_boxes"][0] == [pytest.approx(shares(box)) for box, names in BOXES.items() if "1" in names]
    assert rows[1]["entity_boxes"][1] == []
    boxes = [one["box"] for one in rows[0]["object_boxes"]]
    assert boxes == [[x0 // 2, y0, x1 // 2, y1] for x0, y0, x1, y1 in ORDER]  # 100 pixels, not 200
    sizes = [Image.open(io.BytesIO(crop["bytes"])).size for crop in rows[0]["objects"]]
    assert sizes == [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
    assert rows[0]["image"]["bytes"] == jpeg(100, 100) and rows[2]["objects"] == rows[0]["objects"]


def test_the_report_counts_the_raw_files_and_what_is_odd(built):
    report = read_report(built)
    counts = report["splits"]["train"]
    types = {"people": 2, "clothing": 0, "bodyparts": 0, "animals": 1, "vehicles": 1, "instruments": 0, "scene": 1}
    assert counts["raw files"] == {
        "photos": 1,
        "captions": 3,
        "words": 17,
        "phrases": 7,
        "phrases with a box": 4,
        "visual phrases without a box": 2,
        "boxes": 4,
        "phrases by first type": {**types, "other": 1, "notvisual": 1},
    }
    assert counts["irregularities"] == {
        "boxes of several entities": 1,
        "crops with a side under 16 pixels": 3,
        "entities of other first types in other captions, kept": 1,
        "entities with a box or flag that no caption names": 1,
        "entities with both flags, scene and nobox": 1,
        "phrases of several types, the first one kept": 1,
        "photos of other proportions than the annotation states, kept": 1,
        "pictures that several posts share": 1,
        "regions of entities with neither box nor flag, stored as not known": 1,
    }
    test = report["splits"]["test"]
    assert test["irregularities"]["captions with the words of a caption of another photo in train"] == 3
    assert counts["posts whose relations are not annotated"] == 3 and counts["crops"]["present"] == 12
    assert report["edition"] == "unknown" and "results cannot be compared" in report["warnings"][0]
    card = (built / "README.md").read_text()
    assert "non-commercial research" in card and "Hodosh" in card and "social media" not in card


def test_the_joint_task_reads_the_rows(built):
    splits = JOINT.convert_labels(load_splits(str(built), JOINT.text_columns), "flickr")
    assert splits["train"]["relations"][:] == [None] * 3 and splits["train"]["regions"][:] == PLACES


def test_the_original_layout_gives_the_same_rows(built, tmp_path):
    rows = build(write_original(tmp_path / "raw"), tmp_path / "out")
    pictures = {"image", "objects", "object_boxes"}
    same = [
        [{name: row[name] for name in row.keys() - pictures} for row in some] for some in (rows, read_stored(built))
    ]
    assert same[0] == same[1]
    assert [one["box"] for one in rows[0]["object_boxes"]] == [list(box) for box in ORDER]
    assert rows[0]["image"]["bytes"] == jpeg(200, 100)
    report = read_report(tmp_path / "out")
    assert report["layout"] == "the original one" and report["unparsed_lines"] == []
    assert (
        "photos of other proportions than the annotation states, kept"
        not in report["splits"]["train"]["irregularities"]
    )


def tokens(raw: Path, split: str = "train", **options: object) -> list[list[str]]:
    return [post.columns["tokens"] for post in read_raw(raw, **options).splits[split]]


def test_heads_are_masked_and_phrases_that_are_no_entities_stay(tmp_path):
    raw = write_jsonl(tmp_path / "raw")
    first, second, _ = tokens(raw, phrases="heads_masked")
    assert first == "Two young ___ ride a red ___ past it .".split() and second == ["___", "___"]
    tags = read_raw(raw, phrases="heads_masked").splits["train"][1].columns["ner_tags"]
    assert tags == ["B-people", "B-scene"]


def test_an_entity_has_one_invented_name_that_is_drawn_without_its_type(tmp_path):
    raw = write_jsonl(tmp_path / "raw")
    posts = read_raw(raw, phrases="invented_names").splits["train"]
    first, second, third = (post.columns["tokens"] for post in posts)
    one, two, three, four = first[0], first[2], second[1], third[0]
    assert first == [one, "ride", two, "past", "it", "."] and second == [one, three]
    assert third == [four, "is", "on", one, "."] and len({one, two, three, four}) == 4
    assert posts[0].columns["ner_tags"] == ["B-people", "O", "B-vehicles", "O", "O", "O"]
    assert tokens(raw, phrases="invented_names") == [first, second, third]
    assert tokens(raw, phrases="invented_names", seed=1) != [first, second, third]
    text = (raw / "sentences.jsonl").read_text()
    write(raw / "sentences.jsonl", text.replace("/people", "/clothing").replace("/scene", "/other"))
    assert tokens(raw, phrases="invented_names") == [first, second, third]
    write(raw / "sentences.jsonl", text.replace("ride", two.lower()))
    assert two not in tokens(raw, phrases="invented_names")[0]  # no name is a word of a caption


@pytest.mark.parametrize(("captions", "counts"), [("all", (3, 3)), ("one", (1, 1)), ("one_in_train", (1, 3))])
def test_captions_are_drawn_by_the_seed(tmp_path, captions, counts):
    raw = write_jsonl(tmp_path / "raw")
    posts = read_raw(raw, captions=captions).splits
    assert (len(posts["train"]), len(posts["test"])) == counts
    drawn = {read_raw(raw, captions=captions, seed=seed).splits["train"][0].columns["id"] for seed in range(9)}
    assert len(drawn) == (1 if captions == "all" else 3)


def test_boxes_beyond_the_limit_are_counted_and_their_regions_are_not_known(tmp_path):
    rows = build(write_jsonl(tmp_path / "raw"), tmp_path / "out", "--max_objects", "2")
    assert [len(row["objects"]) for row in rows] == [2] * 3
    assert [row["regions"] for row in rows] == [[1, None], [1, -1], [None, 1]]  # the largest box that is left
    counts = read_report(tmp_path / "out")["splits"]["train"]["irregularities"]
    assert counts["boxes beyond --max_objects, left out"] == 2
    assert counts["regions whose boxes are all beyond --max_objects, stored as not known"] == 1


@pytest.mark.parametrize(
    ("photo", "kind"), [(None, "absent"), (jpeg(100, 100)[:-200], "unreadable")], ids=["absent", "unreadable"]
)
def test_a_photo_that_cannot_be_read_has_no_crops(tmp_path, photo, kind):
    raw = write_jsonl(tmp_path / "raw")
    (raw / "images/26.jpg").unlink() if photo is None else write(raw / "images/26.jpg", photo)
    row = build(raw, tmp_path / "out")[1]
    assert (row["image"], row["objects"], row["object_boxes"], row["regions"]) == (None, [], [], [None, -1])
    counts = read_report(tmp_path / "out")["splits"]["train"]
    assert counts["crops"][kind] == 12 and counts["pictures"][kind] == 3


def test_own_crops_and_none(tmp_path):
    raw = write_jsonl(tmp_path / "raw")
    write(tmp_path / "crops/26/1.png", picture("PNG", (5, 4)))
    post = read_raw(raw, objects=str(tmp_path / "crops")).splits["train"][0]
    assert post.crops == ["26/1.png"] and post.columns["regions"] == [None, None]
    row = build(raw, tmp_path / "out", "--objects", "none")[1]
    assert (row["objects"], row["regions"], len(row["entity_boxes"][0])) == ([], [None, -1], 3)


def test_a_training_photo_that_is_a_test_photo_is_left_out(tmp_path):
    raw = write_jsonl(tmp_path / "raw")
    for name in ("sentences.jsonl", "boxes.jsonl"):
        text = (raw / name).read_text().replace('"9"', '"3050606344"')
        lines = text.splitlines()
        write(raw / name, "\n".join([*lines, lines[0].replace('"26"', '"2851198725"')]))
    posts = read_raw(raw)
    assert {post.image for post in posts.splits["train"]} == {"26.jpg"}
    assert posts.irregularities["train"]["photos that are also in test, left out"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[/EN#1/people A man", "phrase EN#1 is not closed"),
        ("[/EN#1/people [/EN#2/people A man] ]", "a bracket that opens or closes no phrase: '\\[/EN#2/people'"),
        ("A man] walks", "no phrase: 'man]'"),
        ("[/EN#1/people ] walks", "phrase EN#1 has no words"),
        ("[/EN#1/robots A robot]", "'\\[/EN#1/robots': expected types of people, .*, notvisual"),
        ("[/EN#1 A man]", "expected types of"),
        ("[/EN#0/people A man]", "which is 0 for notvisual alone"),
        ("[/EN#5/notvisual it]", "which is 0 for notvisual alone"),
        ("[/EN#x/people A man]", "expected the number of an entity"),
    ],
)
def test_captions_that_cannot_be_read_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_caption(text)


OPEN = json.dumps({"id": "26", "split": "train", "sentences": ["[/EN#1/people A man"]})


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("sentences.jsonl", "{", "Expecting property name"),
        ("sentences.jsonl", "[]", "expected an object with the id of a photo"),
        ("sentences.jsonl", '{"id": "../x"}', "expected an object with the id of a photo"),
        ("sentences.jsonl", '{"id": "8"}', "photo 8 is in line 2, too"),
        ("sentences.jsonl", OPEN, "caption 0: phrase EN#1 is not closed"),
        ("sentences.jsonl", '{"id": "26", "split": "dev"}', "split='dev' must be one of train, val, test"),
        ("sentences.jsonl", '{"id": "26", "split": "val", "sentences": 3}', "sentences must be a list of texts, got 3"),
        ("boxes.jsonl", '{"id": "26"}', "KeyError: 'boxes'"),
        ("boxes.jsonl", json.dumps(jsonl_row("26", width="9")), "must be whole numbers, got '9' and 100"),
        ("boxes.jsonl", json.dumps(jsonl_row("26", height=0)), "a photo of 200 x 0 pixels"),
        ("boxes.jsonl", json.dumps(jsonl_row("26", nobox=[3])), "must be a list of numbers as texts, got [3]"),
        (
            "boxes.jsonl",
            json.dumps(jsonl_row("26", boxes=[{"box": [0, 1], "entities": []}])),
            "four numbers, got [0, 1]",
        ),
        (
            "boxes.jsonl",
            json.dumps(jsonl_row("26", boxes=[{"box": [0, 0, 1.1, 1], "entities": ["1"]}])),
            "[0, 0, 1.1, 1] of 1 is empty or not in the photo",
        ),
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path, file, line, message):
    raw = write_jsonl(tmp_path / "raw")
    lines = (raw / file).read_text().splitlines()
    number = 3 if "too" in message else 1
    lines[number - 1] = line
    write(raw / file, "\n".join(lines))
    files = read_files(raw)
    assert [(problem.file, problem.line) for problem in files.problems] == [(file, number)]
    assert message in files.problems[0].reason
    if file == "boxes.jsonl":
        assert files.irregularities["train"]["photos whose boxes are absent or cannot be read"] == 1
        regions = [post.columns["regions"] for post in read_raw(raw).splits["train"]]
        assert regions == [[None, None]] * 3


def test_files_of_the_original_layout_that_cannot_be_read_are_named(tmp_path):
    raw = write_original(tmp_path / "raw")
    write(raw / "annotations/Annotations/26.xml", "<annotation>")
    write(raw / "annotations/Sentences/8.txt", CAPTIONS[0].encode() + b"\n\xff\n")
    write(raw / "annotations/Sentences/10.txt", CAPTIONS[0])
    write(raw / "flickr30k_entities/test.txt", "9\n11\n")
    write(raw / "flickr30k_entities/UNRELATED_CAPTIONS", "9 1\n")
    files = read_files(raw)
    assert [(problem.file, problem.line) for problem in files.problems] == [
        ("26.xml", 1),
        ("8.txt", 2),
        ("test.txt", 2),
    ]
    assert [problem.reason for problem in files.problems][2] == "no Sentences/11.txt"
    assert files.warnings == [
        "1 photos with captions are in no split: 10",
        "the captions that UNRELATED_CAPTIONS lists are kept",
    ]
    write(raw / "flickr30k_entities/val.txt", "9\n")
    with pytest.raises(ValueError, match=r"1 photos are in the splits more than once, e\.g\. 9"):
        read_files(raw)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (xml().replace("200</width>", "0</width>"), "a photo of 0 x 100 pixels"),
        (xml().replace("<annotation>", "<!DOCTYPE a><annotation>"), "a document type"),
        (xml().replace("100</height>", "high</height>"), "invalid literal"),
    ],
)
def test_annotations_that_cannot_be_read_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_annotation(write(tmp_path / "26.xml", content))


def test_equal_boxes_are_one(tmp_path):
    raw = write_original(tmp_path / "raw")
    again = xml_object(["8"], "<bndbox><xmin>0</xmin><ymin>0</ymin><xmax>20</xmax><ymax>10</ymax></bndbox>")
    write(raw / "annotations/Annotations/26.xml", xml(again))
    files = read_files(raw)
    assert files.photos["train"][0].boxes[0.0, 0.0, 0.1, 0.1] == ["8", "1"]
    assert files.irregularities["train"]["boxes that equal another one of their photo, taken as one"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_objects", "0"], "--max_objects 0: give 1 or more, or --objects none"),
        (["--objects", "crops"], "no folder of crops crops"),
        (["--strict"], "1 lines cannot be read"),
    ],
)
def test_options_that_cannot_be_are_named(tmp_path, options, message):
    raw = write_jsonl(tmp_path / "raw")
    write(raw / "sentences.jsonl", (raw / "sentences.jsonl").read_text() + "{")
    with pytest.raises(SystemExit, match=message):
        build(raw, tmp_path / "out", *options)


def test_a_public_push_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        build(tmp_path / "raw", tmp_path / "out", "--push_to_hub", "ann/flickr")
    message = capsys.readouterr().err
    assert "the photos and captions must not be republished; give --push_to_hub ann/flickr --private" in message


def test_values_of_the_builder_that_cannot_be_are_named(tmp_path):
    with pytest.raises(ValueError, match="--phrases half: choose whole, heads_masked, invented_names"):
        read_raw(write_jsonl(tmp_path / "raw"), phrases="half")


def test_a_folder_without_a_layout_or_with_two_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"such folders: none; e\.g\. --data_dir RAW"):
        read_files(tmp_path / "empty")
    write_original(write_jsonl(tmp_path / "raw"))
    with pytest.raises(FileNotFoundError, match="raw/annotations"):
        read_files(tmp_path / "raw")


COUNTS = {  # of the README of the data
    "train": (
        7559,
        37795,
        444537,
        117543,
        98000,
        13158,
        48837,
        33629,
        11816,
        4342,
        11437,
        2727,
        362,
        21318,
        25527,
        6385,
    ),
    "validation": (247, 1235, 14650, 3833, 3239, 385, 1605, 1173, 412, 142, 341, 85, 13, 661, 797, 209),
    "test": (285, 1425, 17151, 4554, 3868, 421, 1869, 1363, 513, 144, 350, 107, 12, 779, 1021, 265),
}


def check_counts(root: Path, *splits: str) -> dict[str, int]:
    """Compare the counts of some splits with those that are known; the irregularities of all, added."""
    files = read_files(root)
    assert files.problems == [] == files.warnings
    irregularities = {}
    texts = find_texts(files.photos["train"])
    for split in splits:
        counts = count_photos(files.photos[split])
        assert (*list(counts.values())[:-1], *counts["phrases by first type"].values()) == COUNTS[split]
        odd = count_irregularities(files.photos[split], texts) + files.irregularities[split]
        irregularities |= {name: irregularities.get(name, 0) + count for name, count in odd.items()}
    return irregularities


def test_the_counts_of_the_real_data_but_train(shared_data, tmp_path):
    folder = shared_data / "flickr30k_entities"
    if not folder.is_dir():
        pytest.skip("Flickr30k Entities is absent")
    lines = [one for one in (folder / "sentences.jsonl").open() if '"split":"train"' not in one[:60]]
    ids = {line[:20].split('"')[3] for line in lines}
    write(tmp_path / "sentences.jsonl", "".join(lines))
    boxes = (folder / "boxes.jsonl").open()
    write(tmp_path / "boxes.jsonl", "".join(line for line in boxes if line[:20].split('"')[3] in ids))
    assert check_counts(tmp_path, "validation", "test")["boxes of several entities"] == 346


@pytest.mark.slow
def test_the_counts_of_the_real_data(shared_data):
    odd = check_counts(shared_data / "flickr30k_entities", "train", "validation", "test")
    assert odd["phrases of several types, the first one kept"] == 723
    assert odd["entities of other first types in other captions, kept"] == 2341
    assert odd["entities with a box or flag that no caption names"] == 39
    assert odd["boxes of several entities"] == 4897 and odd["entities with both flags, scene and nobox"] == 326
    assert odd["captions with the words of a caption of another photo in train"] == 428 + 8 + 17
