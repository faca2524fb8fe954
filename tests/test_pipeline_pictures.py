import errno
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from pipelines import LONG, POST, assert_differ, post_of, text_only
from tiny import (
    SENTENCES,
    Corners,
    assert_same,
    noise,
)
from tiny_detectors import detr
from transformers import pipeline
from transformers.utils import logging as transformers_logging

from modeling_i2srm.pictures import PictureError, is_url, load_picture
from modeling_i2srm.support.detectors import ObjectCropper, ObjectDetector

# Pictures


@pytest.mark.parametrize("key", ["image", "objects"])
def test_every_picture_counts(ner, key):
    seen = [ner({"text": SENTENCES[0], key: [noise(i)] if key == "objects" else noise(i)}) for i in range(2)]
    assert_differ(seen[0], seen[1])
    for answer in seen:
        assert_differ(answer, ner(SENTENCES[0]))


@pytest.mark.parametrize("pipe_name", ["ner", "relate"])
def test_a_model_that_was_trained_without_pictures_gets_none(request, pipe_name, monkeypatch, caplog):
    pipe = request.getfixturevalue(pipe_name)
    monkeypatch.setattr(pipe.model.config, "reads_pictures", False)
    transformers_logging.warning_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert_same(pipe(post_of(pipe, image=noise(1), objects=[noise(2)])), pipe(post_of(pipe)))
    assert "pictures are not used: the model was trained without them" in caplog.text


def test_crops_beyond_the_models_number_are_told(ner, caplog):
    posts = [{"text": SENTENCES[0], "objects": [noise(i) for i in range(count)]} for count in (3, 4)]
    transformers_logging.warning_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert_same(ner(posts[1]), ner(posts[0]))
    assert "4 object crops" in caplog.text


def test_crops_may_come_from_a_generator_or_an_array(ner):
    crops = [np.asarray(noise(i)) for i in range(2)]
    expected = ner({"text": SENTENCES[0], "objects": crops})
    assert_same(ner({"text": SENTENCES[0], "objects": (crop for crop in crops)}), expected)
    assert_same(ner({"text": SENTENCES[0], "objects": np.stack(crops)}), expected)


@pytest.mark.parametrize("pipe_name", ["ner", "relate"])
def test_crops_of_a_cropper_are_as_crops_given_by_hand(request, pipe_name):
    pipe, cropper = request.getfixturevalue(pipe_name), Corners()
    images = [noise(1), noise(2, 40, 60), None, noise(3, 40, 40), noise(4)]
    objects = [None, [noise(5)], [noise(6)], [], None]
    posts = [post_of(pipe, image=i, objects=o) for i, o in zip(images, objects, strict=True)]
    found = pipe(posts, batch_size=3, cropper=cropper)
    assert [sizes for sizes, _ in cropper.asked] == [[(50, 40)], [(40, 40), (50, 40)]]  # as the batches are
    assert cropper.asked[0][1] == [POST["text"]]
    by_hand = [dict(post) for post in posts]
    for i in (0, 4):
        by_hand[i]["objects"] = [crop.picture for crop in cropper.of(images[i])]
    expected = pipe(by_hand, batch_size=3)
    boxes = [
        {"box": box, "score": 0.9123456, "label": label}
        for box, label in zip([(0, 0, 25, 20), (25, 20, 50, 40)], ["upper", "lower"], strict=True)
    ]
    for i, (answer, plain) in enumerate(zip(found, expected, strict=True)):
        answer, plain = ([one] if isinstance(one, dict) else one for one in (answer, plain))
        assert answer
        said = [one.pop("objects", None) for one in answer]
        assert said == [{0: boxes, 3: [], 4: boxes}.get(i)] * len(answer)
        assert_same(answer, plain)
    crop = load_picture(posts[0]["image"]).crop(boxes[1]["box"])
    assert np.array_equal(np.asarray(crop), np.asarray(by_hand[0]["objects"][1]))
    assert_same(pipe(posts, cropper=cropper), pipe(posts, cropper=cropper, batch_size=5))
    many = pipe(posts[0], cropper=Corners(count=2))  # more than the model sees
    assert len((many if isinstance(many, dict) else many[0])["objects"]) == 3


