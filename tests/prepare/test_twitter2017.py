"""The Twitter-2017 script: the same as that of Twitter-2015, with its own names, known files and figures."""

import pytest
from raw_files import (
    TEXT_FILES,
    load,
    make_known,
    read_report,
    read_stored,
    write,
    write_hvpnet_twitter,
    write_umt_twitter,
)
from real_files import check_real_files

from modeling_i2srm.prepare.builder import MNER_FEATURES
from modeling_i2srm.prepare.twitter2017 import Twitter2017, main

REAL = {"train": (3373, 53007, 6049, 6049), "validation": (723, 11309, 1324, 1324), "test": (723, 11330, 1351, 1351)}


@pytest.mark.parametrize(
    ("write_raw", "layout", "texts", "pictures"),
    [
        (write_hvpnet_twitter, "HVPNeT", "NER_data/twitter2017", "NER_data/twitter2017_images"),
        (write_umt_twitter, "UMT (texts and one picture folder)", "twitter2017", "ner_img"),
    ],
)
def test_layouts(tmp_path, write_raw, layout, texts, pictures):
    raw = write_raw(tmp_path / "raw", "twitter2017")
    main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out")])
    report = read_report(tmp_path / "out")
    assert (report["dataset"], report["layout"], report["texts"]) == ("twitter2017", layout, texts)
    assert set(report["image folders"].values()) == {pictures}
    rows = load(tmp_path / "out", tmp_path / "cache", "validation")
    assert rows.features == MNER_FEATURES and rows["id"][:] == ["17", "18", "19"]
    assert [image is not None for image in rows["image"]] == [True, False, False]


def test_released_crops(tmp_path):
    raw = write_hvpnet_twitter(tmp_path / "raw", "twitter2017")
    main(["--data_dir", str(raw), "--output_dir", str(tmp_path / "out"), "--objects", "released"])
    crops = [crop["path"] for crop in read_stored(tmp_path / "out", "test")[0]["objects"]]
    assert crops == [f"0_pred_yolo_crop_{number}.png" for number in (230, 24, 222)]


def test_editions(tmp_path, monkeypatch):
    raw = write_umt_twitter(tmp_path / "raw", "twitter2017")
    paths = {split: raw / "twitter2017" / name for split, name in TEXT_FILES.items()}

    def about() -> dict:
        return Twitter2017(data_dir=str(raw), cache_dir=str(tmp_path / "cache")).read_raw().about

    assert set(about()["edition"].replace(";", "").split()) == {"train:", "validation:", "test:", "unknown"}
    make_known(monkeypatch, "twitter2017", paths)
    assert about()["edition"] == "UMT (github.com/jefferyYu/UMT)" and about()["warnings"] == []
    write(paths["test"], paths["test"].read_bytes().replace(b"B-LOC", b"B-PER"))
    assert "test: relabelled" in about()["edition"] and len(about()["warnings"]) == 1
    make_known(monkeypatch, "twitter2015", paths)
    make_known(monkeypatch, "twitter2017", dict.fromkeys(paths, write(tmp_path / "else.txt", "IMGID:1\na\tO\n\n")))
    with pytest.raises(
        ValueError, match=r"train\.txt is a file of twitter2015, not of twitter2017: run twitter2015\.py"
    ):
        about()


def test_real_files(shared_data, tmp_path):
    main(["--data_dir", str(shared_data), "--output_dir", str(tmp_path / "out")])
    report = read_report(tmp_path / "out")
    texts = shared_data / "NER_data/twitter2017"
    check_real_files(report, texts, tmp_path / "out", tmp_path / "cache", REAL)
    odd = "tokens with replacement characters (U+FFFD)"
    assert report["splits"]["train"]["irregularities"][odd] == 4
