"""Pictures, their files, and what is asserted of them."""

import gc
import io
import struct
import warnings
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from modeling_i2srm.pictures import PictureError, load_picture

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def corners(size=(30, 20)):
    """Black, with a red, green, blue and white corner, clockwise from the top left."""
    width, height = size
    image = Image.new("RGB", size)
    for colour, x, y in ((RED, 0, 0), (GREEN, 1, 0), (BLUE, 1, 1), (WHITE, 0, 1)):
        image.paste(colour, (x * width // 2, y * height // 2, (x + 1) * width // 2, (y + 1) * height // 2))
    return image


def png(width, height, depth, colour_type, rows, *chunks):
    """A PNG written by hand, for what Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    body = b"".join(chunk(kind, data) for kind, data in chunks) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def exif(*entries):
    """An EXIF block of (tag, type, value of 4 bytes), which need not make sense."""
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, value in entries:
        block += struct.pack("<HHI", tag, kind, 4 if kind == 2 else 1) + value
    return block + bytes(4)


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(height=40, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_picture(image, expected, tolerance=0):
    """A plain RGB image, with nothing hanging on it but the full size of a reduced one, and the expected pixels."""
    assert type(image) is Image.Image and image.mode == "RGB" and not image.getexif()
    assert image.info.keys() <= {"full_size"}
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