def test_pictures_that_worker_processes_read_are_encoded_a_batch_at_a_time(ner, monkeypatch):
    encode, sizes = ner.model.get_visual_features, []
    monkeypatch.setattr(
        ner.model, "get_visual_features", lambda **inputs: sizes.append(len(inputs["image_mask"])) or encode(**inputs)
    )
    posts = [{"text": POST["text"], "image": noise(i)} for i in range(5)]
    answers = ner(posts, batch_size=2, num_workers=1)
    assert sizes == [2, 2, 1]
    assert_same(answers, ner(posts))


class Indexed(torch.utils.data.Dataset):
    """A data set that has no __iter__ and no end for those who try one."""

    def __init__(self, rows: list):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return self.rows[place % len(self.rows)]


def test_data_sets_and_generators_are_cropped_batch_by_batch(ner):
    posts = [{"text": text, "image": noise(i)} for i, text in enumerate(SENTENCES)]
    expected = ner(posts, cropper=Corners())
    for rows in (Indexed(posts), Dataset.from_list(posts), (post for post in posts)):
        cropper = Corners()
        answers = ner(rows, cropper=cropper, batch_size=3, num_workers=2)
        assert len(cropper.asked) <= 1 and not isinstance(answers, list)  # the others as they are asked for
        assert_same(list(answers), expected)
        assert [len(sizes) for sizes, _ in cropper.asked] == [3, 1]


def test_gradients_are_off_in_a_cropper(ner):
    def cropper(pictures, texts):
        assert not torch.is_grad_enabled()
        return [[] for _ in pictures]

    assert all(entity["objects"] == [] for entity in ner({"text": SENTENCES[0], "image": noise()}, cropper=cropper))


@pytest.mark.parametrize("pipe_name", ["ner", "relate"])
def test_croppers_of_the_pipeline_and_of_the_call(request, pipe_name):
    plain, own, other = request.getfixturevalue(pipe_name), Corners(), Corners()
    pipe = pipeline(plain.task, model=plain.model, processor=plain.processor, cropper=own, device="cpu")
    post = post_of(pipe, image=noise(1), tokens=None)
    expected = plain(post, cropper=other)
    assert len(other.asked) == 1 and pipe(post) == expected and len(own.asked) == 1
    assert pipe(post, cropper=other) == expected and (len(own.asked), len(other.asked)) == (1, 2)
    assert pipe(post, cropper=False) == plain(post) != expected
    assert next(iter(pipe(post for _ in range(1)))) == expected and len(own.asked) == 2
    with pytest.raises(ValueError, match="cropper=True cannot be called"):
        pipe(post, cropper=True)


@pytest.mark.parametrize("pipe_name", ["ner", "relate"])
def test_a_cropper_changes_nothing_in_posts_without_picture(request, pipe_name):
    pipe, cropper = request.getfixturevalue(pipe_name), Corners()
    assert pipe(post_of(pipe), cropper=cropper) == text_only(pipe)
    bad = pipe(post_of(pipe, image=b"no picture"), cropper=cropper, on_image_error="warn")
    said = (bad if isinstance(bad, dict) else bad[0])["image_errors"]
    assert bad == text_only(pipe, image_errors=said) and cropper.asked == []
    with pytest.raises(PictureError):
        pipe(post_of(pipe, image=b"no picture"), cropper=cropper)


def test_what_a_detector_finds_does_not_depend_on_batch_mates(ner):
    model, image_processor = detr()
    image_processor.size = {"shortest_edge": 64, "longest_edge": 128}  # and padded to the largest of a batch
    cropper = ObjectCropper(ObjectDetector(model, image_processor, threshold=0.0), min_side=1)
    posts = [{"text": SENTENCES[0], "image": noise(i, 40 + 20 * (i % 2), 60)} for i in range(4)]
    alone = [ner(post, cropper=cropper) for post in posts]
    assert len({str(answer[0]["objects"]) for answer in alone}) == 4
    assert ner(posts, cropper=cropper, batch_size=1) == alone
    assert_same(ner(posts, cropper=cropper, batch_size=4), alone, 1e-6)


def test_pictures_are_encoded_once_a_post_however_many_windows(ner, monkeypatch):
    seen = []
    encode = ner.model.base_model.get_visual_features

    def record(pixel_values, image_mask):
        seen.append(image_mask.sum().item())
        return encode(pixel_values, image_mask)

    monkeypatch.setattr(ner.model.base_model, "get_visual_features", record)
    ner([{"text": LONG * 3, "image": noise(), "objects": [noise(1)]}, "Kobe"], batch_size=2)
    ner(["Kobe", "Paris"], batch_size=2)
    assert seen == [2]


