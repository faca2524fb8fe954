"""Columns of pictures under other names, data without pictures, and how many posts have one."""

import logging

import pytest
import torch
from datasets import Dataset, Features, Image, LargeList, List, Value
from tiny import noise, tiny_config, tiny_processor
from torch.utils.data import DataLoader

from modeling_i2srm import I2SRMDataCollator, I2SRMForTokenClassification, I2SRMTrainer, I2SRMTrainingArguments
from modeling_i2srm.data.picture_columns import check_picture_columns, count_pictures

TEXT = {"tokens": ["Kobe", "lands"], "ner_tags": [1, 0]}
OFF = "use_images=False"


@pytest.mark.parametrize("use_images", [None, True])
@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["picture"], ["no column 'image'", 'rename_column("picture", "image")', OFF]),
        (["img"], ['rename_column("img", "image")']),
        (["image_path", "date"], ['rename_column("image_path", "image")']),
        (["crops"], ["no column 'objects'", 'rename_column("crops", "objects")', OFF]),
        (["regions"], ['rename_column("regions", "objects")']),
        (["image", "crops"], ['rename_column("crops", "objects")', 'remove_columns("crops")']),
        (["objects", "photo"], ['rename_column("photo", "image")', 'remove_columns("photo")']),
        (["visual_features"], ["'visual_features' is not read", "cache_pictures", OFF]),
        (["image", "pixel_values"], ["'pixel_values' is not read"]),
    ],
)
def test_columns_that_seem_to_hold_pictures_are_refused(names, words, use_images):
    with pytest.raises(ValueError) as caught:
        check_picture_columns("train", [*TEXT, *names], use_images, OFF)
    for word in ("train: ", *words):
        assert word in str(caught.value)
    check_picture_columns("train", [*TEXT, *names], False, OFF)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["image"], None),
        (["objects", "object_boxes", "id", "length"], None),
        (["image", "objects", "regions", "relations", "head", "tail", "relation", "label"], None),
        (["picture_keys", "input_ids", "attention_mask", "word_mask", "num_truncated_words"], None),
        (["image", "user", "image_id"], "the columns 'user', 'image_id' are not read"),
        (["picture_keys", "picture"], "the columns 'picture' are not read"),
        ([], "no column 'image' or 'objects', so no pictures are read"),
        (["date"], "the columns 'date' are not read"),
    ],
)
def test_other_columns_are_named_or_known(caplog, names, said):
    with caplog.at_level(logging.WARNING):
        check_picture_columns("train", [*TEXT, *names], None, OFF)
    assert (said in caplog.text) if said else not caplog.text
    caplog.clear()
    check_picture_columns("train", [*TEXT, "image", "size"], True, OFF, known=["size"])
    assert not caplog.text


def test_pictures_that_are_asked_for_have_to_be_there():
    with pytest.raises(
        ValueError, match=r"no column 'image' or 'objects', only 'tokens', 'ner_tags'.*use_images=False"
    ):
        check_picture_columns("train", list(TEXT), True, OFF)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_collator_warns_once_of_rows_without_pictures(caplog, workers):
    rows = Dataset.from_list([TEXT] * 4)
    collator = I2SRMDataCollator(tiny_processor())
    collator.check_columns(rows.column_names)  # as the trainer does before its workers start
    loader = DataLoader(rows, batch_size=2, collate_fn=collator, num_workers=workers)
    assert len(list(loader)) == 2 and "pixel_values" not in next(iter(loader))
    assert caplog.text.count("so no pictures are read") == 1
    with pytest.raises(ValueError, match="no column 'image'"):
        I2SRMDataCollator(tiny_processor(), use_images=True)([TEXT])
    with pytest.raises(ValueError, match=r'rename_column\("img", "image"\)'):
        collator([{**TEXT, "img": noise()}])


def trainer(rows, **settings) -> I2SRMTrainer:
    arguments = I2SRMTrainingArguments("unused", use_cpu=True, report_to=[], save_strategy="no", max_steps=1)
    processor = tiny_processor()
    model = I2SRMForTokenClassification(tiny_config())
    return I2SRMTrainer(model=model, args=arguments, train_dataset=rows, processing_class=processor, **settings)


def test_the_trainer_refuses_before_it_trains(caplog):
    good = Dataset.from_list([{**TEXT, "image": None}])
    bad = good.rename_column("image", "picture")
    for datasets in ((bad, None), (good, bad)):
        with pytest.raises(ValueError, match=r'rename_column\("picture", "image"\).*use_images=False'):
            trainer(datasets[0], eval_dataset=datasets[1])
    trainer(bad, data_collator=I2SRMDataCollator(tiny_processor(), use_images=False))
    assert "not read" not in caplog.text
    trainer(good.remove_columns("image"))
    assert caplog.text.count("so no pictures are read") == 1


def test_of_several_pictures_a_row_the_first_is_read(caplog):
    row = {**TEXT, "id": "a", "image": [noise(1), noise(2)]}
    collator = I2SRMDataCollator(tiny_processor())
    batch, single = collator([row]), collator([{**row, "image": noise(1)}])
    assert torch.equal(batch["pixel_values"], single["pixel_values"])
    assert "post a: image holds 2 pictures: the first is read" in caplog.text
    absent = {**row, "image": float("nan"), "objects": float("nan")}
    assert "pixel_values" not in collator([absent])


PICTURE = {"bytes": b"x", "path": None}


@pytest.mark.parametrize("lists", [List, LargeList])
def test_posts_with_a_picture_are_counted(lists):
    features = Features({"image": Image(decode=False), "objects": lists(Image(decode=False))})
    images = [PICTURE, None, {"bytes": None, "path": "a.png"}, None, None]
    objects = [None, [PICTURE], [PICTURE, PICTURE], [], None]
    rows = Dataset.from_dict({"image": images, "objects": objects}, features)
    assert count_pictures(rows) == 3
    assert [count_pictures(rows.select([row])) for row in range(5)] == [1, 1, 1, 0, 0]
    assert count_pictures(rows.select([0, 3, 0])) == 2 and count_pictures(rows.select([])) == 0
    assert [count_pictures(rows.select_columns([name])) for name in ("image", "objects")] == [2, 2]
    assert count_pictures(Dataset.from_dict({"tokens": [["a"]]})) == 0


def test_paths_and_columns_of_nothing_are_counted():
    assert count_pictures(Dataset.from_dict({"image": ["a.png", None]}, Features({"image": Value("string")}))) == 1
    assert count_pictures(Dataset.from_dict({"image": [None, None], "objects": [None, None]})) == 0
    parts = Features({"image": {"bytes": Value("binary"), "path": Value("string")}})
    assert (
        count_pictures(
            Dataset.from_dict({"image": [{"bytes": None, "path": None}, {"bytes": b"", "path": "a"}]}, parts)
        )
        == 1
    )
