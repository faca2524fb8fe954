import io

import numpy as np
import pytest
import torch
import transformers
from odd_pictures import picture
from PIL import Image
from processors import png
from tiny import (
    SIDE,
    Corners,
    bert_tokenizer,
    noise,
    tiny_processor,
)
from transformers import ConvNextImageProcessorPil, ViTImageProcessorPil

from modeling_i2srm import I2SRMProcessor, pictures
from modeling_i2srm.pictures import PictureError, load_picture
from modeling_i2srm.processing_i2srm import resnet_image_processor

# Pictures


@pytest.mark.parametrize("kind", ["PIL", "path", "str", "bytes", "array", "bytes dict", "path dict"])
def test_every_kind_of_picture_gives_the_pixels_of_the_image_processor(tmp_path, kind):
    image, path = picture(), tmp_path / "picture.png"
    path.write_bytes(png(image))
    wrapped = {
        "PIL": image,
        "path": path,
        "str": str(path),
        "bytes": png(image),
        "array": np.asarray(image),
        "bytes dict": {"bytes": png(image), "path": None},
        "path dict": {"bytes": None, "path": str(path)},
    }[kind]
    expected = resnet_image_processor(SIDE)(image, return_tensors="pt")["pixel_values"]
    inputs = tiny_processor()(text="Kobe", images=wrapped, objects=[wrapped])
    assert torch.equal(inputs["pixel_values"][0, :2], expected.expand(2, -1, -1, -1))


