"""Twitter-GMNER: boxes reach the entities of their name, and those that do not are counted and listed."""

import os
import tarfile
from pathlib import Path

import pytest
from raw_files import jpeg, load, read_report, read_stored, write

from modeling_i2srm.data.dataset import load_splits
from modeling_i2srm.prepare.gmner import EDITIONS, Gmner, main, read_boxes
from modeling_i2srm.training.tasks import MNER

TEXT = (
    "IMGID:7\nLittle\tB-OTHER\nMix\tI-OTHER\nmeets\tO\nKobe\tB-PER\nKobe\tB-PER\n\n"
    "IMGID:O_8\nParis\tB-LOC\n\nIMGID:9\nno\tO\nbox\tO\n\n"
)
REAL = Path(os.environ.get("I2SRM_DATA_DIR", "../shared/data")) / "gmner/gmner.tar.gz"


def box(name: str, *sides: int) -> str:
    tags = "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))
    return f"<object><name>{name}</name><bndbox>{tags}</bndbox></object>"


def voc(*boxes: str, name: str = "7.jpg", head: str = "") -> str:
    size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
    return f"{head}<annotation><filename>{name}</filename>{size}{''.join(boxes)}</annotation>"


@pytest.fixture
def raw(tmp_path) -> Path:
    folder = tmp_path / "raw/Twitter10000_v2.0"
    for name in ("train.txt", "dev.txt", "test.txt"):
        write(folder / "txt" / name, TEXT)
    boxes = [box("Kobe", 1, 1, 21, 11), box("Kobe", 100, 50, 200, 100), box("LITTLEMIX", 20, 10, 40, 30)]
    write(folder / "xml/7.xml", voc(*boxes, box("Tom &amp; Co", 1, 1, 2, 2)))
    write(folder / "xml/O_8.xml", voc(box("Paris", 1, 1, 300, 2), name="O_8.jpg"))
    write(folder / "xml/unknown.xml", voc())
    return tmp_path / "raw"


def test_boxes_reach_the_entities_of_their_name(raw, tmp_path, capsys):
    write(raw / "pictures/7.jpg", jpeg())
    main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out")])
    row, other, last = load(tmp_path / "out", tmp_path / "cache")
    kobe = [pytest.approx([0.005, 0.01, 0.105, 0.11]), pytest.approx([0.5, 0.5, 1, 1])]
    assert row["entity_boxes"] == [[pytest.approx([0.1, 0.1, 0.2, 0.3])], kobe, kobe]
    assert (other["entity_boxes"], last["entity_boxes"]) == ([[]], [])
    assert [stored["image"] is not None for stored in read_stored(tmp_path / "out")] == [True, False, False]
    report = read_report(tmp_path / "out")
    counts = report["splits"]["train"]
    assert {name: counts[name] for name in counts if name.startswith(("boxes", "entities,"))} == {
        "boxes, all": 4,
        "boxes, of an entity of their name": 2,
        "boxes, of an entity whose name differs in case or white space": 1,
        "boxes, without an entity": 1,
        "entities, with a box": 3,
        "entities, with several boxes": 2,
    }
    assert {"split": "train", "id": "7", "name": "Tom & Co"} in report["unmatched_boxes"]
    assert report["edition"] == "unknown" and len(report["unmatched_boxes"]) == 3
    assert [entry["reason"] for entry in report["unparsed_lines"]] == [
        "the box of 'Paris' is empty or not in the picture of 200 x 100: 1, 1, 300, 2"
    ] * 3
    warnings = " ".join(report["warnings"])
    assert "the texts are not those of v1" in warnings and "1 box files belong to no post: unknown" in warnings
    assert "3 boxes have a name that no entity of their post has" in capsys.readouterr().out
    split = load_splits(str(tmp_path / "out"), MNER.text_columns)["train"]
    assert MNER.label_names(split.features, "gmner")[0] == "O"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (voc(head='<!DOCTYPE a [<!ENTITY b "bb">]>'), "a document type"),
        (voc(box("a", 5, 1, 5, 2)), "the box of 'a' is empty"),
        (voc("<object><name>a</name></object>"), "nan"),
        (voc(box("", 1, 1, 2, 2)), "the box of ''"),
        (voc(box("a", 1, 1, 2, 2)).replace("200", "x"), "could not convert"),
        ("<annotation>", "no element found"),
        (" " * 1_000_001, "more than 1000000"),
    ],
)
def test_box_files_that_cannot_be_read_are_named(tmp_path, content, message):
    with pytest.raises((ValueError, SyntaxError), match=message):
        read_boxes(write(tmp_path / "7.xml", content))


def test_two_editions_in_one_folder_are_refused(raw, tmp_path):
    for name in ("txt/train.txt", "txt/dev.txt", "txt/test.txt", "xml/7.xml"):
        write(raw / "Twitter10000" / name, TEXT)
    with pytest.raises(SystemExit, match=r"expected one edition.*--data_dir .*Twitter10000_v2\.0"):
        main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out")])


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_file(), reason="the release is absent")
@pytest.mark.parametrize(
    ("folder", "entities", "boxes", "similar", "unmatched"),
    [("Twitter10000", 16778, 8061, 16, 43), ("Twitter10000_v2.0", 16772, 8058, 0, 0)],
)
def test_the_released_files(tmp_path, folder, entities, boxes, similar, unmatched):
    with tarfile.open(REAL) as archive:
        members = [one for one in archive if one.name.startswith(f"./{folder}/")]
        archive.extractall(tmp_path, members, filter="data")
    builder = Gmner(data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    raw = builder.read_raw()
    assert raw.about["edition"] in EDITIONS and folder in raw.about["edition"] and raw.problems == []
    assert [len(posts) for posts in raw.splits.values()] == [7000, 1500, 1500]
    totals = [sum(counts[name] for counts in builder.boxes.values()) for name in builder.boxes["train"]]
    assert totals[0] == boxes == sum(totals[1:4]) and totals[2:4] == [similar, unmatched]
    assert len(builder.unmatched) == unmatched
    every = [post.columns["entity_boxes"] for posts in raw.splits.values() for post in posts]
    assert sum(map(len, every)) == entities
    assert all(0 <= side <= 1 for post in every for entity in post for one in entity for side in one)
