"""The Twitter-2015 script: layouts and editions are told apart, every post is kept, pictures are taken as they are."""

import re
from pathlib import Path

import forked
import pytest
from raw_files import (
    TEXT_FILES,
    frames,
    jpeg,
    load,
    make_known,
    names_in,
    picture,
    png_header,
    read_all,
    read_report,
    read_stored,
    twitter_text,
    write,
    write_hvpnet_mnre,
    write_hvpnet_twitter,
    write_posts,
    write_twitter,
    write_umt_twitter,
)
from real_files import check_real_files

from modeling_i2srm.prepare import picture_files, posts, twitter2015, twitter2017
from modeling_i2srm.prepare.builder import MNER_FEATURES, NER_TAGS
from modeling_i2srm.prepare.twitter2015 import Twitter2015, main

SCRIPTS = Path(__file__).parents[2] / "dataset_scripts"


def run(raw: Path, output: Path, *arguments: str) -> dict:
    main(["--data_dir", str(raw), "--output_dir", str(output), *arguments])
    return read_report(output)


def read_raw(raw: Path, cache: Path, **config):
    return Twitter2015(data_dir=str(raw), cache_dir=str(cache), **config).read_raw()


def test_posts_keep_tokens_tags_and_pictures(tmp_path, capsys):
    report = run(write_hvpnet_twitter(tmp_path / "raw"), tmp_path / "out")
    test = report["splits"]["test"]
    assert (test["posts"], test["tokens"]) == (3, 12)
    assert test["strict_entities"] == {"all": 3, "LOC": 1, "MISC": 1, "PER": 1}
    assert test["lenient_entities"] == {"all": 4, "LOC": 1, "MISC": 2, "PER": 1}
    assert test["pictures"] == {"present": 1, "absent": 1, "unreadable": 1, "files": 1}
    assert test["crops"] == {"present": 0, "absent": 0, "unreadable": 0} and report["objects"] == "none"
    assert test["irregularities"] == {
        "I- tags without their B-, kept": 1,
        "tags spelt OTHER, stored as MISC": 3,
        "tokens of white space alone": 2,
    }
    assert [(entry["split"], entry["file"]) for entry in report["unused_pictures"]] == [
        ("train", "8.jpg"),
        ("validation", "18.jpg"),
        ("test", "28.jpg"),
    ]
    printed = capsys.readouterr().out
    assert "layout: HVPNeT\n" in printed and "image folders: train NER_data/twitter2015_images," in printed

    rows = load(tmp_path / "out", tmp_path / "cache", "test")
    assert rows.features == MNER_FEATURES
    assert rows["id"][:] == ["27", "28", "29"] and rows["objects"][:] == [[], [], []]
    assert rows["tokens"][:] == [
        ["RT", "@x", "St.", "James", "\u00a0"],
        ["Super", "Bowl", "a\tb", "\u2028"],
        ["Paris", "IMGID:", "end"],
    ]
    assert [NER_TAGS[tag] for tag in rows["ner_tags"][1]] == ["I-MISC", "I-MISC", "B-MISC", "O"]
    assert rows["image"][0].size == (12, 8) and rows["image"][1:] == [None, None]
    assert read_stored(tmp_path / "out", "test")[0]["image"] == {"bytes": jpeg(), "path": "27.jpg"}


@pytest.mark.parametrize(
    ("texts", "pictures"),
    [
        ("twitter2015", "ner_img"),
        ("twitter2015", "twitter2015_images"),
        ("twitter2015", "twitter2015"),
        (".", "pictures"),
        (".", "."),
        ("data/twitter2015", "IJCAI2019_data/twitter2015_images"),
        ("my texts", "my pictures"),
    ],
)
def test_umt_layout_with_any_picture_folder(tmp_path, capsys, texts, pictures):
    report = run(write_umt_twitter(tmp_path / "raw", texts, pictures), tmp_path / "out")
    assert report["layout"] == "UMT (texts and one picture folder)" and report["texts"] == texts
    assert set(report["image folders"].values()) == {pictures}
    assert [counts["pictures"]["present"] for counts in report["splits"].values()] == [1, 1, 1]
    printed = capsys.readouterr().out
    assert f"layout: {report['layout']}\n" in printed and f"image folders: train {pictures}, " in printed


