"""One file becomes train, validation and test: seeded, of the sizes that are given, and without leaks between them."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import jpeg, read_report, read_stored, write

from modeling_i2srm.prepare.post_splits import check_sizes, cut, group_posts, picture_keys, text_key
from modeling_i2srm.prepare.posts import main

SPLITS = ("train", "validation", "test")


def convert(folder: Path, *arguments: str) -> tuple[dict, dict[str, list[str]]]:
    """Make a data set; return the report and the texts of each split."""
    main(["--data_dir", str(folder / "raw"), "--output_dir", str(folder / "out"), *arguments])
    report = read_report(folder / "out")
    return report, {split: [" ".join(row["tokens"]) for row in read_stored(folder / "out", split)] for split in SPLITS}


def write_rows(folder: Path, name: str, rows: list[dict]) -> None:
    write(folder / "raw" / name, "".join(f"{json.dumps(row)}\n" for row in rows))


TEXTS = [{"text": f"post {number}"} for number in range(20)]


def test_a_single_file_is_cut(tmp_path):
    write_rows(tmp_path, "tweets.jsonl", TEXTS)
    report, texts = convert(tmp_path)
    assert [len(texts[split]) for split in SPLITS] == [16, 2, 2]
    assert sorted(sum(texts.values(), [])) == sorted(row["text"] for row in TEXTS)
    assert all(posts == sorted(posts, key=lambda text: int(text[5:])) for posts in texts.values())
    assert (
        "tweets.jsonl was cut into train 16, validation 2, test 2 posts (--split_seed 0); posts with the same text or "
        "picture are in the same split: 20 groups, the largest of 1"
    ) in report["warnings"]
    assert report["texts"] == dict.fromkeys(SPLITS, "tweets.jsonl")
    assert convert(tmp_path)[1] == texts
    assert convert(tmp_path, "--split_seed", "1")[1] != texts
    assert [len(posts) for posts in convert(tmp_path, "--split_sizes", "2", "1", "1")[1].values()] == [10, 5, 5]
    assert [len(posts) for posts in convert(tmp_path, "--split_sizes", "0.7", "0", "0.3")[1].values()] == [14, 0, 6]
    report, texts = convert(tmp_path, "--split_sizes", "1", "0", "0")
    assert [len(posts) for posts in texts.values()] == [20, 0, 0]


def test_a_train_file_is_cut_only_if_sizes_are_given(tmp_path):
    write_rows(tmp_path, "train.jsonl", TEXTS)
    report, texts = convert(tmp_path)
    assert len(texts["train"]) == 20
    assert (
        "no file of the split validation and test; to cut it from train: --split_sizes 0.8 0.1 0.1"
        in report["warnings"]
    )
    assert [len(posts) for posts in convert(tmp_path, "--split_sizes", "8", "1", "1")[1].values()] == [16, 2, 2]
    write_rows(tmp_path, "test.jsonl", [{"text": "apart"}])
    report, texts = convert(tmp_path)
    assert [len(posts) for posts in texts.values()] == [20, 0, 1]
    assert any(warning.startswith("no file of the split validation;") for warning in report["warnings"])
    report, texts = convert(tmp_path, "--split_sizes", "0.8", "0.2", "0.1")
    assert [len(posts) for posts in texts.values()] == [16, 4, 1] and texts["test"] == ["apart"]
    assert report["texts"] == {"train": "train.jsonl", "validation": "train.jsonl", "test": "test.jsonl"}


def test_what_cannot_be_cut_stays_in_train(tmp_path):
    write_rows(tmp_path, "tweets.jsonl", [{"text": "same"}] * 9 + [{"text": "other"}])
    report, texts = convert(tmp_path)
    assert len(texts["train"]) == 10
    assert any("was not cut into train, validation, test: its 10 posts are 2 groups" in w for w in report["warnings"])
    write_rows(tmp_path / "b", "test.jsonl", TEXTS)
    with pytest.raises(SystemExit, match="--split_sizes: no train file to cut, only test"):
        convert(tmp_path / "b", "--split_sizes", "0.8", "0.1", "0.1")
    for sizes in (["0", "1", "1"], ["1", "-1", "1"], ["inf", "1", "1"], ["nan", "1", "1"]):
        with pytest.raises(SystemExit, match="--split_sizes .*: expected the shares of train, validation and test"):
            convert(tmp_path, "--split_sizes", *sizes)


def test_the_same_text_or_picture_is_never_on_both_sides(tmp_path):
    for name, colour in (("a", "red"), ("copy of a", "red"), ("b", "blue"), ("c", "tan")):
        write(tmp_path / f"raw/{name}.jpg", jpeg(colour=colour))
    chain = [
        {"text": "one", "image": "a.jpg"},
        {"text": "two", "image": "copy of a.jpg"},
        {"text": "TWO", "image": "b.jpg"},
        {"text": "three", "image": ".\\b.jpg"},
        {"text": "three", "image": "gone.jpg"},
        {"text": "four", "image": "gone.jpg"},
    ]
    write_rows(tmp_path, "tweets.jsonl", [*chain, *TEXTS])
    for seed in ("0", "1", "2"):
        report, texts = convert(tmp_path, "--split_sizes", "0.5", "0.25", "0.25", "--split_seed", seed)
        sides = [split for split, posts in texts.items() for text in posts if not text.startswith("post")]
        assert len(sides) == 6 and len(set(sides)) == 1
        assert any("21 groups, the largest of 6" in warning for warning in report["warnings"])


def test_several_pairs_of_a_post_stay_together(tmp_path):
    pairs = [
        {"text": f"a of b {number}", "head": [0, 1], "tail": [5, 6], "relation": relation}
        for number in range(10)
        for relation in ("r", "None")
    ]
    write_rows(tmp_path, "pairs.jsonl", pairs)
    _, texts = convert(tmp_path)
    assert [len(texts[split]) for split in SPLITS] == [16, 2, 2]
    assert all(set(texts[one]).isdisjoint(texts[other]) for one in SPLITS for other in SPLITS if one != other)


def test_keys_of_texts_and_pictures(tmp_path):
    assert text_key(["Caf\u00e9", "A"]) == text_key(["cafe\u0301", "\uff41"]) != text_key(["cafe", "a"])
    one, two, other = (write(tmp_path / name, content) for name, content in (("1", "x"), ("2", "x"), ("3", "y")))
    keys = picture_keys([("1", one), ("2", two), ("3", other), ("gone", None), (None, None)])
    assert keys[0] == keys[1] != keys[2] and keys[3:] == ["gone", None]


@given(
    keys=st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=40),
    sizes=st.tuples(st.floats(0.1, 1), st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_cut_keeps_every_post_once_and_no_key_twice(keys, sizes, seed):
    groups = group_posts(keys)
    splits = cut(groups, check_sizes(sizes), seed)
    assert sorted(number for numbers in splits.values() for number in numbers) == list(range(len(keys)))
    used = [{key for number in numbers for key in keys[number]} for numbers in splits.values()]
    assert not used[0] & used[1] and not used[0] & used[2] and not used[1] & used[2]
    for split, size in zip(SPLITS[1:], sizes[1:], strict=True):
        assert len(splits[split]) <= max(1, round(len(keys) * size / sum(sizes))) and (size or not splits[split])
