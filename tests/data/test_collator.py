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
from modeling_i2srm.prepare.builder import mre_features
from modeling_i2srm.words import EntityPairError


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
SPANS = [((0, 1), (1, 2)), ((3, 4), (1, 4)), ((0, 1), (0, 1)), ((2, 3), (0, 1))]
PAIRS = [
    {
        **{name: row[name] for name in ("id", "image", "objects")},
        "tokens": row["tokens"] or ["Amazon", "in", "Phoenix"],
        "head": {"start": head[0], "end": head[1]},
        "tail": {"start": tail[0], "end": tail[1]},
        "relation": relation,
    }
    for relation, (row, (head, tail)) in enumerate(zip(ROWS, SPANS, strict=True))
]
BROKEN = {"bytes": b"no picture", "path": None}


def assert_same(batch: dict, expected: dict):
    assert set(batch) == set(expected)
    for name in expected:
        assert torch.equal(batch[name], expected[name]), name


def direct(processor, rows, **settings) -> dict:
    """What the processor itself makes of the posts."""
    labels = ("head", "tail", "relation") if "head" in rows[0] else ("ner_tags",)
    columns = {name: [row[name] for row in rows] for name in ("tokens", *labels, "image", "objects")}
    return dict(processor(images=columns.pop("image"), **columns, **settings))


def pair_processor(**settings):
    processor = tiny_processor(**settings)
    processor.add_entity_markers()
    return processor


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
    monkeypatch.setattr("modeling_i2srm.data.collator.logger.warning", warnings.append)
    collator = I2SRMDataCollator(tiny_processor(max_length=4))
    batch = collator([{"id": "long", "tokens": words, "ner_tags": [1, 0, 0, 0]}] * 2)
    lost = len(words) - int(batch["word_mask"][0].sum())
    assert lost >= 2 and collator.truncated_words == 2 * lost
    assert len(warnings) == 2 and f"post long: {lost} words" in warnings[0]


@pytest.mark.parametrize("rows", [PAIRS, PAIRS[:1], PAIRS[1:3], PAIRS[::-1]])
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("multiple", [None, 8])
def test_a_batch_of_pairs_is_that_of_the_processor(rows, encoded, multiple):
    processor = pair_processor(num_objects=2)
    expected = direct(processor, rows, pad_to_multiple_of=multiple)
    assert {"head_mask", "tail_mask"} < set(expected) and "word_mask" not in expected
    assert expected["labels"].tolist() == [row["relation"] for row in rows]
    if encoded:
        pictures = [{name: row[name] for name in ("id", "image", "objects")} for row in rows]
        texts = [processor.encode_pair(*(row[name] for name in ("tokens", "head", "tail", "relation"))) for row in rows]
        rows = [text | picture for text, picture in zip(texts, pictures, strict=True)]
    assert_same(I2SRMDataCollator(processor, pad_to_multiple_of=multiple)(rows), expected)


@pytest.mark.parametrize("missing", ["image", "objects", "relation"])
def test_pairs_without_a_column(missing):
    rows = [{name: value for name, value in row.items() if name != missing} for row in PAIRS]
    expected = direct(pair_processor(), [{**row, missing: None} for row in PAIRS])
    assert_same(I2SRMDataCollator(pair_processor())(rows), expected)
    assert ("labels" in expected) == (missing != "relation")


def test_pairs_without_images():
    batch = I2SRMDataCollator(pair_processor(), use_images=False, strict_pictures=True)(
        [{**row, "image": BROKEN} for row in PAIRS]
    )
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "head_mask", "tail_mask", "labels"}


@pytest.mark.parametrize("workers", [0, 1])
def test_pairs_of_a_data_set_through_a_data_loader(workers):
    dataset = Dataset.from_list(PAIRS, features=mre_features(["None", "met", "born in", "part of"]))
    assert dataset[1]["head"] == {"start": 3, "end": 4}
    loader = DataLoader(dataset, batch_size=3, collate_fn=I2SRMDataCollator(pair_processor()), num_workers=workers)
    for batch, rows in zip(loader, (PAIRS[:3], PAIRS[3:]), strict=True):
        assert_same(batch, direct(pair_processor(), rows))