def test_pictures_may_lie_elsewhere(tmp_path):
    write_twitter(tmp_path / "raw/twitter2015", tmp_path / "else/where/pictures")
    report = run(tmp_path / "raw", tmp_path / "none")
    assert set(report["image folders"].values()) == {"none"}
    assert "train: no picture was found; every post is without one" in report["warnings"]
    report = run(tmp_path / "raw", tmp_path / "out", "--image_dir", str(tmp_path / "else/where"))
    assert set(report["image folders"].values()) == {"pictures"}
    assert not any("no picture" in warning for warning in report["warnings"])
    assert report["splits"]["train"]["pictures"]["present"] == 1


@pytest.mark.parametrize("name", ["val.txt", "dev.txt"])
def test_the_validation_file_may_have_another_name(tmp_path, name):
    raw = write_umt_twitter(tmp_path / "raw")
    (raw / "twitter2015/valid.txt").rename(raw / "twitter2015" / name)
    assert run(raw, tmp_path / "out")["splits"]["validation"]["posts"] == 3


def test_data_sets_that_lie_side_by_side_are_kept_apart(tmp_path):
    raw = write_hvpnet_twitter(tmp_path / "raw")
    write_hvpnet_twitter(raw, "twitter2017")
    write(raw / "NER_data/twitter2017/train.txt", "IMGID:70\nother\tO\n\n")
    assert run(raw, tmp_path / "out")["texts"] == "NER_data/twitter2015"
    assert read_stored(tmp_path / "out")[0]["tokens"][0] == "RT"


@pytest.mark.parametrize("folders", [[], ["twitter2017"], ["a", "b"], ["x/twitter2015", "y/twitter2015"]])
def test_texts_that_are_not_there_or_there_twice_are_an_error(tmp_path, folders):
    (tmp_path / "raw").mkdir()
    for folder in folders:
        write_twitter(tmp_path / "raw" / folder, None)
    with pytest.raises(SystemExit, match=r"expected one folder twitter2015 with train\.txt.* --data_dir RAW"):
        run(tmp_path / "raw", tmp_path / "out")
    assert names_in(tmp_path) == ["raw"]


def test_an_incomplete_set_of_texts_is_an_error(tmp_path):
    raw = write_hvpnet_twitter(tmp_path / "raw")
    (raw / "NER_data/twitter2015/valid.txt").unlink()
    with pytest.raises(SystemExit, match=r"valid\.txt"):
        run(raw, tmp_path / "out")


def text_paths(raw: Path) -> dict[str, Path]:
    return {split: raw / "twitter2015" / name for split, name in TEXT_FILES.items()}


def test_editions_are_told_by_their_posts(tmp_path, monkeypatch, capsys):
    raw = write_umt_twitter(tmp_path / "raw")
    paths = text_paths(raw)
    make_known(monkeypatch, "twitter2015", paths)
    umt = "UMT (github.com/jefferyYu/UMT)"
    report = run(raw, tmp_path / "out")
    assert report["edition"] == umt and report["warnings"] == []
    assert f"edition: {umt}\n" in capsys.readouterr().out
    assert report["sha256"] == {split: picture_files.hash_file(path) for split, path in paths.items()}

    write(paths["validation"], twitter_text("validation").replace("\n", "\r\n"))
    report = run(raw, tmp_path / "out")
    assert report["edition"] == f"train: {umt}; validation: {umt}, but for line ends or lines left out; test: {umt}"
    assert report["warnings"] == []
    assert report["splits"]["validation"]["irregularities"]["lines that end in CR LF"] > 10

    write(paths["test"], twitter_text("test").replace("Paris\tB-LOC", "Paris\tB-ORG"))
    report = run(raw, tmp_path / "out")
    assert "test: relabelled (the same posts with other tags" in report["edition"]
    [warning] = report["warnings"]
    assert warning.startswith(f"not the edition of {umt}, with which figures can be compared (train: ")
    assert f"WARNING: {warning}" in capsys.readouterr().out

    write(paths["train"], twitter_text("train").replace("Paris", "Rome"))
    report = run(raw, tmp_path / "out")
    assert report["edition"].startswith("train: unknown; validation: ") and len(report["warnings"]) == 1
    assert read_stored(tmp_path / "out")[2]["tokens"][0] == "Rome"
    write(paths["train"], twitter_text("train").replace("IMGID:7", "IMGID:77"))
    assert run(raw, tmp_path / "out")["edition"].startswith("train: unknown")


