import io

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIDE, tiny_processor

from modeling_i2srm import I2SRMDataCollator
from modeling_i2srm.data.picture_memory import PictureMemory, row_key

ROW_BYTES = 4 * (3 * SIDE * SIDE * 4 + 8)  # pixel values and mask of a picture and up to three crops


def png(seed: int) -> dict:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def row(name: str, image: object, *objects: object) -> dict:
    return {"id": name, "tokens": ["Kobe"], "ner_tags": [1], "image": image, "objects": list(objects)}


ROWS = [row("a", png(1), png(2)), row("b", None), row("c", png(3)), row("d", None, png(4)), row("e", png(1), png(2))]


def collators(most_bytes: int = 2**20) -> tuple[I2SRMDataCollator, I2SRMDataCollator]:
    """One that keeps pictures, and one that reads them each time."""
    return tuple(
        I2SRMDataCollator(tiny_processor(), picture_memory=memory) for memory in (PictureMemory(most_bytes), None)
    )


def assert_same(one: dict, other: dict):
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def count_reads(collator: I2SRMDataCollator, monkeypatch) -> list:
    reads, load = [], collator.processor.load_picture
    monkeypatch.setattr(collator.processor, "load_picture", lambda one: reads.append(one) or load(one))
    return reads


def test_batches_are_those_without_a_memory_and_pictures_are_read_once(monkeypatch):
    kept, plain = collators()
    for rows in (ROWS, ROWS[::-1], ROWS[1:3], ROWS[1:2]):
        assert_same(kept(rows), plain(rows))
    reads = count_reads(kept, monkeypatch)
    kept(ROWS[:3])
    assert reads == []
    kept([row("f", png(9))])
    assert reads


def test_what_is_kept_does_not_change_with_the_batch_that_was_given():
    kept, plain = collators()
    kept(ROWS)["pixel_values"].fill_(7)
    assert_same(kept(ROWS), plain(ROWS))


def test_a_full_memory_keeps_what_it_has(monkeypatch):
    kept, plain = collators(2 * ROW_BYTES)
    for _ in range(2):
        assert_same(kept(ROWS), plain(ROWS))
    assert len(kept.picture_memory.kept) == 2 and kept.picture_memory.free == 0
    reads = count_reads(kept, monkeypatch)
    kept([ROWS[0], ROWS[2]])
    assert reads == []
    kept([ROWS[3]])
    assert reads


def test_unreadable_pictures_are_counted_each_time():
    kept, _ = collators()
    rows = [ROWS[0], row("broken", {"bytes": b"\xff\xd8 no picture", "path": None})]
    for number in (1, 2):
        assert kept(rows)["image_mask"].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
        assert kept.skipped_pictures == number


@pytest.mark.parametrize(
    "image, objects",
    [
        (None, []),
        (None, None),
        ({"bytes": None, "path": "a.png"}, []),
        (Image.new("RGB", (4, 4)), []),
        (png(1), "b.png"),
    ],
)
def test_rows_without_stored_pictures_have_no_key(image, objects):
    assert row_key({"image": image, "objects": objects}) is None


def test_keys_tell_the_places_of_pictures():
    one, two = png(1), png(2)
    rows = [(one, [two]), (two, [one]), (None, [one, two]), (one, [None, two]), (one, []), (None, [one])]
    keys = {row_key({"image": image, "objects": objects}) for image, objects in rows}
    assert len(keys) == len(rows) and None not in keys
    assert row_key({"image": one, "objects": [two]}) == row_key({"image": dict(one), "objects": [two], "id": "other"})
