"""The visual posts: rows that are well formed, the same for a seed, and not solvable by a shortcut."""

import functools
import json
import random
import sys
from collections import Counter, defaultdict

import datasets
import numpy as np
import pytest

from modeling_i2srm.pipeline_i2srm import find_entities
from modeling_i2srm.prepare import parquet, pictograms, visual_posts
from modeling_i2srm.prepare.builder import NER_TAGS, joint_features, write_parquet
from modeling_i2srm.prepare.pictograms import DISTRACTORS, PICTOGRAMS, cut_objects, draw_picture
from modeling_i2srm.prepare.visual_posts import VisualPosts, make_posts
from modeling_i2srm.prepare.visual_scenes import RELATION_TYPES, RELATIONS, TYPES
from modeling_i2srm.prepare.visual_words import split_names

SMALL = {"train": 12, "validation": 5, "test": 6}
SIZES = {"train": 4500, "test": 500}
COLUMNS = ("id", "tokens", "ner_tags", "relations", "regions")


@pytest.fixture(scope="module")
def posts():
    """Posts of the default size, made without spending time on their pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visual_posts, "draw_picture", lambda rng, kinds: pictograms.Picture("picture", sorted(kinds), []))
        patch.setattr(visual_posts, "cut_objects", lambda rng, picture: (picture.kinds, picture.kinds))
        return {split: list(make_posts(split, count)) for split, count in SIZES.items()}


def entities(row: dict) -> list[tuple[str, str]]:
    """The name and the type of each entity, in order."""
    return [(" ".join(row["tokens"][start:end]), type) for start, end, type in find_entities(row["ner_tags"])]


def pixels(row: dict) -> list[bytes]:
    return [picture.tobytes() for picture in [row["image"], *row["objects"]] if picture]


def columns(row: dict) -> list:
    return [row[name] for name in COLUMNS]


def test_same_seed_gives_the_same_rows():
    first, second = (list(make_posts("test", 20, seed=3)) for _ in range(2))
    for (scene, row), (other_scene, other) in zip(first, second, strict=True):
        assert scene == other_scene and columns(row) == columns(other) and pixels(row) == pixels(other)
    assert [columns(row) for _, row in make_posts("test", 20, seed=4)] != [columns(row) for _, row in first]


def test_rows_are_well_formed():
    posts = list(make_posts("validation", 60, seed=1))
    assert len({row["id"] for _, row in posts}) == 60
    for scene, row in posts:
        assert all(token and token == token.strip() for token in row["tokens"])
        assert len(row["tokens"]) == len(row["ner_tags"]) and set(row["ner_tags"]) <= set(NER_TAGS)
        assert tuple(type for _, type in entities(row)) == scene.types
        assert len(row["regions"]) == len(scene.types) and max(row["regions"], default=-1) < len(row["objects"])
        if scene.kinds is None:
            assert row["image"] is None and row["objects"] == [] and set(row["regions"]) <= {-1}
        else:
            assert row["image"].size == (72, 72) and row["image"].mode == "RGB" and len(row["objects"]) == 3
            assert min(side for crop in row["objects"] for side in crop.size) > 16


def test_relations_point_the_way_that_the_rule_says(posts):
    ways = Counter()
    for _, row in (post for split in posts.values() for post in split):
        types = [type for _, type in entities(row)]
        pairs = [(relation["head"], relation["tail"]) for relation in row["relations"]]
        assert len(pairs) == len(set(pairs)) and pairs == sorted(pairs)
        assert not set(pairs) & {(tail, head) for head, tail in pairs}
        for (head, tail), relation in zip(pairs, row["relations"], strict=True):
            assert (types[head], types[tail]) == RELATION_TYPES[relation["label"]]
            assert types[head] != types[tail] or head < tail
            ways[relation["label"], head < tail] += 1
    for label in ("/per/org/member_of", "/per/loc/place_of_residence", "/per/misc/present_in", "/org/loc/locate_at"):
        assert 0.3 < ways[label, True] / (ways[label, True] + ways[label, False]) < 0.7


def test_the_shares_of_posts(posts):
    for split in posts.values():
        numbers = Counter(len(row["relations"]) for _, row in split)
        shares = [numbers[number] / len(split) for number in range(4)]
        assert shares == pytest.approx([0.42, 0.42, 0.10, 0.06], abs=0.04) and sum(shares) == 1
        clauses = [clause for scene, _ in split for clause in scene.clauses]
        told = sum(len(clause.triples) for clause in clauses if clause.told)
        assert told / sum(len(clause.triples) for clause in clauses) == pytest.approx(1 / 3, abs=0.03)
        assert np.mean([scene.kinds is None for scene, _ in split]) == pytest.approx(0.08, abs=0.02)
        assert np.mean([len(scene.clauses) > 1 for scene, _ in split]) > 0.08
        chains = [
            {"/per/org/member_of", "/org/loc/locate_at"} <= {relation["label"] for relation in row["relations"]}
            for _, row in split
        ]
        assert np.mean(chains) > 0.01
        regions = [region for _, row in split for region in row["regions"]]
        assert 0.45 < np.mean(np.array(regions) >= 0) < 0.65


def test_the_region_is_the_crop_with_the_pictogram_of_the_type(posts):
    for scene, row in posts["train"]:
        kinds = row["objects"]  # of the fixture: the kind of each crop
        for region, type in zip(row["regions"], scene.types, strict=True):
            assert kinds[region] == type if region >= 0 else type not in kinds


def test_every_pictogram_has_one_meaning():
    drawings = [drawing for drawings in (*PICTOGRAMS.values(), DISTRACTORS) for drawing in drawings]
    assert len(drawings) == len(set(drawings))
    assert PICTOGRAMS.keys() == {*TYPES, *RELATIONS[1:]} and all(1 <= len(d) <= 3 for d in PICTOGRAMS.values())


def test_names_tell_nothing(posts):
    """Each name of the training posts is of each type equally often, and some names are kept for the test split."""
    for open in (False, True):
        counts = defaultdict(Counter)
        for scene, row in posts["train"]:
            opens = [o for clause in scene.clauses for o in clause.open]
            for (name, type), o in zip(entities(row), opens, strict=True):
                if o == open:
                    counts[type][name] += 1
        for type in TYPES:
            times = [counts[type][name] for name in split_names(0)["train"]]
            assert max(times) - min(times) <= 2
    names = {split: [name for _, row in posts[split] for name, _ in entities(row)] for split in posts}
    assert set(names["train"]) <= set(split_names(0)["train"])
    assert 0.15 < np.mean([name not in set(names["train"]) for name in names["test"]]) < 0.25


def test_open_types_cannot_be_told_from_single_words(posts):
    """Naive Bayes over the words of posts with one open name does hardly better than chance."""
    train, test = (
        [
            (set(row["tokens"]), scene.types[0])
            for scene, row in posts[split]
            if [c.open for c in scene.clauses] == [(True,)]
        ]
        for split in ("train", "test")
    )
    seen = defaultdict(Counter)
    for words, type in train:
        for word in words:
            seen[word][type] += 1
    correct = 0
    for words, gold in test:
        scores = {
            type: sum(np.log((seen[word][type] + 1) / (seen[word].total() + 4)) for word in words) for type in TYPES
        }
        correct += max(scores, key=scores.get) == gold
    assert len(test) > 15 and correct / len(test) < 0.5


def test_crops_tell_nothing_by_their_number_size_or_place():
    areas, places = defaultdict(list), defaultdict(Counter)
    kinds = [*PICTOGRAMS, None]
    for index in range(330):
        rng = random.Random(index)
        kind = kinds[index % len(kinds)]
        crops, shown = cut_objects(rng, draw_picture(rng, [kind] if kind else []))
        sizes = [crop.width * crop.height for crop in crops]
        assert len(crops) == 3 and sizes == sorted(sizes, reverse=True)
        if kind:
            areas[kind].append(sizes[shown.index(kind)])
            places[kind][shown.index(kind)] += 1
        else:
            areas[kind] += sizes
    means = [np.mean(values) for values in areas.values()]
    assert max(means) < 1.2 * min(means)
    assert all(3 <= places[kind][place] < 20 for kind in PICTOGRAMS for place in range(3))


def test_kinds_cannot_be_told_from_colours():
    kinds = sorted(PICTOGRAMS)
    features, labels = [], []
    for index in range(200):
        image = np.asarray(draw_picture(random.Random(index), [kinds[index % 10]]).image, dtype=float)
        features.append([*image.mean((0, 1)), *image.std((0, 1))])
        labels.append(index % 10)
    features, labels = np.array(features), np.array(labels)
    centroids = np.stack([features[:100][labels[:100] == label].mean(0) for label in range(10)])
    guesses = np.linalg.norm(features[100:, None] - centroids, axis=-1).argmin(-1)
    assert (guesses == labels[100:]).mean() < 0.25


def test_a_picture_shows_up_to_three_pictograms_apart():
    for index in range(20):
        picture = draw_picture(random.Random(index), random.Random(index).sample(sorted(PICTOGRAMS), 3))
        assert None not in picture.kinds and len(set(picture.kinds)) == 3
        boxes = [np.array(box) for box in picture.boxes]
        assert all((box >= 0).all() and (box <= 72).all() for box in boxes)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            gaps = np.maximum(boxes[one][:2], boxes[other][:2]) - np.minimum(boxes[one][2:], boxes[other][2:])
            assert gaps.max() >= 0


def test_parquet_keeps_schema_and_pictures(tmp_path):
    builder = write_parquet(VisualPosts, tmp_path / "posts", seed=5, **SMALL)
    loaded = datasets.load_dataset(str(tmp_path / "posts"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == SMALL
    for split, rows in loaded.items():
        assert rows.features == joint_features(NER_TAGS, RELATIONS)
        for row, (_, made) in zip(rows, make_posts(split, SMALL[split], seed=5), strict=True):
            assert [NER_TAGS[tag] for tag in row["ner_tags"]] == made["ner_tags"]
            assert [{**one, "label": RELATIONS[one["label"]]} for one in row["relations"]] == made["relations"]
            assert [row[name] for name in ("id", "tokens", "regions")] == [made[n] for n in ("id", "tokens", "regions")]
            pictures = [[one["image"], *one["objects"]] for one in (row, made)]
            for stored, drawn in zip(*pictures, strict=True):
                if drawn:  # JPEG changes pixels a little
                    assert np.abs(np.asarray(stored, dtype=int) - np.asarray(drawn)).mean() < 8
    scenes = [scene for scene, _ in make_posts("train", SMALL["train"], seed=5)]
    counts = builder.report["splits"]["train"]
    assert counts["posts"] == 12 and sum(counts["entities"].values()) == sum(len(scene.types) for scene in scenes)
    assert sum(counts["relations"].values()) == sum(len(scene.triples) for scene in scenes)


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
    monkeypatch.setattr(parquet, "MAX_FILE_BYTES", 20_000)
    write_parquet(VisualPosts, tmp_path / "posts", **SMALL)
    names = sorted(path.name for path in tmp_path.glob("posts/data/train-*"))
    assert len(names) > 1 and names[-1] == f"train-{len(names) - 1:05d}-of-{len(names):05d}.parquet"
    rows = datasets.load_dataset(str(tmp_path / "posts"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["id"][:] == [f"train-{index:05d}" for index in range(SMALL["train"])]


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="validation split has no rows"):
        write_parquet(VisualPosts, tmp_path / "posts", **{**SMALL, "validation": 0})
    assert list(tmp_path.iterdir()) == []


def test_script(tmp_path, monkeypatch, capsys):
    counts = [word for split, count in SMALL.items() for word in (f"--{split}", str(count))]
    command = ["visual_posts.py", "--output_dir", str(tmp_path / "posts"), "--seed", "7", *counts]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(visual_posts, "contact_sheet", functools.partial(visual_posts.contact_sheet, count=20))
    visual_posts.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["posts", "posts.png"]
    assert sorted(path.name for path in (tmp_path / "posts").iterdir()) == [
        "README.md",
        "data",
        "dataset_info.json",
        "report.json",
    ]
    card = (tmp_path / "posts/README.md").read_text(encoding="utf-8")
    assert "- seed: 7" in card and "the head of /per/org/member_of" in card
    ceilings = json.loads((tmp_path / "posts/report.json").read_text(encoding="utf-8"))["ceilings"]
    assert ceilings["both"]["triple_f1"] == 1.0 and "ceiling, both: entity_f1 100.0" in capsys.readouterr().out