def test_files_of_another_data_set_are_an_error(tmp_path, monkeypatch):
    raw = write_umt_twitter(tmp_path / "raw")
    make_known(monkeypatch, "twitter2017", text_paths(raw))
    for change in (("\n", "\n"), ("\n", "\r\n"), ("B-LOC", "B-ORG")):
        write(raw / "twitter2015/train.txt", twitter_text("train").replace(*change))
        with pytest.raises(
            SystemExit, match=r"train\.txt is a file of twitter2017, not of twitter2015: run twitter2017"
        ):
            run(raw, tmp_path / "out")
    assert names_in(tmp_path) == ["raw"]


BAD_LINES = "hello O\n\tO\nnobody\tB-CITY\n"


def test_bad_lines_are_listed_or_with_strict_an_error(tmp_path, capsys):
    raw = write_umt_twitter(tmp_path / "raw")
    run(raw, tmp_path / "out", "--strict")
    earlier = read_all(tmp_path / "out")
    text = raw / "twitter2015/valid.txt"
    text.write_text(twitter_text("validation").replace("Paris\t", BAD_LINES + "Paris\t"), encoding="utf-8")
    with pytest.raises(SystemExit) as error:
        run(raw, tmp_path / "out", "--strict")
    for line in (15, 16, 17):
        assert f"valid.txt, line {line}: expected a token, a tab and a tag" in str(error.value)
    assert read_all(tmp_path / "out") == earlier and names_in(tmp_path) == ["out", "raw"]

    capsys.readouterr()
    report = run(raw, tmp_path / "out")
    assert [(entry["file"], entry["line"]) for entry in report["unparsed_lines"]] == [
        ("valid.txt", line) for line in (15, 16, 17)
    ]
    printed = capsys.readouterr().out
    assert "lines that could not be read: 3\n  valid.txt, 15, expected a token" in printed
    assert read_stored(tmp_path / "out", "validation")[2]["tokens"] == ["Paris", "IMGID:", "end"]


def test_a_split_of_which_nothing_can_be_read_is_an_error_with_its_lines(tmp_path):
    raw = write_umt_twitter(tmp_path / "raw")
    write(raw / "twitter2015/test.txt", "all wrong\n")
    with pytest.raises(SystemExit, match=r"the test split has no readable posts[^\0]*test\.txt, line 1: "):
        run(raw, tmp_path / "out")


def test_pictures_of_every_kind(tmp_path, monkeypatch):
    names = {
        "ok": jpeg(),
        "mpo": frames("MPO"),
        "png": picture("PNG"),
        "cut": jpeg()[:-150],
        "empty": b"",
        "html": b"<html>404</html>",
        "huge": png_header(50_000, 50_000),
        "heavy": jpeg() + bytes(5000),
        "gif": frames("GIF"),
        "webp": frames("WEBP"),
    }
    raw = tmp_path / "raw"
    write_twitter(raw, None)
    for name, content in names.items():
        write(raw / f"img/{name}.jpg", content)
    write(raw / "img/named.png", picture("PNG"))
    write(raw / "img/capitals.JPG", jpeg())
    write(raw / "secret.jpg", jpeg())
    (raw / "img/link.jpg").symlink_to("../secret.jpg")
    absent = ["named", "capitals", "gone"]
    posts = [*names, *absent, "link", "../secret"]
    write(raw / "train.txt", "".join(f"IMGID:{name}\nword\tO\n\n" for name in posts))
    monkeypatch.setattr(picture_files, "MAX_BYTES", 5000)

    report = run(raw, tmp_path / "out")
    rows = read_stored(tmp_path / "out")
    used = {"ok", "mpo", "png"}
    assert [row["id"] for row in rows[:-1]] == posts[:-1] and len(rows) == len(posts)
    for name, row in zip(posts, rows, strict=True):
        assert row["image"] == ({"bytes": names[name], "path": f"{name}.jpg"} if name in used else None)
    train = report["splits"]["train"]
    assert train["pictures"] == {"present": 3, "absent": 4, "unreadable": 8, "files": 3}
    assert train["irregularities"]["pictures of another format than their name says, used"] == 1
    assert train["irregularities"]["pictures under another name, not used"] == 2
    reasons = {entry["file"].removesuffix(".jpg"): entry["reason"] for entry in report["unused_pictures"]}
    assert set(reasons) == {*names, "named", "capitals", "link"} - used
    assert "2500000000 pixels" in reasons["huge"] and "more than 5000" in reasons["heavy"]
    assert reasons["gif"] == reasons["webp"] == "animated, 2 frames"
    assert reasons["named"] == "absent under this name, found as named.png"
    assert reasons["capitals"] == "absent under this name, found as capitals.JPG"
    assert [(entry["line"], "cannot be the name" in entry["reason"]) for entry in report["unparsed_lines"]] == [
        (43, True)
    ]

    assert run(raw, tmp_path / "out", "--max_pixels", "95")["splits"]["train"]["pictures"]["present"] == 0