def test_the_words_cut_from_a_pair_are_counted_and_named(monkeypatch):
    warnings = []
    monkeypatch.setattr("modeling_i2srm.data.collator.logger.warning", warnings.append)
    collator = I2SRMDataCollator(pair_processor(max_length=10))
    row = {"id": "long", "tokens": ["a"] * 9, "head": {"start": 7, "end": 8}, "tail": {"start": 8, "end": 9}}
    batch = collator([row, {**row, "id": "short", "head": (0, 1), "tail": (0, 1)}])
    assert collator.truncated_words == 10
    assert [message[:22] for message in warnings] == ["post long: 5 words do ", "post short: 5 words do"]
    assert batch["head_mask"].argmax(1).tolist() == [4, 3]
    assert batch["tail_mask"].argmax(1).tolist() == [7, 3]


def test_a_pair_that_does_not_fit_is_an_error():
    collator = I2SRMDataCollator(pair_processor(max_length=10))
    row = {"tokens": ["a"] * 5, "head": {"start": 0, "end": 1}, "tail": {"start": 4, "end": 5}}
    with pytest.raises(EntityPairError, match="words 0 to 5, with both entities, are 5 sub-tokens, .* room for 4"):
        collator([row])


def test_pairs_and_other_rows_in_a_batch_are_an_error():
    for rows in ([PAIRS[0], ROWS[0]], [ROWS[0], PAIRS[0]]):
        with pytest.raises(ValueError, match="with and without head and tail are mixed"):
            I2SRMDataCollator(pair_processor())(rows)


@pytest.mark.parametrize("name", ["head", "tail"])
def test_a_pair_without_one_of_its_entities_is_no_row_of_tags(name):
    with pytest.raises(ValueError, match=f"{name}=None is not a span"):
        I2SRMDataCollator(pair_processor())([{**PAIRS[0], name: None}])


def test_columns_that_look_like_pictures_are_checked_once(caplog):
    collator = I2SRMDataCollator(tiny_processor())
    rows = [{"tokens": ["Kobe"], "ner_tags": [1], "img_path": "kobe.jpg"}]
    with pytest.raises(ValueError, match="no column 'image', and the column 'img_path' is not read"):
        collator(rows)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            collator([{"tokens": ["Kobe"], "ner_tags": [1], "mood": "good"}])
    assert [record.getMessage() for record in caplog.records].count("rows: the columns 'mood' are not read") == 1


def test_what_was_checked_is_no_setting():
    processor = tiny_processor()
    collators = [I2SRMDataCollator(processor) for _ in range(2)]
    collators[0]([{"tokens": ["Kobe"], "ner_tags": [1]}])
    assert collators[0] == collators[1] and "_checked" not in repr(collators[0])
    with pytest.raises(TypeError):
        I2SRMDataCollator(processor, _checked=set())


def test_the_batch_of_a_joint_model_keeps_the_places_of_absent_crops():
    row = {"tokens": ["Kobe", "lands"], "ner_tags": [1, 0], "image": picture(0), "objects": [None, picture(1)]}
    tags = {"O": 0, "B-PER": 1, "I-PER": 2}
    masks = [
        I2SRMDataCollator(tiny_processor(), label2id=tags, relation2id=relations)([row])["image_mask"].tolist()
        for relations in (None, {"None": 0, "met": 1})
    ]
    assert masks == [[[1, 1, 0, 0]], [[1, 0, 1, 0]]]


def test_batches_say_whether_all_their_pictures_were_readable():
    collator = I2SRMDataCollator(tiny_processor())
    for image, readable in ((picture(0), True), (BROKEN, False), (None, True)):
        assert collator._read_pictures([{"id": "a", "image": image, "objects": None}])[1] is readable
