"""What a cropper may be and may give."""

from types import SimpleNamespace

import numpy as np
import pytest
from tiny import Corners, noise

from modeling_i2srm.crops import check_cropper, describe_crop, find_crops


def test_all_pictures_go_in_one_call_and_none_in_none():
    cropper = Corners()
    pictures = [noise(0, 40, 60), noise(1, 30, 30)]
    assert [[crop.box for crop in crops] for crops in find_crops(cropper, pictures, ["a", ["b"]])] == [
        [(0, 0, 30, 20), (30, 20, 60, 40)],
        [],
    ]
    assert find_crops(cropper, [], []) == [] and cropper.asked == [([(60, 40), (30, 30)], ["a", ["b"]])]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, ["None", "a list of crops for each picture"]),
        ([None], ["[None]", "[[], []]"]),
        ("no", ["'no'"]),
        ([], ["0 pictures", "1"]),
        ([[], []], ["2 pictures", "1"]),
        ([[SimpleNamespace(box=(0, 0, 1, 1), score=1.0)]], ["label, picture", "ObjectCrop("]),
        ([[noise()]], ["without box, score, label, picture"]),
    ],
)
def test_what_is_no_list_of_crops_is_refused(given, words):
    with pytest.raises(ValueError) as error:
        find_crops(lambda pictures, texts: given, [noise()], ["Kobe"])
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize("wrong", [True, "facebook/detr-resnet-50", 0, [Corners()]])
def test_what_is_no_cropper_is_refused(wrong):
    with pytest.raises(ValueError, match="cannot be called.*ObjectCropper"):
        check_cropper(wrong)


def test_boxes_are_described_as_pictures_are_cut():
    box = np.array([0.4, 3.5, 20.5, 30.6], dtype=np.float32)
    crop = SimpleNamespace(box=box, score=np.float32(0.5), label=np.str_("dog"), picture=noise().crop(box.tolist()))
    said = describe_crop(crop)
    assert said == {"box": (0, 4, 20, 31), "score": 0.5, "label": "dog"}
    assert [type(value) for value in said.values()] == [tuple, float, str] and type(said["box"][0]) is int
    assert np.array_equal(np.asarray(noise().crop(said["box"])), np.asarray(crop.picture))