def test_released_crops_come_in_their_order(tmp_path):
    raw = write_hvpnet_twitter(tmp_path / "raw")
    write(raw / "NER_data/twitter2015_aux_images/val/crops/0_pred_yolo_crop_14.png", b"damaged")
    report = run(raw, tmp_path / "out", "--objects", "released")
    crops = [[crop["path"] for crop in row["objects"]] for row in read_stored(tmp_path / "out")]
    assert crops == [[f"0_pred_yolo_crop_{number}.png" for number in (30, 4, 22)], [], []]
    rows = load(tmp_path / "out", tmp_path / "cache")
    assert [crop.size for crop in rows["objects"][0]] == [(1, 5), (2, 5), (3, 5)]
    assert len(read_stored(tmp_path / "out", "validation")[0]["objects"]) == 2
    assert report["objects"] == "released"
    assert [counts["crops"]["present"] for counts in report["splits"].values()] == [3, 2, 3]
    assert report["splits"]["validation"]["crops"] == {"present": 2, "absent": 1, "unreadable": 1}
    assert ("validation", "0_pred_yolo_crop_14.png") in [(e["split"], e["file"]) for e in report["unused_pictures"]]
    assert report["splits"]["train"]["irregularities"]["posts that the crop index does not know"] == 1


def test_own_crops_come_in_natural_order(tmp_path):
    raw = write_umt_twitter(tmp_path / "raw")
    for number in (10, 9, 1):
        write(tmp_path / f"own/7/{number}.png", picture("PNG", (number, 2)))
    report = run(raw, tmp_path / "out", "--objects", str(tmp_path / "own"))
    assert [crop["path"] for crop in read_stored(tmp_path / "out")[0]["objects"]] == ["1.png", "9.png", "10.png"]
    assert report["objects"] == "own"


def test_crops_that_are_not_there_are_said(tmp_path):
    raw = write_hvpnet_twitter(tmp_path / "raw")
    for path in raw.glob("NER_data/twitter2015_aux_images/*/crops/*"):
        path.unlink()
    report = run(raw, tmp_path / "out", "--objects", "released")
    assert "test: no crop was found; every post is without crops" in report["warnings"]
    assert report["splits"]["test"]["crops"] == {"present": 0, "absent": 4, "unreadable": 0}
    (raw / "NER_data/twitter2015/twitter2015_val_dict.pth").unlink()
    with pytest.raises(
        SystemExit, match="no index of the released crops .*twitter2015_val_dict.pth; leave out --objects"
    ):
        run(raw, tmp_path / "out", "--objects", "released")
    with pytest.raises(SystemExit, match="no folder of crops"):
        run(raw, tmp_path / "out", "--objects", str(tmp_path / "gone"))


def test_odd_posts_are_counted(tmp_path):
    raw = write_umt_twitter(tmp_path / "raw")
    text = "IMGID:7\na\tO\n\nIMGID:7\na\tO\n\nIMGID:8\n\u200b#x\tO\n\ufffd\tB-PER\n\u3000\tI-LOC\n\nno\tO\n\n"
    write(raw / "twitter2015/train.txt", text)
    report = run(raw, tmp_path / "out")
    assert report["splits"]["train"]["irregularities"] == {
        "I- tags without their B-, kept": 1,
        "pictures that several posts share": 1,
        "posts whose picture name repeats, id made unique": 1,
        "posts whose tokens repeat": 1,
        "posts without an IMGID line": 1,
        "tokens of white space alone": 1,
        "tokens with invisible characters": 1,
        "tokens with replacement characters (U+FFFD)": 1,
    }
    assert [row["id"] for row in read_stored(tmp_path / "out")] == ["7", "7#2", "8", "train-00003"]


