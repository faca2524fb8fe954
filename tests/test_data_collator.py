import io
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from tiny import SIDE, tiny_processor
from torch.utils.data import DataLoader

from modeling_i2srm import I2SRMDataCollator
from modeling_i2srm.pictures import PictureError


def picture(seed: int) -> PILImage.Image:
    return PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def png(seed: int) -> dict:
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


ROWS = [
    {"id": "a", "tokens": ["Kobe", "lands"], "ner_tags": [1, 0], "image": png(1), "objects": [png(2), png(3)]},
    {"id": "b", "tokens": ["in", "Paris", "with", "Jordan"], "ner_tags": [0, 3, 0, 1], "image": None, "objects": []},
    {"id": "c", "tokens": ["Chelsea"], "ner_tags": [5], "image": None, "objects": None},
    {"id": "d", "tokens": [], "ner_tags": [], "image": png(4), "objects": [png(i) for i in range(5, 9)]},
]
BROKEN = {"bytes": b"no picture", "path": None}


def assert_same(batch: dict, expected: dict):
    assert set(batch) == set(expected)
    for name in expected:
        assert torch.equal(batch[name], expected[name]), name


def direct(processor, rows, **settings) -> dict:
    """What the processor itself makes of the posts."""
    columns = {name: [row[name] for row in rows] for name in ("tokens", "ner_tags", "image", "objects")}
    return dict(processor(images=columns.pop("image"), **columns, **settings))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[1:3], ROWS[::-1]])
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("multiple", [None, 8])
def test_a_batch_is_that_of_the_processor(rows, encoded, multiple):
    processor = tiny_processor(num_objects=2)
    expected = direct(processor, rows, pad_to_multiple_of=multiple)
    assert ("pixel_values" in expected) == any(row["image"] for row in rows)
    if encoded:
        pictures = [{name: row[name] for name in ("id", "image", "objects")} for row in rows]
        texts = [processor.encode_tokens(row["tokens"], row["ner_tags"]) for row in rows]
        rows = [text | picture for text, picture in zip(texts, pictures, strict=True)]
    assert_same(I2SRMDataCollator(processor, pad_to_multiple_of=multiple)(rows), expected)


@pytest.mark.parametrize("missing", ["image", "objects", "ner_tags"])
def test_a_missing_column_is_like_an_empty_one(missing):
    rows = [{name: value for name, value in row.items() if name != missing} for row in ROWS]
    expected = direct(tiny_processor(), [{**row, missing: None} for row in ROWS])
    assert_same(I2SRMDataCollator(tiny_processor())(rows), expected)
    assert ("labels" in expected) == (missing != "ner_tags")


def test_without_images_the_pictures_are_not_even_read():
    rows = [{**row, "image": BROKEN, "objects": [BROKEN]} for row in ROWS]
    collator = I2SRMDataCollator(tiny_processor(), use_images=False, strict_pictures=True)
    batch = collator(rows)
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "word_mask", "labels"}
    assert collator.skipped_pictures == 0


def test_an_unreadable_picture_is_absent_counted_and_named(caplog):
    rows = [
        {**ROWS[0], "image": BROKEN},
        {**ROWS[1], "image": {"bytes": None, "path": "/no/such.jpg"}},
        {**ROWS[2], "objects": [BROKEN, png(2)]},
    ]
    collator = I2SRMDataCollator(tiny_processor())
    with caplog.at_level(logging.WARNING):
        batch = collator(rows)
    assert batch["image_mask"].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    readable = [{**row, "image": None} for row in (rows[0], rows[1], {**rows[2], "objects": [png(2)]})]
    assert_same(batch, direct(tiny_processor(), readable))
    assert collator.skipped_pictures == 3
    for words in (("post a", "image"), ("post b", "/no/such.jpg"), ("post c", "objects[0]")):
        assert any(all(word in record.getMessage() for word in words) for record in caplog.records), words


@pytest.mark.parametrize("row", [{**ROWS[0], "image": BROKEN}, {**ROWS[0], "objects": [BROKEN]}])
def test_strict_pictures_raise(row):
    with pytest.raises(PictureError, match="no picture"):
        I2SRMDataCollator(tiny_processor(), strict_pictures=True)([ROWS[1], row])


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("workers", [0, 1])
def test_rows_of_a_data_set_through_a_data_loader(decode, workers):
    kind = Image(decode=decode)
    tags = {"tokens": List(Value("string")), "ner_tags": List(Value("int64"))}
    features = Features({"id": Value("string"), **tags, "image": Image(), "objects": List(Image())})
    dataset = Dataset.from_list(ROWS, features=features)
    dataset = dataset.cast_column("image", kind).cast_column("objects", List(kind))
    loader = DataLoader(dataset, batch_size=2, collate_fn=I2SRMDataCollator(tiny_processor()), num_workers=workers)
    for batch, rows in zip(loader, (ROWS[:2], ROWS[2:]), strict=True):
        assert_same(batch, direct(tiny_processor(), rows))
        assert batch["pixel_values"].shape == (2, 4, 3, SIDE, SIDE)


def test_cut_words_are_counted_and_named(monkeypatch):
    warnings, words = [], ["Kobe", "a", "a", "a"]
    monkeypatch.setattr("modeling_i2srm.data_collator.logger.warning", warnings.append)
    collator = I2SRMDataCollator(tiny_processor(max_length=4))
    batch = collator([{"id": "long", "tokens": words, "ner_tags": [1, 0, 0, 0]}] * 2)
    lost = len(words) - int(batch["word_mask"][0].sum())
    assert lost >= 2 and collator.truncated_words == 2 * lost
    assert len(warnings) == 2 and f"post long: the last {lost} words" in warnings[0]
