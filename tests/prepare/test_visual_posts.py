"""The visual posts: rows that are well formed, the same for a seed, and not solvable by a shortcut."""

import random
import sys
from collections import Counter, defaultdict

import datasets
import numpy as np
import pytest

from modeling_i2srm.prepare import parquet, pictograms, visual_posts
from modeling_i2srm.prepare.builder import MNER_FEATURES, NER_TAGS, write_parquet
from modeling_i2srm.prepare.visual_posts import TYPES, VisualPosts, make_posts, split_names

SMALL = {"train": 12, "validation": 5, "test": 6}


@pytest.fixture
def texts(monkeypatch):
    """Make posts of the default size without spending time on their pictures."""
    monkeypatch.setattr(visual_posts, "draw_picture", lambda rng, kinds: pictograms.Picture("picture", [], []))
    monkeypatch.setattr(visual_posts, "cut_objects", lambda rng, picture: ["crop"])
    return {split: list(make_posts(split, count)) for split, count in (("train", 3600), ("test", 400))}


def entities(row: dict) -> list[tuple[str, str]]:
    found = []
    for token, tag in zip(row["tokens"], row["ner_tags"], strict=True):
        if tag.startswith("B-"):
            found.append((token, tag[2:]))
        elif tag.startswith("I-"):
            found[-1] = (f"{found[-1][0]} {token}", found[-1][1])
    return found


def pixels(row: dict) -> list[bytes]:
    return [picture.tobytes() for picture in [row["image"], *row["objects"]] if picture]


def test_same_seed_gives_the_same_rows():
    first, second = (list(make_posts("test", 30, seed=3)) for _ in range(2))
    for (evidence, row), (other_evidence, other) in zip(first, second, strict=True):
        assert evidence == other_evidence
        assert [row[key] for key in ("id", "tokens", "ner_tags")] == [
            other[key] for key in ("id", "tokens", "ner_tags")
        ]
        assert pixels(row) == pixels(other)
    assert [row["tokens"] for _, row in make_posts("test", 30, seed=4)] != [row["tokens"] for _, row in first]


def test_rows_are_well_formed():
    posts = list(make_posts("validation", 100, seed=1))
    assert Counter(evidence for evidence, _ in posts) == {"picture": 60, "text": 33, "none": 7}
    assert len({row["id"] for _, row in posts}) == 100
    for evidence, row in posts:
        assert all(token and token == token.strip() for token in row["tokens"])
        assert set(row["ner_tags"]) <= set(NER_TAGS)
        for previous, tag in zip(["O", *row["ner_tags"]], row["ner_tags"], strict=False):
            assert not tag.startswith("I-") or previous[2:] == tag[2:]
        assert len(entities(row)) in {"none": (0,)}.get(evidence, (1, 2))
        if row["image"] is None:
            assert evidence != "picture" and row["objects"] == []
        else:
            assert row["image"].size == (64, 64) and row["image"].mode == "RGB"
            assert len(row["objects"]) in (1, 2) and min(side for crop in row["objects"] for side in crop.size) > 8


def test_types_cannot_be_told_from_the_text(texts):
    train, test = ([row for evidence, row in texts[split] if evidence == "picture"] for split in ("train", "test"))
    counts = Counter(entities(row)[0] for row in train)
    for name in split_names(0)["train"]:
        times = [counts[name, type] for type in TYPES]
        assert sum(times) >= 3 and max(times) - min(times) <= 3

    seen = defaultdict(Counter)
    for row in train:
        for word in set(row["tokens"]):
            seen[word][entities(row)[0][1]] += 1
    correct = 0
    for row in test:  # naive Bayes over the words
        scores = {
            type: sum(np.log((seen[word][type] + 1) / (seen[word].total() + 4)) for word in set(row["tokens"]))
            for type in TYPES
        }
        correct += max(scores, key=scores.get) == entities(row)[0][1]
    assert correct / len(test) < 0.36


def test_some_names_are_kept_for_the_test_split(texts):
    names = {split: [name for _, row in texts[split] for name, _ in entities(row)] for split in texts}
    assert set(names["train"]) <= set(split_names(0)["train"])
    unseen = [name not in set(names["train"]) for name in names["test"]]
    assert 0.12 < sum(unseen) / len(unseen) < 0.3


def test_types_cannot_be_told_from_colours():
    features, labels = [], []
    for index in range(320):
        image = np.asarray(pictograms.draw_picture(random.Random(index), [TYPES[index % 4]]).image, dtype=float)
        features.append([*image.mean((0, 1)), *image.std((0, 1))])
        labels.append(index % 4)
    features, labels = np.array(features), np.array(labels)
    centroids = np.stack([features[:160][labels[:160] == label].mean(0) for label in range(4)])
    guesses = np.linalg.norm(features[160:, None] - centroids, axis=-1).argmin(-1)
    assert (guesses == labels[160:]).mean() < 0.4