def test_each_data_set_is_written_and_scripts_run_by_themselves(tmp_path, monkeypatch, capsys):
    raws = {
        "twitter2015": write_umt_twitter(tmp_path / "a"),
        "twitter2017": write_hvpnet_twitter(tmp_path / "b", "twitter2017"),
    }
    raws |= {"mnre": write_hvpnet_mnre(tmp_path / "c"), "posts": write_posts(tmp_path / "d")}
    write(tmp_path / "e/train.jsonl", '{"text": "fine"}\nbroken\n')
    scripts = {
        "mnre": ["mnre.py", "--data_dir", str(raws["mnre"])],
        "strict": ["posts.py", "--data_dir", str(tmp_path / "e"), "--output_dir", "data/strict", "--strict"],
    }
    done = {
        name: forked.run(forked.script(SCRIPTS / command[0], *command[1:], cwd=tmp_path), tmp_path / name)
        for name, command in scripts.items()
    }
    monkeypatch.chdir(tmp_path)
    printed = {}
    for name, module in (("twitter2015", twitter2015), ("twitter2017", twitter2017), ("posts", posts)):
        module.main(["--data_dir", str(raws[name])])
        printed[name] = capsys.readouterr().out
    printed["mnre"] = done["mnre"].stdout
    assert done["mnre"].returncode == 0, done["mnre"].stderr
    for name in raws:
        assert f"dataset: {name}\n" in printed[name] and f"wrote data/{name} (" in printed[name]
        assert read_report(tmp_path / "data" / name)["splits"]["train"]["posts"] == 3
    errors = done["strict"].stderr
    assert done["strict"].returncode == 1 and not (tmp_path / "data/strict").exists()
    last = errors[errors.index("posts.py: ") :]
    assert last.startswith("posts.py: 1 lines cannot be read:\n  train.jsonl, line 2: ") and "Traceback" not in errors


REAL = {"train": (4000, 64439, 6166, 6352), "validation": (1000, 16178, 1541, 1594), "test": (3257, 52822, 5072, 5207)}


def test_real_files(shared_data, tmp_path):
    report = run(shared_data, tmp_path / "out")
    texts = shared_data / "NER_data/twitter2015"
    check_real_files(report, texts, tmp_path / "out", tmp_path / "cache", REAL)
    pictures = sorted(path.name for path in (shared_data / "NER_data/twitter2015_images").iterdir())
    stored = [row["image"] for split in REAL for row in read_stored(tmp_path / "out", split) if row["image"]]
    assert sorted(image["path"] for image in stored) == pictures
    for image in stored:
        assert image["bytes"] == (shared_data / "NER_data/twitter2015_images" / image["path"]).read_bytes()
    orphans = [counts["irregularities"]["I- tags without their B-, kept"] for counts in report["splits"].values()]
    assert orphans == [REAL[split][3] - REAL[split][2] for split in REAL]
    assert report["splits"]["validation"]["irregularities"]["tokens of white space alone"] == 1


def test_editions_of_the_real_files(shared_data, tmp_path):
    for split, name in TEXT_FILES.items():
        content = (shared_data / "NER_data/twitter2015" / name).read_bytes()
        if split == "validation":
            content = content.replace(b"\n", b"\r\n")
        if split == "test":
            content = content.replace(b"\tB-PER", b"\tB-ORG", 239)
        write(tmp_path / "raw" / name, content)
    edition = read_raw(tmp_path / "raw", tmp_path / "cache").about["edition"]
    assert re.fullmatch(
        r"train: UMT [^,;]*; validation: UMT .*, but for line ends or lines left out; test: relabelled .*", edition
    )
    texts = shared_data / "NER_data/twitter2017"
    for name in TEXT_FILES.values():
        write(tmp_path / "wrong" / name, (texts / name).read_bytes())
    with pytest.raises(ValueError, match="is a file of twitter2017, not of twitter2015"):
        read_raw(tmp_path / "wrong", tmp_path / "cache")


def test_released_crops_of_the_real_files(shared_data, tmp_path):
    raw = read_raw(shared_data, tmp_path / "cache", objects="released")
    crops = {split: [len(post.crops) for post in posts] for split, posts in raw.splits.items()}
    assert {split: len(counts) for split, counts in crops.items()} == {split: REAL[split][0] for split in REAL}
    assert min(map(sum, crops.values())) > 1900
    unknown = [counts["posts that the crop index does not know"] for counts in raw.irregularities.values()]
    assert unknown == [0, 1, 0]
