import io

import datasets
import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from PIL import Image
from tiny import noise

from modeling_i2srm.data.mismatch import KINDS, Mismatch, mismatch_pictures

POSTS, BARE = 20, (3, 8)


def png(seed: int) -> dict:
    buffer = io.BytesIO()
    noise(seed).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture(scope="module")
def split() -> Dataset:
    """Posts with a picture and a crop each, but for two without."""
    pictures = datasets.Image(decode=False)
    rows = {
        "text": [str(i) for i in range(POSTS)],
        "image": [None if i in BARE else png(i) for i in range(POSTS)],
        "objects": [[] if i in BARE else [png(100 + i)] for i in range(POSTS)],
    }
    return Dataset.from_dict(rows, Features(text=Value("string"), image=pictures, objects=List(pictures)))


@pytest.mark.parametrize("text", ["shuffled", "shuffled:", "shuffled:101", "noised:-1", "blurred:50", "shuffled:nan"])
def test_what_is_no_mismatch_is_refused_by_name(text):
    with pytest.raises(ValueError, match="shuffled:50"):
        Mismatch.parse(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [0, 50, 100])
def test_as_many_posts_as_asked_for_have_other_pictures(split, kind, percent):
    changed = mismatch_pictures(split, Mismatch(kind, percent), seed=1)
    assert changed["text"] == split["text"] and changed.features == split.features
    different = [i for i in range(POSTS) if changed[i]["image"] != split[i]["image"]]
    assert different == [i for i in range(POSTS) if changed[i]["objects"] != split[i]["objects"]]
    assert len(different) == round(percent / 100 * (POSTS - len(BARE))) and not set(BARE) & set(different)


def test_shuffled_posts_get_pictures_and_crops_of_one_other_post(split):
    own = {row["image"]["bytes"]: int(row["text"]) for row in split if row["image"]}
    changed = mismatch_pictures(split, Mismatch("shuffled", 100), seed=1)
    givers = [own[row["image"]["bytes"]] for row in changed if row["image"]]
    assert sorted(givers) == sorted(own.values())
    for row in changed:
        if row["image"]:
            giver = own[row["image"]["bytes"]]
            assert giver != int(row["text"]) and row["objects"] == split[giver]["objects"]


def test_one_post_has_none_to_exchange_with(split, caplog):
    changed = mismatch_pictures(split.select(range(3)), Mismatch("shuffled", 30), seed=1)
    assert [row["image"] for row in changed] == [row["image"] for row in split.select(range(3))]
    assert "shuffled:30 of 3 posts with pictures is one post" in caplog.text


def test_the_seed_decides_and_more_per_cent_take_in_fewer(split):
    def blanked(percent, seed):
        changed = mismatch_pictures(split, Mismatch("blanked", percent), seed)
        return {i for i in range(POSTS) if i not in BARE and changed[i]["image"] is None}

    assert blanked(50, 1) == blanked(50, 1) != blanked(50, 2)
    assert blanked(25, 1) < blanked(50, 1) < blanked(100, 1)


def test_noise_is_as_strong_as_said_and_the_same_each_time(split):
    changed = mismatch_pictures(split, Mismatch("noised", 100), seed=1)
    differences = []
    for before, after in zip(split, changed, strict=True):
        if before["image"]:
            pixels = [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).astype(int) for row in (before, after)]
            inner = (pixels[0] > 100) & (pixels[0] < 156)  # where hardly anything is clipped
            differences.append((pixels[1] - pixels[0])[inner])
    assert np.std(np.concatenate(differences)) == pytest.approx(64, rel=0.1)
    assert mismatch_pictures(split, Mismatch("noised", 100), seed=1)[0] == changed[0]
    assert mismatch_pictures(split, Mismatch("noised", 100), seed=2)[0] != changed[0]


def test_grey_squares_tell_the_number_of_pictures_and_nothing_else(split):
    changed = mismatch_pictures(split, Mismatch("grey", 100), seed=1)
    pictures = [row["image"]["bytes"] for row in changed if row["image"]]
    pictures += [crop["bytes"] for row in changed for crop in row["objects"]]
    assert len(set(pictures)) == 1 and len(pictures) == 2 * (POSTS - len(BARE))
    assert np.unique(np.asarray(Image.open(io.BytesIO(pictures[0])))).tolist() == [128]


def test_a_broken_picture_and_a_split_without_pictures_stay_as_they_are(split):
    broken = split.select([0]).map(lambda row: {**row, "image": {"bytes": b"no picture", "path": None}})
    assert mismatch_pictures(broken, Mismatch("noised", 100), 1)[0]["image"]["bytes"] == b"no picture"
    bare = split.select_columns(["text"])
    assert mismatch_pictures(bare, Mismatch("shuffled", 100), 1) is bare


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column, unknown", [("regions", None), ("region_labels", -100)])
def test_crops_that_are_exchanged_show_no_entity(split, kind, column, unknown):
    regions = [[row, -1] for row in range(len(split))]
    changed = mismatch_pictures(split.add_column(column, regions), Mismatch(kind, 50), seed=1)
    others = [a["image"] != b["image"] or a["objects"] != b["objects"] for a, b in zip(split, changed, strict=True)]
    expected = [[unknown] * 2 if other else row for row, other in zip(regions, others, strict=True)]
    assert changed[column][:] == expected and 0 < sum(others) < len(split)
