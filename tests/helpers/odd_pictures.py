"""Pictures, their files, and what is asserted of them."""

import gc
import io
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from modeling_i2srm.pictures import PictureError, load_picture


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(height=40, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_picture(image, expected, tolerance=0):
    """A plain RGB image, with nothing hanging on it, whose pixels are the expected ones."""
    assert type(image) is Image.Image and image.mode == "RGB" and image.info == {} and not image.getexif()
    expected = np.asarray(expected)
    assert image.size == (expected.shape[1], expected.shape[0])
    difference = np.abs(np.asarray(image).astype(int) - expected.astype(int))
    assert difference.max() <= tolerance


def assert_refused(picture, *words, **bounds):
    """PictureError, with all these words in its message, which is returned."""
    with pytest.raises(PictureError) as caught:
        load_picture(picture, **bounds)
    message = str(caught.value)
    for word in words:
        assert word in message
    return message


@contextmanager
def nothing_left_open():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not [warning for warning in caught if issubclass(warning.category, ResourceWarning)]


def picture(height: int = 40, width: int = 60, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
