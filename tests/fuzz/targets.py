"""What the parsers of raw data promise for any file: rows that can be stored, or a reason; never another exception."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from modeling_i2srm.prepare.builder import NER_TAGS, mre_features
from modeling_i2srm.prepare.conll import BIO_TAG, read_conll
from modeling_i2srm.prepare.conll_columns import read_conll_columns
from modeling_i2srm.prepare.mnre import RELATIONS, check_row, count_irregularities, read_rows
from modeling_i2srm.prepare.picture_files import is_plain_name, read_crop_index
from modeling_i2srm.prepare.posts import Posts, UserPostsConfig
from modeling_i2srm.prepare.twitter import count_irregularities as count_tags
from modeling_i2srm.prepare.twitter import digests

MNRE_FEATURES = mre_features(RELATIONS)


def check_problems(problems: list, content: bytes):
    """Each problem names a line of the file and gives a reason that can be written."""
    for problem in problems:
        assert 1 <= problem.line <= content.count(b"\n") + content.count(b"\r") + 2, problem
        assert problem.reason and len(problem.reason) < 2000, problem
        str(problem).encode(errors="replace")


def conll(path: Path, content: bytes):
    """The files of Twitter-2015 and Twitter-2017, and a user's CoNLL files."""
    for read, options in ((read_conll, {"tag_names": NER_TAGS}), (read_conll, {}), (read_conll_columns, {})):
        try:
            file = read(path, **options)
        except ValueError as error:
            assert read is read_conll_columns and path.name in str(error), error
            continue
        check_problems(file.problems, content)
        for post in file.posts:
            assert len(post.tokens) == len(post.tags) > 0 and all(post.tokens)
            assert all(BIO_TAG.fullmatch(tag) for tag in post.tags) or read is read_conll_columns
            assert "tag_names" not in options or set(post.tags) <= set(NER_TAGS)
            assert post.image_id is None or is_plain_name(post.image_id)
            pa.array(post.tokens)
        digests(file.posts), count_tags(file.posts)


def mnre(path: Path, content: bytes):
    """The files of MNRE: a Python literal a line."""
    rows, problems = read_rows(path)
    check_problems(problems, content)
    assert len({number for number, _ in rows}) == len(rows)
    for _, row in rows:
        check_row(row)
        spans = {name: dict(zip(("start", "end"), row[key]["pos"], strict=True)) for name, key in HEAD_TAIL}
        values = {"id": "", "tokens": row["token"], "relation": row["relation"], "image": None, "objects": []}
        store({**values, **spans}, MNRE_FEATURES)
    count_irregularities([row for _, row in rows])


HEAD_TAIL = (("head", "h"), ("tail", "t"))


def store(row: dict, features):
    """Bring a row into the form in which it is written."""
    pa.Table.from_pylist([features.encode_example(row)], schema=features.arrow_schema)


def own_posts(path: Path, content: bytes):
    """A user's posts, as JSONL, CSV or TSV by the name of the file."""
    builder = Posts.__new__(Posts)
    builder.config = UserPostsConfig(data_dir=str(path.parent))
    try:
        features = builder._info().features
    except ValueError as error:
        assert path.name in str(error), error
        return
    raw = builder.read_raw()
    check_problems(raw.problems, content)
    posts = raw.splits["train"]
    assert len({post.columns["id"] for post in posts}) == len(posts)
    for post in posts:
        assert len(post.columns.get("ner_tags", post.columns["tokens"])) == len(post.columns["tokens"]) > 0
        for file in post.files:
            assert file.resolve().is_relative_to(path.parent.resolve())
        store({**post.columns, "image": None, "objects": []}, features)


def crop_index(path: Path, content: bytes):
    """The released indices of crops, which `torch.save` wrote."""
    try:
        index = read_crop_index(path)
    except ValueError as error:
        assert str(path) in str(error), error
        return
    for crops in index.values():
        assert all(is_plain_name(name) for name in crops)


# name -> (name of the file, check)
TARGETS: dict[str, tuple[str, Callable[[Path, bytes], None]]] = {
    "conll": ("train.txt", conll),
    "mnre": ("ours_train.txt", mnre),
    "posts_jsonl": ("train.jsonl", own_posts),
    "posts_csv": ("train.csv", own_posts),
    "posts_tsv": ("train.tsv", own_posts),
    "crop_index": ("index.pth", crop_index),
}


def check(target: str, content: bytes, folder: Path):
    """Give a file of this content to a parser; raises whatever the parser must not raise."""
    name, run = TARGETS[target]
    path = folder / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, content)
    os.close(descriptor)
    run(path, content)
