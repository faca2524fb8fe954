"""The pictures that posts name: found, decoded, or named in the report with a hint."""

import base64
import json
from collections import Counter
from pathlib import Path

import pytest
from raw_files import jpeg, picture, read_report, read_stored, write

from modeling_i2srm.prepare import report as report_module
from modeling_i2srm.prepare.picture_files import MAX_BYTES
from modeling_i2srm.prepare.post_pictures import PictureFinder, PictureTree, find_file
from modeling_i2srm.prepare.posts import main


def convert(folder: Path, rows: list[dict]) -> tuple[dict, list[dict]]:
    write(folder / "raw/train.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    main(["--data_dir", str(folder / "raw"), "--output_dir", str(folder / "out")])
    return read_report(folder / "out"), read_stored(folder / "out")


def test_absent_pictures_are_named_with_what_they_may_be(tmp_path, capsys):
    write(tmp_path / "raw/pics/a.png", picture("PNG"))
    names = ["pics/A.png", "pics/a.PNG", "pics/a.jpg", "a.png", "Pics\\a.png", "gone.png", "deep/gone.png", "gone.png"]
    report, rows = convert(tmp_path, [{"text": "x", "image": name, "objects": ["crop.png"]} for name in names])
    assert [row["image"] for row in rows] == [None] * len(names)
    reason = "absent under this name, found as pics/a.png"
    assert report["unused_pictures"] == [{"split": "train", "file": name, "reason": reason} for name in names[:5]]
    assert report["absent_pictures"] == {
        "total": 3,
        "first": [{"split": "train", "file": name} for name in ("gone.png", "deep/gone.png", "crop.png")],
    }
    assert report["splits"]["train"]["irregularities"]["pictures under another name, not used"] == 5
    assert "absent pictures: 3, e.g. gone.png, deep/gone.png, crop.png; see report.json" in capsys.readouterr().out


def test_paths_of_windows_are_found(tmp_path):
    write(tmp_path / "raw/pics/a.png", picture("PNG"))
    write(tmp_path / "raw/b.jpg", jpeg())
    names = ["pics\\a.png", ".\\pics\\a.png", "pics\\..\\b.jpg", "pics/a.png"]
    report, rows = convert(tmp_path, [{"text": "x", "image": name, "objects": [name]} for name in names])
    assert [row["image"]["path"] for row in rows] == ["a.png", "a.png", "b.jpg", "a.png"]
    assert all(len(row["objects"]) == 1 for row in rows) and report["absent_pictures"]["total"] == 0
    counts = Counter()
    outside = ["..\\raw2\\a.png", "C:\\pictures\\a.png", "C:a.png"]
    assert [find_file((tmp_path / "raw").resolve(), name, counts) for name in outside] == [None] * 3
    assert counts.total() == 3


def test_pictures_in_the_row_are_decoded(tmp_path):
    content = picture("PNG")
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    rows = [
        {"text": "a", "image": uri, "objects": [uri]},
        {"text": "b", "image": uri.replace("data", "DATA", 1).replace("=", "%3D")},
        {"text": "c", "image": "data:image/png;base64,iVBORw0KGgo="},
        {"text": "d", "image": "data:image/png;base64,?"},
    ]
    report, stored = convert(tmp_path, rows)
    assert [row["image"] and row["image"]["bytes"] for row in stored] == [content, content, None, None]
    assert stored[0]["objects"][0]["bytes"] == content
    odd = report["splits"]["train"]["irregularities"]
    assert odd["pictures as data: URIs, decoded"] == 4 and odd["pictures as data: URIs that cannot be decoded"] == 1
    [entry] = report["unused_pictures"]
    assert (
        entry["file"].startswith("data:")
        and len(entry["file"]) == 21
        and "no picture of the formats" in entry["reason"]
    )
    assert report["absent_pictures"]["total"] == 1


@pytest.mark.parametrize(
    ("uri", "content"),
    [
        ("data:,a%20b", b"a b"),
        ("data:text/plain;charset=x;base64,YQ==", b"a"),
        ("DATA:image/png;base64,Y Q==", b"a"),
        ("data:;base64,YQ", None),
        ("data:", None),
        ("data:;base64," + "A" * (4 * MAX_BYTES // 3 + 8), None),
    ],
)
def test_data_uris(tmp_path, uri, content):
    counts = Counter()
    finder = PictureFinder(tmp_path)
    _, path = finder.find(uri, counts)
    assert (path and path.read_bytes()) == content
    kind = "that cannot be decoded" if content is None else "decoded"
    assert counts == {f"pictures as data: URIs, {kind}".replace("URIs, that", "URIs that"): 1}


def test_odd_names_have_no_hint(tmp_path):
    write(tmp_path / ".hidden", "")
    write(tmp_path / "a.jpg", jpeg())
    tree = PictureTree(tmp_path)
    for name in (None, "a.jpg", "..", ".", "", "a\x00b", "x" * 5000, "https://example.org/a.png", "data:0123"):
        assert tree.other_names(name) == []
    finder = PictureFinder(tmp_path)
    assert finder.find("a.jpg", Counter()) == ("a.jpg", (tmp_path / "a.jpg").resolve())


def test_a_report_names_a_bounded_number_of_absent_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "ABSENT", 2)
    report, _ = convert(tmp_path, [{"text": "x", "image": f"{number}.png"} for number in range(3)])
    assert report["absent_pictures"]["total"] == 3
    assert [entry["file"] for entry in report["absent_pictures"]["first"]] == ["0.png", "1.png"]