@pytest.mark.parametrize("pipe", ["ner", "relate"])
@pytest.mark.parametrize(("path", "reason"), [("gone.png", "404"), ("page.png", "<html>")])
def test_a_post_whose_url_fails_is_read_without_picture_and_flagged(
    request, caplog, picture_server, pipe, path, reason
):
    pipe, url = request.getfixturevalue(pipe), f"{picture_server.url}/{path}"
    with caplog.at_level(logging.WARNING):
        answer = pipe(post_of(pipe, image=url))
    assert "image" in caplog.text and url in caplog.text and reason in caplog.text and "without it" in caplog.text
    errors = (answer[0] if isinstance(answer, list) else answer)["image_errors"]
    assert set(errors) == {"image"} and url in errors["image"] and reason in errors["image"]
    assert_same(answer, text_only(pipe, image_errors=errors))
    assert_same(pipe([post_of(pipe, image=url), post_of(pipe, image=noise())], batch_size=2)[0], answer)
    by_dict = pipe(post_of(pipe, image={"bytes": None, "path": url}))  # as a data set gives it undecoded
    assert_same(
        by_dict, text_only(pipe, image_errors=(by_dict[0] if isinstance(by_dict, list) else by_dict)["image_errors"])
    )


@pytest.mark.parametrize("pipe", ["ner", "relate"])
def test_a_url_that_answers_is_a_picture(request, picture_server, pipe):
    pipe, url = request.getfixturevalue(pipe), f"{picture_server.url}/kobe.png"
    local = Image.linear_gradient("L").resize((40, 40))
    assert_same(pipe(post_of(pipe, image=url)), pipe(post_of(pipe, image=local)))
    assert picture_server.asked == ["/kobe.png"]


def test_a_crop_whose_url_fails_leaves_the_other_pictures(ner, picture_server):
    gone = f"{picture_server.url}/gone.png"
    post = {"text": SENTENCES[0], "image": noise(), "objects": [noise(1), gone, noise(2)]}
    answer = ner(post)
    assert all(set(entity.pop("image_errors")) == {"objects[1]"} for entity in answer)
    assert_same(answer, ner({**post, "objects": [noise(1), None, noise(2)]}))


@pytest.mark.parametrize("error", [MemoryError("no memory"), OSError(errno.EMFILE, "Too many open files")])
def test_what_is_the_machines_fault_is_always_an_error(ner, monkeypatch, error):
    monkeypatch.setattr("modeling_i2srm.pictures._load", lambda *_: (_ for _ in ()).throw(error))
    for image in ("kobe.jpg", "http://localhost/kobe.jpg"):
        with pytest.raises(PictureError, match="no memory|Too many open files"):
            ner({"text": SENTENCES[0], "image": image}, on_image_error="warn")


@pytest.mark.parametrize("pipe", ["ner", "relate"])
@pytest.mark.parametrize("bad", ["/no/such.jpg", b"no picture"])
def test_what_is_done_about_a_picture_that_cannot_be_read(request, picture_server, pipe, bad):
    pipe, url = request.getfixturevalue(pipe), f"{picture_server.url}/gone.png"
    for post, option in ((bad, None), (bad, "raise"), (url, "raise")):
        with pytest.raises(PictureError):
            pipe(post_of(pipe, image=post), on_image_error=option)
        with pytest.raises(PictureError):
            pipe(post_of(pipe, objects=[post]), on_image_error=option)
    answer = pipe(post_of(pipe, image=bad, objects=[bad, None]), on_image_error="warn")
    errors = (answer[0] if isinstance(answer, list) else answer)["image_errors"]
    assert set(errors) == {"image", "objects[0]"}
    assert_same(answer, text_only(pipe, image_errors=errors))


@pytest.mark.parametrize(
    ("given_picture", "expected"),
    [
        ("http://a/b.png", True),
        ("HTTPS://a/b.png", True),
        ("kobe.jpg", False),
        (None, False),
        ({"bytes": None, "path": "http://a/b.png"}, True),
        ({"bytes": b"", "path": "http://a/b.png"}, False),
        ({"path": "kobe.jpg"}, False),
        (b"http://a/b.png", False),
    ],
)
def test_which_pictures_are_downloaded(given_picture, expected):
    assert is_url(given_picture) is expected