def test_absent_pictures_are_zero_and_masked():
    a, b, c, d = (picture(seed=seed) for seed in range(4))
    processor = tiny_processor(num_objects=2)
    inputs = processor(text=["x"] * 4, images=[a, None, None, d], objects=[[b, c], None, [c], []])
    assert inputs["image_mask"].tolist() == [[1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]
    expected = resnet_image_processor(SIDE)([a, b, c, c, d], return_tensors="pt")["pixel_values"]
    assert torch.equal(inputs["pixel_values"][inputs["image_mask"] == 1], expected)
    assert not inputs["pixel_values"][inputs["image_mask"] == 0].any()


@pytest.mark.parametrize("pictures", [{}, {"images": [None, None]}, {"images": [None, None], "objects": [[], None]}])
def test_no_picture_in_the_batch_gives_no_pixel_values(pictures):
    inputs = tiny_processor()(text=["Kobe", "lands"], **pictures)
    assert not {"pixel_values", "image_mask"} & set(inputs)


@pytest.mark.parametrize("num_objects", [0, 1, 3, 5])
def test_further_crops_are_left_out_with_a_warning(num_objects, caplog):
    crops = [picture(seed=seed) for seed in range(4)]
    transformers.utils.logging.warning_once.cache_clear()
    inputs = tiny_processor(num_objects=num_objects)(text="Kobe", images=crops[0], objects=crops)
    kept = resnet_image_processor(SIDE)([crops[0], *crops[:num_objects]], return_tensors="pt")["pixel_values"]
    assert inputs["pixel_values"].shape == (1, 1 + num_objects, 3, SIDE, SIDE)
    assert torch.equal(inputs["pixel_values"][inputs["image_mask"] == 1], kept)
    told = "4 object crops" in caplog.text and f"num_objects={num_objects}" in caplog.text
    assert told == (num_objects < 4)


@pytest.mark.parametrize("size", [(1000, 2), (2, 1000), (16, 256)])
def test_the_centre_of_a_very_long_picture_is_kept(size):
    (width, height), bound = size, 16 * min(size)
    image = Image.new("RGB", size, "red")
    box = [max((side - bound) // 2, 0) for side in size]
    image.paste("blue", (*box, min(width, box[0] + bound), min(height, box[1] + bound)))
    assert tiny_processor().load_picture(image).getcolors() == [(min(size) * bound, (0, 0, 255))]
    assert tiny_processor()(text="Kobe", images=image)["pixel_values"][0, 0, 2].min() > 2  # all blue


def test_max_pixels_bounds_what_is_decoded():
    with pytest.raises(PictureError, match="max_pixels=2399"):
        tiny_processor(max_pixels=2399)(text="Kobe", images=picture(40, 60))
    assert tiny_processor(max_pixels=2400)(text="Kobe", images=picture(40, 60))["image_mask"].sum() == 1


# Croppers


@pytest.mark.parametrize("form", ["text", "tokens"])
def test_crops_of_a_cropper_are_as_crops_given_by_hand(form):
    images = [noise(1, 40, 60), noise(2, 40, 60), None, noise(3, 50, 50), noise(4, 30, 20), None]
    objects = [None, [noise(5)], [noise(6)], None, [], None]
    posts = {"text": [f"Kobe {i}" for i in range(6)], "images": images}
    if form == "tokens":
        posts["tokens"] = [post.split() for post in posts.pop("text")]
    cropper, processor = Corners(), tiny_processor()
    found = processor(**posts, objects=objects, cropper=cropper, return_objects=True)
    crops = found.pop("objects")
    assert cropper.asked == [([(60, 40), (50, 50), (20, 30)], [posts[form][i] for i in (0, 3, 4)])]
    assert [[crop.label for crop in some] for some in crops] == [["upper", "lower"], [], [], [], ["upper", "lower"], []]
    assert np.array_equal(np.asarray(crops[0][1].picture), np.asarray(images[0].crop((30, 20, 60, 40))))
    objects[0], objects[4] = ([crop.picture for crop in cropper.of(images[i])] for i in (0, 4))
    by_hand = processor(**posts, objects=objects)
    assert found.keys() == by_hand.keys() and all(torch.equal(found[name], by_hand[name]) for name in by_hand)
    assert by_hand["image_mask"].tolist() == [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 1, 0],
        [0] * 4,
    ]


def test_a_cropper_is_not_asked_where_there_is_no_picture():
    cropper = Corners()
    for posts in ({"text": "Kobe"}, {"text": ["Kobe", "lands"], "objects": [[noise()], None]}):
        expected, found = tiny_processor()(**posts), tiny_processor()(**posts, cropper=cropper)
        assert expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert cropper.asked == []
    assert tiny_processor()(text="Kobe", images=noise(), return_objects=True)["objects"] == [[]]


@pytest.mark.parametrize("size", [(300, 400), (100, 120), (2000, 60)])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_croppers_see_pictures_upright_at_full_size_and_models_as_ever(tmp_path, monkeypatch, size, as_bytes):
    picture = noise(1, *size).resize((size[1] // 4, size[0] // 4)).resize((size[1], size[0]))
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    given = (tmp_path / "turned.jpg").read_bytes() if as_bytes else str(tmp_path / "turned.jpg")
    whole, processor, cropper = load_picture(given), tiny_processor(), Corners()
    by_hand = processor(text="Kobe", images=given, objects=[crop.picture for crop in cropper.of(whole)])
    if not as_bytes:
        monkeypatch.setattr("modeling_i2srm.pictures._read_file", once := Once(pictures._read_file))
    found = processor(text="Kobe", images=given, cropper=cropper)
    assert as_bytes or once.calls == 1
    assert cropper.asked == [([size], ["Kobe"])] and whole.size == size
    assert torch.equal(found["pixel_values"], by_hand["pixel_values"])
    assert torch.equal(found["image_mask"], by_hand["image_mask"])


class Once:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


def test_crops_beyond_the_models_number_are_told_and_not_returned(caplog):
    transformers.utils.logging.warning_once.cache_clear()
    inputs = tiny_processor()(text="Kobe", images=noise(), cropper=Corners(count=2), return_objects=True)
    assert len(inputs["objects"][0]) == 3 and inputs["image_mask"].tolist() == [[1] * 4]
    assert "4 object crops" in caplog.text


def test_pairs_and_tags_have_crops_too():
    processor = tiny_processor()
    processor.add_entity_markers()
    cropper = Corners()
    pair = processor(text="Kobe lands in Paris", images=noise(), head=(0, 4), tail=(14, 19), cropper=cropper)
    tagged = processor(tokens=["Kobe", "lands"], images=noise(), ner_tags=[1, 0], cropper=cropper)
    assert pair["image_mask"].tolist() == tagged["image_mask"].tolist() == [[1, 1, 1, 0]]
    assert [texts for _, texts in cropper.asked] == [["Kobe lands in Paris"], [["Kobe", "lands"]]]
    with pytest.raises(ValueError, match="cropper='detr' cannot be called"):
        processor(text="Kobe", images=noise(), cropper="detr")
    with pytest.raises(PictureError, match="gone.jpg"):
        processor(text="Kobe", images="gone.jpg", cropper=cropper)


@pytest.mark.parametrize(
    "image_processor, settings, size",
    [
        (resnet_image_processor(SIDE), {}, (100, 75)),  # to 36: decoded at 1/4, with at least 72
        (resnet_image_processor(SIDE), {"reduced_decode": 1}, (50, 38)),
        (resnet_image_processor(SIDE), {"reduced_decode": 3}, (200, 150)),
        (resnet_image_processor(SIDE), {"reduced_decode": None}, (400, 300)),
        (ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.8), {}, (200, 150)),  # to 40, cut to 32
        (ViTImageProcessorPil(size={"height": 20, "width": 32}), {}, (100, 75)),
        (ViTImageProcessorPil(do_resize=False), {}, (400, 300)),
    ],
)
def test_large_jpegs_are_decoded_at_a_part_of_their_size(image_processor, settings, size, tmp_path):
    data = io.BytesIO()
    noise(height=300, width=400).save(data, "JPEG")
    processor = I2SRMProcessor(image_processor, bert_tokenizer(), **settings)
    assert processor.load_picture(data.getvalue()).size == size
    processor.save_pretrained(tmp_path)
    again = I2SRMProcessor.from_pretrained(tmp_path)
    assert again.reduced_decode == processor.reduced_decode
    assert again.load_picture({"bytes": data.getvalue(), "path": None}).size == size


def test_crops_are_reduced_like_pictures_and_long_ones_by_their_shorter_side():
    processor = tiny_processor()  # to 36
    data = io.BytesIO()
    noise(height=100, width=6400).save(data, "JPEG")
    assert processor.load_picture(data.getvalue()).size == (1600, 100)
    data = io.BytesIO()
    noise(height=300, width=400).save(data, "JPEG")
    inputs = processor(tokens=["Kobe"], images=data.getvalue(), objects=[data.getvalue()])
    assert torch.equal(inputs["pixel_values"][0, 0], inputs["pixel_values"][0, 1])
    small = load_picture(data.getvalue(), min_side=72)
    assert torch.equal(inputs["pixel_values"][0, 0], processor(tokens=["a"], images=small)["pixel_values"][0, 0])


@pytest.mark.parametrize("factor", [0, 0.5, -1, float("nan")])
def test_a_factor_that_would_enlarge_is_refused(factor):
    with pytest.raises(ValueError, match=f"reduced_decode={factor} would enlarge pictures again; use 2, or None"):
        tiny_processor(reduced_decode=factor)
