"""MVSA-Single: two layouts become the same rows, near-duplicates stay in one split, and irregularities are counted."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from raw_files import load, read_report, read_stored, write

from modeling_i2srm.prepare.builder import RawData
from modeling_i2srm.prepare.mvsa import (
    COPY,
    LEFT_OUT,
    Mvsa,
    find_near,
    find_words,
    group_tweets,
    hash_photo,
    main,
    read_jsonl,
    read_labels,
    split_of,
)
from modeling_i2srm.prepare.post_splits import picture_keys
from modeling_i2srm.training.tasks import CLASSIFICATION

HEADER = "id,text_label,image_label,label,split,group"


class Post(NamedTuple):
    id: int
    original: str
    text: str
    labels: str  # of text and photo
    stated: str  # what a copy states: merged label, split, group
    photo: int


POSTS = [
    Post(1, "RT @ann: Good day to you http://t.co/1…", "RT @user: Good day to you http://t.co/1…", "positive,neutral",
         "positive,train,1", 1),
    Post(2, "good  DAY to you @bob_2\r\n", "good DAY to you @user", "neutral,negative", "negative,train,1", 2),
    Post(19, "@ann", "@user", "neutral,neutral", "neutral,train,1", 1),
    Post(4, "#名古屋 went ???", "#名古屋 went ???", "negative,negative", "negative,test,4", 4),
    Post(22, "so sad", "so sad", "negative,neutral", "negative,val,22", 22),
    Post(24, "so sad ...", "so sad ...", "positive,negative", ",val,22", 22),
]  # fmt: skip
SPLITS = {"train": ["1", "2", "19"], "validation": ["22"], "test": ["4"]}


def photo(seed: int, quality: int = 90) -> bytes:
    """A JPEG of grey squares, whose hash has few bits in common with those of other seeds."""
    squares = np.random.default_rng(seed).integers(0, 256, (16, 17), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(squares).resize((68, 64), Image.Resampling.NEAREST).save(file, "JPEG", quality=quality)
    return file.getvalue()


def write_photos(folder: Path) -> None:
    """Equal files for 22 and 24, and a similar photo for 1 and 19."""
    for post in POSTS:
        write(folder / f"{post.id}.jpg", photo(post.photo, quality=60 if post.id == 19 else 90))


def write_original(root: Path) -> Path:
    lines = "".join(f"{post.id}\t{post.labels}\r\n" for post in POSTS)
    write(root / "MVSA_Single/labelResultAll.txt", f"ID\ttext,image\r\n{lines}")
    for post in POSTS:
        write(root / f"MVSA_Single/data/{post.id}.txt", post.original.encode("gb18030"))
    write_photos(root / "MVSA_Single/data")
    return root / "MVSA_Single"


def write_copy(root: Path) -> Path:
    lines = "".join(f"{post.id},{post.labels},{post.stated}\n" for post in POSTS)
    write(root / "copy/labels.csv", f"{HEADER}\n{lines}")
    rows = [{"id": post.id, "text": post.text} for post in POSTS]
    write(root / "copy/texts.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    write_photos(root / "copy/images")
    return root / "copy"


def convert(tmp_path: Path, *arguments: str) -> tuple[dict, dict[str, list[str]]]:
    """Make the data set; return the report and the ids of each split."""
    main(["--data_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out"), *arguments])
    ids = {split: [row["id"] for row in read_stored(tmp_path / "out", split)] for split in SPLITS}
    return read_report(tmp_path / "out"), ids


@pytest.mark.parametrize(
    ("write_raw", "arguments"), [(write_original, []), (write_copy, []), (write_copy, ["--split", "group"])]
)
def test_rows_and_counts_of_both_layouts(write_raw, arguments, tmp_path):
    folder = write_raw(tmp_path / "raw")
    report, ids = convert(tmp_path, *arguments)
    assert ids == SPLITS
    rows = load(tmp_path / "out", tmp_path / "cache")
    assert rows["text"] == [post.text for post in POSTS[:3]] and rows["objects"] == [[]] * 3
    names = CLASSIFICATION.label_names(rows.features, "mvsa")
    assert [names[label] for label in rows["label"]] == ["positive", "negative", "neutral"]
    stored = read_stored(tmp_path / "out", "test")[0]["image"]
    assert stored["bytes"] == next(folder.rglob("4.jpg")).read_bytes()

    train, validation, test = report["splits"].values()
    assert (train["words"], train["labels"]) == (13, {"positive": 1, "neutral": 1, "negative": 1})
    assert [counts[LEFT_OUT] for counts in (train, validation, test)] == [0, 1, 0]
    pairs = validation["labels of text and photo"]
    assert {name: count for name, count in pairs.items() if count} == {
        "negative and neutral": 1,
        "positive and negative": 1,
    }
    assert len(pairs) == 9
    assert train["irregularities"] == {
        "retweets (RT @user)": 1,
        "texts of fewer than three words but handles and links": 1,
        "texts truncated (they end with an ellipsis)": 1,
        "texts with a handle": 3,
        "texts with a link": 1,
        "texts without words but handles and links": 1,
    }
    assert validation["irregularities"] == {  # 24 is left out, and counted
        "texts of fewer than three words but handles and links": 2,
        "texts truncated (they end with an ellipsis)": 1,
    }
    assert test["irregularities"] == {
        "texts of fewer than three words but handles and links": 1,
        "texts with ??? (lost signs)": 1,
        "texts with a hashtag": 1,
        "texts with another script than Latin": 1,
    }
    counts = {name: tuple(count.values()) for name, count in report["duplicates"].items()}
    assert counts == {
        "equal texts": (0, 0, 0, 0),
        "texts of the same three or more words": (1, 2, 2, 1),
        "equal photo files": (1, 2, 2, 1),
        "groups of near-duplicates": (2, 5, 3, 2),
    }
    assert report["warnings"] == ["5 posts are in 2 groups of near-duplicates; in 2 of them the merged labels differ"]
    assert report["groups of near-duplicates in several splits"] == 0
    assert report["split"] == ("file" if write_raw is write_copy and not arguments else "group")
    if arguments:
        assert report["posts of another group than in labels.csv"] == 0
    if report["split"] == "group":
        assert report["pairs of photos within 10 of 256 bits"] == 2
    if write_raw is write_original:
        assert report["texts changed (@name to @user, white space to one space)"] == 3
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "for research that is not commercial, not to be\nrepublished" in card and "niu2016sentiment" in card


@pytest.mark.parametrize(("kind", "labels"), [("text", ["negative", "positive"]), ("photo", ["neutral", "negative"])])
def test_the_label_of_one_of_them_leaves_no_post_out(kind, labels, tmp_path):
    write_copy(tmp_path / "raw")
    report, ids = convert(tmp_path, "--labels", kind)
    assert ids == SPLITS | {"validation": ["22", "24"]} and report["labels"] == kind
    rows = load(tmp_path / "out", tmp_path / "cache", "validation")
    assert [rows.features["label"].names[label] for label in rows["label"]] == labels
    assert report["splits"]["validation"][LEFT_OUT] == 0


def test_a_split_that_separates_duplicates_is_kept_and_counted(tmp_path):
    path = write_copy(tmp_path / "raw") / "labels.csv"
    path.write_text(path.read_text().replace("19,neutral,neutral,neutral,train,1", "19,neutral,neutral,neutral,test,1"))
    report, ids = convert(tmp_path)
    assert ids["test"] == ["19", "4"] and report["groups of near-duplicates in several splits"] == 1
    path.write_text(path.read_text().replace("test,1\n", "train,19\n"))
    report, ids = convert(tmp_path, "--split", "group")
    assert ids == SPLITS and report["posts of another group than in labels.csv"] == 1


def replace(name: str, old: str, new: str) -> Callable[[Path], object]:
    """A change of a file of the raw folder."""
    return lambda root: write(root / name, (root / name).read_bytes().replace(old.encode(), os.fsencode(new), 1))


IN_ORIGINAL = [
    (replace("labelResultAll.txt", "24\t", "24 "), "labelResultAll.txt, line 7: '24 positive,negative' has 2 values"),
    (replace("labelResultAll.txt", "24\tpos", "24\tcompos"), "line 7: the label 'compositive' is not one of positive"),
    (replace("labelResultAll.txt", "24\t", "024\t"), "line 7: the id '024' is not a number"),
    (replace("labelResultAll.txt", "24\t", "22\t"), "line 7: the id 22 occurs twice; the first line is used"),
    (lambda root: (root / "data/24.txt").unlink(), "line 7: the post 24 has no text, an empty one or an invalid one"),
    (lambda root: write(root / "data/24.txt", " \n"), "line 7: the post 24 has no text, an empty one or an invalid"),
    (
        lambda root: write(root / "data/24.txt", b"\xff so"),
        "data/24.txt, line 1: 24.txt is not GB18030: 'gb18030' codec",
    ),
]
IN_COPY = [
    (replace("labels.csv", "negative,,val", "negative,positive,val"), "line 7: the label is 'positive', but text and"),
    (replace("labels.csv", "val,22\n24", "dev,22\n24"), "labels.csv, line 6: the split 'dev' is not one of train, val"),
    (replace("labels.csv", ",val,22\n24", ",val,x\n24"), "labels.csv, line 6: the group 'x' is not a number"),
    (replace("texts.jsonl", '"id": 24', '"id": "24"'), "texts.jsonl, line 6: expected {"),
    (replace("texts.jsonl", '"id": 24', '"id": 22'), "texts.jsonl, line 6: the id 22 occurs twice"),
    (replace("texts.jsonl", '"so sad ..."', "so"), "texts.jsonl, line 6: Expecting value"),
    (
        replace("texts.jsonl", "so sad ...", "\\ud800"),
        "labels.csv, line 7: the post 24 has no text, an empty one or an",
    ),
]


@pytest.mark.parametrize(
    ("write_raw", "change", "problem"),
    [(write_original, *case) for case in IN_ORIGINAL] + [(write_copy, *case) for case in IN_COPY],
)
def test_what_cannot_be_read_is_listed_with_file_and_line(write_raw, change, problem, tmp_path):
    change(write_raw(tmp_path))
    raw = Mvsa(data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), labels="text").read_raw()
    assert problem in str(raw.problems[0])
    ids = {post.columns["id"] for posts in raw.splits.values() for post in posts}
    assert {str(post.id) for post in POSTS} - ids == {"22" if "labels.csv, line 6" in problem else "24"}


def test_strict_refuses_lines_that_cannot_be_read(tmp_path):
    replace("labels.csv", "24,", "x,")(write_copy(tmp_path / "raw"))
    report, _ = convert(tmp_path)
    assert [entry["line"] for entry in report["unparsed_lines"]] == [7]
    assert "1 texts have no readable line in labels.csv: 24" in report["warnings"]
    with pytest.raises(SystemExit, match=r"1 lines cannot be read:\n  labels\.csv, line 7: the id 'x' is not a number"):
        convert(tmp_path, "--strict")


def test_texts_in_utf8_are_read_as_that_and_named(tmp_path):
    folder = write_original(tmp_path / "raw")
    write(folder / "data/4.txt", "\ufeff" + POSTS[3].original)
    write(folder / "data/25.txt", "no label")
    report, _ = convert(tmp_path)
    assert read_stored(tmp_path / "out", "test")[0]["text"] == POSTS[3].text
    assert report["warnings"][:2] == [
        "1 texts are UTF-8, not GB18030, and read as that: 4.txt",
        "1 texts have no readable line in labelResultAll.txt: 25",
    ]


def test_posts_without_a_photo_stay_and_are_compared_by_their_words(tmp_path):
    folder = write_original(tmp_path / "raw")
    (folder / "data/2.jpg").unlink()
    write(folder / "data/19.jpg", photo(1)[:-200])
    report, ids = convert(tmp_path)
    assert ids == {"train": ["1", "2"], "validation": ["19", "22"], "test": ["4"]}
    assert "2 photos are absent or cannot be read: not compared with others" in report["warnings"]
    assert report["absent_pictures"]["first"] == [{"split": "train", "file": "2.jpg"}]
    assert [entry["file"] for entry in report["unused_pictures"]] == ["19.jpg"]
    assert [row["image"] is None for row in read_stored(tmp_path / "out")] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (
            ["--split", "file"],
            lambda root: None,
            "labelResultAll.txt states no splits; have them computed: --split group",
        ),
        (
            [],
            replace("labelResultAll.txt", "image", "image\ttext,image"),
            "MVSA-Multiple, with the labels of three people",
        ),
        ([], replace("labelResultAll.txt", "pos", "\udce9"), "labelResultAll.txt is not UTF-8"),
        ([], lambda root: write_copy(root.parent), r"there are: .*labelResultAll.txt, .*labels.csv; e.g. --data_dir "),
        ([], lambda root: (root / "labelResultAll.txt").unlink(), "there are: none; e.g. --data_dir RAW/MVSA_Single"),
        (["--push_to_hub", "ann/mvsa"], lambda root: None, "2"),
    ],
)
def test_wrong_folders_and_options_are_errors(arguments, change, message, tmp_path, capsys):
    change(write_original(tmp_path / "raw"))
    with pytest.raises(SystemExit, match=message):
        convert(tmp_path, *arguments)
    if arguments[:1] == ["--push_to_hub"]:
        assert "--push_to_hub needs --private: the tweets and photos must not be" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("labels", "both"), ("split", "random")])
def test_unknown_settings_are_refused(name, value, tmp_path):
    write_copy(tmp_path)
    builder = Mvsa(data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"), **{name: value})
    with pytest.raises(ValueError, match=f"{name} '{value}': expected "):
        builder.read_raw()


def test_words_are_those_without_retweet_handles_and_links():
    assert find_words("RT @Bob_1: It's #RT-ing rt 名古屋@x http:/…") == ("it", "s", "ing", "名古屋")
    assert find_words("@bob https://t.co/a RT") == ()


def test_photos_are_near_up_to_10_bits():
    one = np.zeros(256, dtype=bool)
    near, far = one.copy(), one.copy()
    near[:10], far[-11:] = True, True
    assert find_near([one, None, far, near]) == [(0, 3)]
    assert find_near([None]) == []


@pytest.mark.parametrize(("group", "split"), [(1, "train"), (4, "test"), (22, "validation")])
def test_the_split_of_a_group_is_that_of_its_smallest_id(group, split):
    assert split_of(group) == split


def find_real_files(shared_data: Path) -> Path:
    if not (folder := shared_data / "mvsa_single").is_dir():
        pytest.skip(f"no {folder}")
    return folder


def test_the_real_files(shared_data, tmp_path):
    """All counts that are published with the copy."""
    folder = find_real_files(shared_data)
    raw = (builder := Mvsa(data_dir=str(folder), cache_dir=str(tmp_path))).read_raw()
    assert raw.problems == [] and [len(posts) for posts in raw.splits.values()] == [3558, 489, 464]
    assert [counts[LEFT_OUT] for counts in builder.counts.values()] == [289, 28, 41]
    pairs = [counts["labels of text and photo"].values() for counts in builder.counts.values()]
    assert [sum(column) for column in zip(*pairs, strict=True)] == [1398, 255, 78, 1030, 470, 421, 280, 213, 724]
    assert raw.irregularities["train"] + raw.irregularities["validation"] + raw.irregularities["test"] == {
        "retweets (RT @user)": 1977,
        "texts truncated (they end with an ellipsis)": 869,
        "texts with a link": 1351,
        "texts with a handle": 2635,
        "texts with a hashtag": 2426,
        "texts with ??? (lost signs)": 258,
        "texts with another script than Latin": 104,
        "texts without words but handles and links": 96,
        "texts of fewer than three words but handles and links": 251,
    }
    assert {name: list(count.values()) for name, count in raw.about["duplicates"].items()} == {
        "equal texts": [172, 380, 10, 54],
        "texts of the same three or more words": [203, 481, 13, 62],
        "equal photo files": [55, 112, 3, 14],
        "groups of near-duplicates": [221, 528, 30, 67],
    }
    assert raw.about["texts of the same words in several splits"] == 3
    assert raw.about["groups of near-duplicates in several splits"] == 0


def test_computed_groups_are_those_of_the_real_files(shared_data):
    """Of the first ids; all 4,869 are compared by --split group."""
    folder = find_real_files(shared_data)
    texts = read_jsonl(folder / COPY.texts, RawData({}, [], {}, {}, {}))
    tweets = read_labels(folder / COPY.labels, COPY, texts, [])[:200]
    words = [one if len(one := find_words(tweet.text)) > 2 else None for tweet in tweets]
    paths = [folder / "images" / tweet.photo for tweet in tweets]
    files = picture_keys([(tweet.photo, path) for tweet, path in zip(tweets, paths, strict=True)])
    groups = group_tweets(tweets, words, files, find_near([hash_photo(path) for path in paths]))
    assert groups == [tweet.group for tweet in tweets] and len(set(groups)) < len(groups)
    assert [split_of(group) for group in groups] == [tweet.split for tweet in tweets]