def test_crops_tell_nothing_by_their_number():
    number = Counter()
    for index in range(400):
        white = pictograms.Image.new("RGB", (64, 64), "white")
        picture = pictograms.Picture(white, [(10, 10, 40, 40)] if index % 2 else [], [(44, 44, 60, 60)])
        crops = pictograms.cut_objects(random.Random(index), picture)
        number[index % 2, len(crops)] += 1
        areas = [crop.width * crop.height for crop in crops]
        assert areas == sorted(areas, reverse=True)
    assert all(80 < count < 120 for count in number.values()) and len(number) == 4


def test_a_picture_may_show_two_pictograms():
    for index in range(30):
        picture = pictograms.draw_picture(random.Random(index), ["PER", "ORG"])
        assert len(picture.pictograms) == 2
        assert not pictograms.overlap(*picture.pictograms)
        assert all(0 <= low and high <= 64 for x, y, x2, y2 in picture.pictograms for low, high in ((x, x2), (y, y2)))
        assert len(pictograms.cut_objects(random.Random(index), picture)) == 2


def test_parquet_keeps_schema_and_pictures(tmp_path):
    write_parquet(VisualPosts, tmp_path / "posts", seed=5, **SMALL)
    loaded = datasets.load_dataset(str(tmp_path / "posts"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == SMALL
    for split, rows in loaded.items():
        assert rows.features == MNER_FEATURES
        for row, (_, made) in zip(rows, make_posts(split, SMALL[split], seed=5), strict=True):
            assert row["id"] == made["id"] and row["tokens"] == made["tokens"]
            assert [NER_TAGS[tag] for tag in row["ner_tags"]] == made["ner_tags"]
            assert pixels(row) == pixels(made)
    assert all(
        "bytes" in row["image"] for row in rows.cast_column("image", datasets.Image(decode=False)) if row["image"]
    )


def test_writing_again_replaces_only_its_own_result(tmp_path):
    folder = tmp_path / "test-data"  # a name that load_dataset could mistake for a split
    write_parquet(VisualPosts, folder, seed=1, **SMALL)
    files = {path.name: path.read_bytes() for path in folder.glob("data/*")}
    assert list(files) and all(name.endswith("-00000-of-00001.parquet") for name in files)
    write_parquet(VisualPosts, folder, seed=1, **SMALL)
    assert {path.name: path.read_bytes() for path in folder.glob("data/*")} == files
    write_parquet(VisualPosts, folder, seed=2, **SMALL)
    assert {path.name: path.read_bytes() for path in folder.glob("data/*")} != files
    assert len(datasets.load_dataset(str(folder), split="test", cache_dir=str(tmp_path / "cache"))) == SMALL["test"]

    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="notes.txt"):
        write_parquet(VisualPosts, folder, seed=3, **SMALL)
    assert (folder / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "test-data"]


def test_a_failed_run_leaves_the_earlier_result(tmp_path, monkeypatch):
    write_parquet(VisualPosts, tmp_path / "posts", **SMALL)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*args):
        raise ValueError("no ink")

    monkeypatch.setattr(visual_posts, "draw_picture", fail)
    with pytest.raises(ValueError, match="no ink"):
        write_parquet(VisualPosts, tmp_path / "posts", **SMALL)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_large_splits_are_written_in_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(VisualPosts, "DEFAULT_WRITER_BATCH_SIZE", 2)
    monkeypatch.setattr(parquet, "BYTES_TOGETHER", 1)
    monkeypatch.setattr(parquet, "MAX_FILE_BYTES", 60_000)
    write_parquet(VisualPosts, tmp_path / "posts", **SMALL)
    names = sorted(path.name for path in tmp_path.glob("posts/data/train-*"))
    assert len(names) > 1 and names[-1] == f"train-{len(names) - 1:05d}-of-{len(names):05d}.parquet"
    rows = datasets.load_dataset(str(tmp_path / "posts"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"][:] == [f"train-{index:05d}" for index in range(SMALL["train"])]


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="validation split has no rows"):
        write_parquet(VisualPosts, tmp_path / "posts", **{**SMALL, "validation": 0})
    assert list(tmp_path.iterdir()) == []


def test_script(tmp_path, monkeypatch):
    counts = [word for split, count in SMALL.items() for word in (f"--{split}", str(count))]
    command = ["visual_posts.py", "--output_dir", str(tmp_path / "posts"), "--seed", "7", *counts]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.chdir(tmp_path)
    visual_posts.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["posts", "posts.png"]
    assert sorted(path.name for path in (tmp_path / "posts").iterdir()) == [
        "README.md",
        "data",
        "dataset_info.json",
        "report.json",
    ]
    card = (tmp_path / "posts/README.md").read_text(encoding="utf-8")
    assert "- seed: 7" in card and "counted strictly" not in card and "files that circulate" not in card
