import io
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odd_pictures import assert_picture, assert_refused, encode, noise, nothing_left_open
from PIL import Image, ImageCms, ImageFile, ImageOps

from modeling_i2srm.pictures import PictureError, load_picture, read_bytes

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


# Every kind of source


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bytes(wrap):
    pixels = noise()
    assert_picture(load_picture(wrap(encode(Image.fromarray(pixels), "PNG"))), pixels)


@pytest.mark.parametrize("wrap", [str, Path])
def test_path(tmp_path, wrap):
    path = tmp_path / "schöne Grüße: 1.png"
    Image.fromarray(noise()).save(path)
    assert_picture(load_picture(wrap(path)), noise())


def test_dictionary(tmp_path):
    data, path = encode(Image.fromarray(noise()), "PNG"), tmp_path / "other.png"
    corners().save(path)
    assert_picture(load_picture({"bytes": data, "path": None}), noise())
    assert_picture(load_picture({"bytes": data, "path": str(path)}), noise())  # bytes go first
    assert_picture(load_picture({"bytes": data, "path": "gone.png"}), noise())
    assert_picture(load_picture({"bytes": None, "path": str(path)}), corners())
    assert_picture(load_picture({"path": str(path)}), corners())
    assert_refused({"bytes": b"", "path": "post.jpg"}, "bytes (0 B) of 'post.jpg'", "empty")
    assert_refused({"bytes": None, "path": "gone.jpg"}, "'gone.jpg'", "No such file")
    assert_refused({"bytes": None, "path": None}, "expected a PIL image")


def test_datasets_row():
    datasets = pytest.importorskip("datasets")
    column = datasets.Dataset.from_dict(
        {"image": [{"bytes": encode(corners(), "PNG"), "path": None}]},
        features=datasets.Features({"image": datasets.Image(decode=False)}),
    )
    assert_picture(load_picture(column[0]["image"]), corners())


@pytest.mark.parametrize(
    "picture, words",
    [
        (None, ["NoneType"]),
        (7, ["int"]),
        ([[0]], ["list"]),
        ("no/such/picture.jpg", ["'no/such/picture.jpg'", "No such file"]),
        (Path("no/such/picture.jpg"), ["'no/such/picture.jpg'", "No such file"]),
        ("", ["''", "No such file"]),
        (".", ["'.'", "directory"]),
        ("a\0b", ["null"]),
        ("x" * 100_000, ["xxx..."]),
        (b"", ["bytes (0 B)", "empty"]),
        (b"just text", ["bytes (9 B)", "b'just text'", "JPEG"]),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", ["expected one of"]),
    ],
)
def test_refusals(picture, words):
    assert len(assert_refused(picture, *words)) < 600


@pytest.mark.parametrize(
    "content, word", [(b"", "empty"), (b"<!DOCTYPE html><p>", "DOCTYPE"), (b"\xff\xd8\xff\xe0", "JPEG")]
)
def test_file_that_is_no_picture(tmp_path, content, word):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    assert_refused(path, str(path), word)


# Modes and formats


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats(format):
    options = {"lossless": True} if format == "WEBP" else {}
    assert_picture(load_picture(encode(Image.fromarray(noise()), format, **options)), noise())


@pytest.mark.parametrize(
    "format, options", [("JPEG", {}), ("JPEG", {"progressive": True}), ("AVIF", {}), ("WEBP", {}), ("MPO", {})]
)
def test_lossy_formats(format, options):
    smooth = Image.linear_gradient("L").convert("RGB")
    assert_picture(load_picture(encode(smooth, format, quality=95, **options)), smooth, tolerance=6)


@pytest.mark.parametrize(
    "mode, pixel, expected",
    [
        ("1", 1, WHITE),
        ("L", 100, (100, 100, 100)),
        ("LA", (0, 0), WHITE),
        ("LA", (40, 255), (40, 40, 40)),
        ("LA", (0, 51), (204, 204, 204)),
        ("La", (40, 255), (40, 40, 40)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBX", (1, 2, 3, 4), (1, 2, 3)),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 102), (255, 153, 153)),
        ("RGBa", (102, 0, 0, 102), (255, 153, 153)),
        ("CMYK", (0, 255, 255, 0), RED),
        ("CMYK", (0, 0, 0, 255), BLACK),
        ("YCbCr", (76, 85, 255), (254, 0, 0)),
        ("HSV", (0, 255, 255), RED),
        ("I", 0x8080, (128, 128, 128)),
        ("I", 65535, WHITE),
        ("I;16", 300, (1, 1, 1)),
        ("I;16B", 0x8080, (128, 128, 128)),
        ("I;16L", 0x8080, (128, 128, 128)),
        ("F", 1.0, WHITE),
        ("F", 0.5, (128, 128, 128)),
        ("F", 127.6, (128, 128, 128)),
        ("F", 255.0, WHITE),
        ("F", 255.5, WHITE),
    ],
)
def test_modes(mode, pixel, expected):
    image = Image.new(mode, (3, 2), pixel)
    assert_picture(load_picture(image), np.full((2, 3, 3), expected))
    assert image.mode == mode and image.getpixel((0, 0)) == Image.new(mode, (1, 1), pixel).getpixel((0, 0))


@pytest.mark.parametrize(
    "colour, expected",  # worked out by hand from the CIE equations and the rounded LAB values
    [(RED, RED), (GREEN, (10, 255, 0)), (BLUE, (0, 1, 254)), ((60, 90, 180), (59, 90, 179))],
)
def test_lab(colour, expected):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.new("RGB", (2, 2), colour), *profiles, outputMode="LAB")
    assert lab.mode == "LAB"
    for picture in (lab, encode(lab, "TIFF")):
        assert_picture(load_picture(picture), np.full((2, 2, 3), colour), tolerance=10)  # LAB itself is 8-bit
        assert_picture(load_picture(picture), np.full((2, 2, 3), expected), tolerance=1)


def test_cmyk_jpeg_is_not_inverted():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert_picture(load_picture(encode(red, "JPEG", quality=95)), np.full((16, 16, 3), RED), tolerance=4)


# Every 16-bit level; convert("RGB") turns all but the first 255 of them white.
GRADIENT = np.arange(65536).reshape(256, 256)


def in_mode(mode):
    if mode == "I":
        return Image.fromarray(GRADIENT.astype(np.int32))
    return Image.frombytes(mode, (256, 256), GRADIENT.astype(">u2" if mode == "I;16B" else "<u2").tobytes())


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(in_mode("I;16"), id="I;16"),
        pytest.param(in_mode("I;16L"), id="I;16L"),
        pytest.param(in_mode("I;16B"), id="I;16B"),
        pytest.param(in_mode("I"), id="I"),
        pytest.param(encode(in_mode("I;16"), "PNG"), id="PNG"),
        pytest.param(encode(in_mode("I;16"), "TIFF"), id="TIFF"),
        pytest.param(encode(in_mode("I;16B"), "TIFF"), id="big-endian TIFF"),
        pytest.param(encode(in_mode("I"), "TIFF"), id="32-bit TIFF"),
        pytest.param(b"P5 256 256 65535 " + GRADIENT.astype(">u2").tobytes(), id="PGM"),
        pytest.param(GRADIENT.astype(np.uint16), id="array"),
        pytest.param(GRADIENT.astype(">u2"), id="big-endian array"),
        pytest.param(torch.from_numpy(GRADIENT.astype(np.uint16)), id="tensor"),
        pytest.param(GRADIENT / 65535, id="float array"),
        pytest.param(Image.fromarray((GRADIENT / 65535).astype(np.float32)), id="F"),
        pytest.param(Image.fromarray((GRADIENT / 257).astype(np.float32)), id="F to 255"),
        pytest.param(encode(Image.fromarray((GRADIENT / 65535).astype(np.float32)), "TIFF"), id="float TIFF"),
    ],
)
def test_sixteen_bits_are_scaled_not_clipped(picture):
    expected = np.rint(GRADIENT * (255 / 65535)).astype(int)
    assert_picture(load_picture(picture), np.dstack([expected] * 3))


@pytest.mark.parametrize(
    "image, words",
    [
        (Image.new("I", (2, 2), 65536), ["mode I", "0..65535", "65536"]),
        (Image.new("I", (2, 2), -1), ["mode I", "-1"]),
        (Image.new("F", (2, 2), 255.6), ["mode F", "0..255", "255.6"]),
        (Image.new("F", (2, 2), -0.5), ["mode F", "0..1", "-0.5"]),
        (Image.new("F", (2, 2), float("nan")), ["mode F", "nan"]),
    ],
)
def test_grey_out_of_range(image, words):
    assert_refused(image, "2 x 2", *words)


# Transparency


def palette_image():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    return image


@pytest.mark.parametrize(
    "transparency, expected",
    [
        (None, [RED, BLUE]),
        (0, [WHITE, BLUE]),
        (1, [RED, WHITE]),
        (bytes([255, 102]), [RED, (153, 153, 255)]),
    ],
)
def test_palette(transparency, expected):
    image = palette_image()
    assert_picture(load_picture(encode(image, "PNG", transparency=transparency)), [expected])
    if transparency is not None:
        image.info["transparency"] = transparency
    before = encode(image, "PNG"), image.im.getpalette("RGBA", "RGBA")
    for _ in range(2):
        assert_picture(load_picture(image), [expected])
    assert before == (encode(image, "PNG"), image.im.getpalette("RGBA", "RGBA"))  # left as it was


def test_palette_with_alpha():
    image = Image.merge("PA", (palette_image(), Image.new("L", (2, 1), 102)))
    image.putpalette([*RED, *BLUE])
    assert_picture(load_picture(image), [[(255, 153, 153), (153, 153, 255)]])


@pytest.mark.parametrize(
    "depth, colour_type, row, key, expected",
    [
        (1, 0, b"\x80", b"\0\1", [255, 0]),
        (1, 0, b"\x80", b"\0\0", [255, 255]),
        (2, 0, b"\x90", b"\0\2", [255, 85]),
        (2, 0, b"\x90", b"\0\1", [170, 255]),
        (4, 0, b"\x59", b"\0\x05", [255, 153]),
        (4, 0, b"\x59", b"\0\x09", [85, 255]),
        (8, 0, b"\x05\x55", b"\0\x05", [255, 85]),
        (16, 0, b"\x55\x00\x55\xff", b"\x55\x00", [255, 86]),  # the whole 16 bits count: the other one stays
        (8, 2, bytes([9] * 3 + [8] * 3), bytes([0, 9] * 3), [255, 8]),
    ],
)
def test_png_transparent_colour(depth, colour_type, row, key, expected):
    data = png(2, 1, depth, colour_type, b"\0" + row, (b"tRNS", key))
    assert_picture(load_picture(data), [[(grey,) * 3 for grey in expected]])


def test_transparent_gif():
    image = palette_image()
    assert_picture(load_picture(encode(image, "GIF", transparency=0)), [[WHITE, BLUE]])


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_animation_gives_the_first_frame(format):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert_picture(load_picture(data), np.full((16, 16, 3), RED), tolerance=4 if format == "AVIF" else 0)


def test_pil_animation_gives_the_frame_it_stands_at():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    image = Image.open(io.BytesIO(encode(frames[0], "GIF", save_all=True, append_images=frames[1:])))
    image.seek(1)
    assert_picture(load_picture(image), np.full((4, 4, 3), GREEN))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF"])
def test_extreme_shapes(size, format):
    assert_picture(load_picture(encode(Image.new("RGB", size, WHITE), format)), np.full((*size[::-1], 3), 255))


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation(format, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    options = {"exif": tags} if format == "TIFF" else {"exif": tags, "quality": 95}
    data = encode(corners((60, 40)), format, **options)
    expected = {
        1: lambda pixels: pixels,
        2: np.fliplr,
        3: lambda pixels: np.rot90(pixels, 2),
        4: np.flipud,
        5: lambda pixels: np.swapaxes(pixels, 0, 1),
        6: lambda pixels: np.rot90(pixels, -1),
        7: lambda pixels: np.rot90(np.swapaxes(pixels, 0, 1), 2),
        8: np.rot90,
    }[orientation](np.asarray(corners((60, 40))))
    for picture in (data, Image.open(io.BytesIO(data))):
        image = load_picture(picture)
        assert image.size == (expected.shape[1], expected.shape[0])
        assert_picture(load_picture(image), np.asarray(image))  # it is not turned twice
        for y, x in ((4, 4), (4, -5), (-5, 4), (-5, -5)):
            assert np.abs(np.asarray(image)[y, x].astype(int) - expected[y, x]).max() < 40


def test_orientation_6_brings_the_red_corner_to_the_right():
    tags = Image.Exif()
    tags[0x0112] = 6
    image = load_picture(encode(corners(), "PNG", exif=tags))
    assert image.size == (20, 30) and image.getpixel((19, 0)) == RED and image.getpixel((0, 0)) == WHITE


def test_orientation_of_sixteen_bit_and_palette_pictures():
    tags = Image.Exif()
    tags[0x0112] = 8
    grey = np.array([[0, 257 * 100, 257 * 200]], dtype=np.uint16)
    for data in (encode(Image.fromarray(grey), "PNG", exif=tags), encode(Image.fromarray(grey), "TIFF", exif=tags)):
        assert_picture(load_picture(data), [[(200,) * 3], [(100,) * 3], [(0,) * 3]])
    assert_picture(load_picture(encode(palette_image(), "PNG", exif=tags)), [[BLUE], [RED]])


UPRIGHT_6 = (0x0112, 3, b"\6\0\0\0")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it cannot read
@pytest.mark.parametrize(
    "block, size",
    [
        (b"Exif\0\0", (30, 20)),
        (b"Exif\0\0garbage", (30, 20)),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", (30, 20)),
        (exif((0x0112, 2, b"abc\0")), (30, 20)),
        (exif((0x0112, 3, b"\x63\0\0\0")), (30, 20)),
        (exif(UPRIGHT_6, (0x8825, 4, b"\xff\xff\xff\xff")), (20, 30)),
        (exif(UPRIGHT_6)[:-4], (20, 30)),
        (exif(UPRIGHT_6, (0x011A, 2, b"abc\0")), (20, 30)),
        (exif(UPRIGHT_6, (0x0111, 2, b"abc\0")), (20, 30)),
    ],
)
def test_broken_exif(block, size):
    assert load_picture(encode(corners(), "JPEG", exif=block)).size == size


@pytest.mark.filterwarnings("ignore")
def test_pillow_cannot_turn_a_picture_with_a_malformed_tag():
    """Why ImageOps.exif_transpose is not used; if this fails, it can be."""
    data = encode(corners(), "JPEG", exif=exif(UPRIGHT_6, (0x0111, 2, b"abc\0")))
    with pytest.raises(Exception, match="not an integer"):
        ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


# Arrays and tensors


@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
@pytest.mark.parametrize(
    "values, levels",
    [
        (np.array([[0, 7, 255]], dtype=np.uint8), [0, 7, 255]),
        (np.array([[0, 128, 129, 65535]], dtype=np.uint16), [0, 0, 1, 255]),
        (np.array([[False, True]]), [0, 255]),
        (np.array([[0, 0.5, 1]], dtype=np.float16), [0, 128, 255]),
        (np.array([[0, 0.2, 1.0000001]], dtype=np.float32), [0, 51, 255]),
        (np.array([[-1e-9, 0.2, 1]], dtype=np.float64), [0, 51, 255]),
    ],
)
def test_array_values(make, values, levels):
    expected = [[(level,) * 3 for level in levels]]
    assert_picture(load_picture(make(values)), expected)
    values, expected = np.tile(values, (5, 5)), np.tile(expected, (5, 5, 1))
    original = values.copy()
    assert_picture(load_picture(make(values)), expected)
    assert_picture(load_picture(make(values[:, :, None])), expected)
    assert_picture(load_picture(make(values[None])), expected)
    assert_picture(load_picture(make(np.dstack([values] * 3))), expected)
    assert (values == original).all()


def test_array_layouts():
    pixels = noise(height=6, width=5)
    assert_picture(load_picture(pixels), pixels)
    assert_picture(load_picture(np.moveaxis(pixels, 2, 0)), pixels)
    assert_picture(load_picture(pixels[:, ::-1]), pixels[:, ::-1])  # not contiguous
    assert_picture(load_picture(torch.from_numpy(pixels)), pixels)
    assert_picture(load_picture(torch.from_numpy(pixels).permute(2, 0, 1)), pixels)
    assert_picture(load_picture(pixels[:, :, 0]), np.dstack([pixels[:, :, 0]] * 3))
    assert_picture(load_picture(pixels[None, :, :, 0]), np.dstack([pixels[:, :, 0]] * 3))


def test_array_alpha():
    pixels = np.zeros((5, 6, 4), dtype=np.uint8)
    pixels[..., 0], pixels[..., 3] = 255, 102
    expected = np.full((5, 6, 3), (255, 153, 153))
    assert_picture(load_picture(pixels), expected)
    assert_picture(load_picture(np.moveaxis(pixels, 2, 0)), expected)
    assert_picture(load_picture(pixels / 255), expected)


def test_array_layout_where_both_fit():
    pixels = noise(height=3, width=7)
    assert_picture(load_picture(noise(height=1, width=7)), noise(height=1, width=7))
    assert_picture(load_picture(noise(height=3, width=3)), noise(height=3, width=3))
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)[:, :, :3]  # (3, 3, 3)
    assert_picture(load_picture(channels_first), pixels[:, :3])


def test_tensor_kinds():
    ramp = torch.tensor([[0.0, 0.25, 1.0]])
    expected = [[(level,) * 3 for level in (0, 64, 255)]]
    assert_picture(load_picture(ramp.to(torch.bfloat16)), expected)
    assert_picture(load_picture(ramp.clone().requires_grad_()), expected)
    assert_picture(load_picture(torch.nn.Parameter(ramp)), expected)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
@pytest.mark.parametrize(
    "values, words",
    [
        (np.full((2, 2), 1.5), ["0..1", "1.5"]),
        (np.full((2, 2), -0.01), ["0..1", "-0.01"]),
        (np.array([[0.0, 200.0]]), ["0..1", "200"]),
        (np.array([[0.0, np.nan]]), ["0..1", "nan"]),
        (np.array([[0.0, np.inf]]), ["0..1", "inf"]),
        (np.zeros((2, 2), dtype=np.int64), ["uint8 (0..255)", "int64"]),
        (np.zeros((2, 2), dtype=np.complex64), ["float (0..1)", "complex64"]),
        (np.zeros(7, dtype=np.uint8), ["(7,)", "(H, W)"]),
        (np.zeros((5, 5, 2), dtype=np.uint8), ["(5, 5, 2)", "1|3|4"]),
        (np.zeros((1, 3, 5, 5), dtype=np.uint8), ["(1, 3, 5, 5)", "(H, W)"]),
        (np.zeros((0, 5, 3), dtype=np.uint8), ["(0, 5, 3)", "no pixels"]),
        (np.zeros((), dtype=np.uint8), ["()", "(H, W)"]),
    ],
)
def test_array_refusals(make, values, words):
    assert_refused(make(values), "array of shape", *words)


# Bounds


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(encode(Image.new("RGB", (20, 30)), "PNG"), id="PNG"),
        pytest.param(Image.new("RGB", (20, 30)), id="PIL"),
        pytest.param(np.zeros((30, 20), dtype=np.uint8), id="array"),
        pytest.param(torch.zeros(3, 30, 20), id="tensor"),
    ],
)
def test_max_pixels(picture):
    assert_refused(picture, "20 x 30 = 600", "max_pixels=599", "load_picture(picture, max_pixels=600)", max_pixels=599)
    assert load_picture(picture, max_pixels=600).size == (20, 30)


LARGE_JPEG = encode(corners((803, 401)), "JPEG", quality=95)


def bomb(format, width, height):
    """A file whose header promises far more pixels than it holds."""
    if format == "PNG":
        return png(width, height, 8, 2, b"")
    data = bytearray(encode(Image.new("RGB", (8, 8)), format))
    if format == "GIF":
        struct.pack_into("<HH", data, 6, width, height)
    elif format == "BMP":
        struct.pack_into("<ii", data, 18, width, height)
    elif format == "PPM":
        data = f"P6 {width} {height} 255 ".encode()
    return bytes(data)


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("side", [8_000, 10_000, 20_000])  # under, over and over twice Pillow's own bound
def test_bombs_are_refused_by_their_header(format, side):
    data = bomb(format, side, side)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_refused(data, f"{side} x {side}", "max_pixels=50000000", f"max_pixels={side * side})")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_webp_bomb():
    data = bytearray(
        encode(Image.new("RGBA", (8, 8)), "WEBP", save_all=True, append_images=[Image.new("RGBA", (8, 8), "red")])
    )
    assert data[12:16] == b"VP8X"
    data[24:30] = (16_000 - 1).to_bytes(3, "little") * 2
    assert_refused(bytes(data), "max_pixels")


def test_jpeg_bomb_is_refused_by_its_length():
    """Its reader would fill what is missing with grey."""
    data = encode(Image.new("RGB", (8, 8)), "JPEG")
    start = data.index(b"\xff\xc0") + 5
    data = data[:start] + struct.pack(">HH", 50_000, 50_000) + data[start + 4 :]
    assert_refused(data, f"{len(data)} bytes cannot hold its 50000 x 50000 pixels")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "quality": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_plainest_jpeg_is_long_enough(mode, options):
    assert load_picture(encode(Image.new(mode, (3000, 2000)), "JPEG", **options)).size == (3000, 2000)


def test_jpeg_with_endless_scans():
    data = encode(corners(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert load_picture(data[:-2] + scan * 50 + data[-2:]).size == corners().size
    assert_refused(data[:-2] + scan * 100 + data[-2:], "scans, more than 100")


@pytest.mark.parametrize(
    "max_pixels, size",
    [
        (803 * 401, (803, 401)),
        (803 * 401 - 1, (402, 201)),
        (402 * 201 - 1, (201, 101)),
        (201 * 101 - 1, (101, 51)),
        (101 * 51, (101, 51)),
    ],
)
def test_large_jpeg_is_reduced(max_pixels, size):
    image = load_picture(LARGE_JPEG, max_pixels=max_pixels)
    assert image.size == size
    for x, y, colour in ((0.1, 0.1, RED), (0.9, 0.1, GREEN), (0.9, 0.9, BLUE), (0.1, 0.9, WHITE)):
        pixel = image.getpixel((int(x * size[0]), int(y * size[1])))
        assert np.abs(np.subtract(pixel, colour)).max() < 4


def test_jpeg_that_cannot_be_reduced_enough():
    assert_refused(LARGE_JPEG, "803 x 401", "load_picture(picture, max_pixels=322003)", max_pixels=101 * 51 - 1)


def test_large_jpeg_beyond_pillows_own_bound_is_reduced(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_picture(encode(corners((80, 40)), "JPEG"), max_pixels=100).size == (10, 5)


def test_reduced_jpeg_is_turned():
    tags = Image.Exif()
    tags[0x0112] = 6
    reduced = load_picture(encode(corners((80, 40)), "JPEG", exif=tags, quality=95), max_pixels=200)
    assert reduced.size == (10, 20)
    assert_picture(reduced.resize((2, 2), Image.Resampling.BOX), [[WHITE, RED], [BLUE, GREEN]], tolerance=30)


def test_progressive_jpeg_is_halved_at_most():
    data = encode(corners((80, 40)), "JPEG", progressive=True)
    assert load_picture(data, max_pixels=800).size == (40, 20)
    assert_refused(data, "80 x 40", max_pixels=799)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize(
    "min_side, size",
    [(None, (803, 401)), (201, (803, 401)), (200, (402, 201)), (101, (402, 201)), (100, (201, 101)), (50, (101, 51))]
    + [(1, (101, 51)), (0, (101, 51)), (500, (803, 401))],
)
def test_jpeg_is_decoded_at_a_part_of_its_size_as_far_as_its_shorter_side_allows(min_side, size, options):
    data = encode(corners((803, 401)), "JPEG", **options)
    assert load_picture(data, min_side=min_side).size == size
    turned = encode(corners((401, 803)), "JPEG", **options)
    assert load_picture(turned, min_side=min_side).size == size[::-1]


def test_reduced_jpeg_is_the_picture_and_upright():
    tags = Image.Exif()
    tags[0x0112] = 6
    reduced = load_picture(encode(corners((80, 40)), "JPEG", exif=tags, quality=95), min_side=10)
    assert reduced.size == (10, 20)
    assert_picture(reduced.resize((2, 2), Image.Resampling.BOX), [[WHITE, RED], [BLUE, GREEN]], tolerance=30)


def test_both_bounds_hold_for_a_reduced_jpeg():
    data = encode(corners((80, 40)), "JPEG")
    assert load_picture(data, max_pixels=800, min_side=40).size == (40, 20)
    assert load_picture(data, max_pixels=800, min_side=10).size == (20, 10)
    large = encode(corners((80, 40)), "JPEG", progressive=True)  # takes the memory of its full size at any scale
    assert load_picture(large, max_pixels=800, min_side=10).size == (20, 10)
    assert_refused(large, "80 x 40", max_pixels=799, min_side=10)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_only_jpegs_are_reduced(format):
    data = encode(corners((80, 40)), format)
    assert load_picture(data, min_side=5).size == (80, 40)
    assert np.array_equal(load_picture(data, min_side=5), load_picture(data))
    opened = Image.open(io.BytesIO(encode(corners((80, 40)), "JPEG")))
    assert load_picture(opened, min_side=5).size == load_picture(np.asarray(opened), min_side=5).size == (80, 40)


def test_mpo_and_cmyk_jpegs_are_reduced_too():
    pages = encode(corners((80, 40)), "MPO", save_all=True, append_images=[corners((80, 40))])
    for data in (pages, encode(corners((80, 40)).convert("CMYK"), "JPEG", quality=95)):
        reduced = load_picture(data, min_side=20)
        assert reduced.size == (40, 20)
        assert_picture(reduced.resize((2, 2), Image.Resampling.BOX), [[RED, GREEN], [WHITE, BLUE]], tolerance=30)


def test_narrow_jpeg_over_the_bound():
    data = encode(Image.new("RGB", (3, 5000)), "JPEG")
    assert load_picture(data, max_pixels=5000).size == (2, 2500)
    for max_pixels in (4999, 700, 100):
        assert_refused(data, "3 x 5000", max_pixels=max_pixels)


def test_max_bytes(tmp_path):
    data, path = encode(Image.fromarray(noise()), "PNG"), tmp_path / "noise.png"
    path.write_bytes(data)
    for picture in (data, memoryview(data).cast("I") if len(data) % 4 == 0 else data, path, {"bytes": data}):
        words = str(len(data)), f"max_bytes={len(data) - 1}", f"load_picture(picture, max_bytes={len(data)})"
        assert_refused(picture, *words, max_bytes=len(data) - 1)
        assert_picture(load_picture(picture, max_bytes=len(data)), noise())


def test_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.jpg"
    with open(path, "wb") as file:
        file.truncate(10**10)  # takes no room on the disk
    assert_refused(path, str(path), "10000000000 bytes", "load_picture(picture, max_bytes=10000000000)")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_pillows_own_bound_does_not_count(monkeypatch, format):
    data = encode(Image.new("RGB", (40, 40), RED), format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_picture(load_picture(data), np.full((40, 40, 3), RED), tolerance=4)
        with pytest.raises(PictureError):
            load_picture(data[: len(data) // 2])
    assert Image.MAX_IMAGE_PIXELS == 100  # also put back after an error


def test_pillows_switches_are_not_touched_without_need(monkeypatch):
    """A reader that looks at them while a picture is being read sees what the application has set."""
    seen = []
    accept = Image.OPEN["PNG"][1]

    def spy(data, name):
        seen.append((Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES))
        return Image.open(data)

    monkeypatch.setitem(Image.OPEN, "PNG", (spy, accept))
    monkeypatch.setattr(Image, "open", lambda data: (_ for _ in ()).throw(SyntaxError("seen enough")))
    data = encode(corners(), "PNG")
    assert_refused(data, "seen enough")
    assert_refused(data, "seen enough", max_pixels=10**9)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert_refused(data, "seen enough")
    default = Image.MAX_IMAGE_PIXELS
    assert seen == [(default, False), (10**9, False), (default, False)]
    assert Image.MAX_IMAGE_PIXELS == default and ImageFile.LOAD_TRUNCATED_IMAGES


def test_threads(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encode(Image.fromarray(noise()), "JPEG")
    expected = np.asarray(load_picture(whole))

    def work(number):
        if number % 2:
            assert_refused(whole[:-200], "truncated")
        else:
            assert_picture(load_picture(whole), expected)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    assert Image.MAX_IMAGE_PIXELS == 100 and ImageFile.LOAD_TRUNCATED_IMAGES


# Broken files

SAMPLES = {
    "JPEG": encode(Image.fromarray(noise()), "JPEG"),
    "progressive JPEG": encode(Image.fromarray(noise()), "JPEG", progressive=True),
    "PNG": encode(Image.fromarray(noise()), "PNG"),
    "GIF": encode(Image.fromarray(noise()), "GIF"),
    "WebP": encode(Image.fromarray(noise()), "WEBP"),
    "AVIF": encode(Image.fromarray(noise()), "AVIF"),
    "BMP": encode(Image.fromarray(noise()), "BMP"),
    "TIFF": encode(Image.fromarray(noise()), "TIFF"),
    "deflated TIFF": encode(Image.fromarray(noise()), "TIFF", compression="tiff_adobe_deflate"),
    "PPM": encode(Image.fromarray(noise()), "PPM"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_cut_short_is_refused_or_whole(monkeypatch, name, tolerant):
    """However short a file is cut, and even where the application has told Pillow to make do with a part."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)
    data = SAMPLES[name]
    whole = np.asarray(load_picture(data))
    lengths = sorted({*range(0, len(data), 97), *range(len(data) - 25, len(data)), len(data) // 2})
    refused = []
    for length in lengths:
        try:
            assert_picture(load_picture(data[:length]), whole)
        except PictureError as error:
            assert f"bytes ({length} B)" in str(error)
            refused.append(length)
    assert len(refused) >= len(lengths) - 20 and len(data) // 2 in refused
    assert ImageFile.LOAD_TRUNCATED_IMAGES is tolerant


def test_pillow_would_return_a_part(monkeypatch):
    """The test above can fail: Pillow by itself gives half a picture, grey below."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = Image.open(io.BytesIO(SAMPLES["JPEG"][: len(SAMPLES["JPEG"]) // 2])).convert("RGB")
    assert len(np.unique(np.asarray(image)[-4:])) < 10


def test_lazily_opened_image_that_is_broken(tmp_path):
    assert_refused(Image.open(io.BytesIO(SAMPLES["JPEG"][:-300])), "PIL image of mode RGB, 30 x 40", "truncated")
    path = tmp_path / "closed.png"
    path.write_bytes(SAMPLES["PNG"])
    image = Image.open(path)
    image.close()
    assert_refused(image, "PIL image")


def test_nothing_left_open_can_fail(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(SAMPLES["PNG"])
    with pytest.raises(AssertionError), nothing_left_open():
        Image.open(path)


def test_files_are_closed(tmp_path):
    path = tmp_path / "picture"
    with nothing_left_open():
        for data in (*SAMPLES.values(), SAMPLES["JPEG"][:-200], b"text", b""):
            path.write_bytes(data)
            try:
                load_picture(path)
            except PictureError:
                pass


@pytest.mark.parametrize("name", SAMPLES)
def test_image_does_not_depend_on_its_file(tmp_path, name):
    path = tmp_path / "picture"
    path.write_bytes(SAMPLES[name])
    image = load_picture(path)
    expected = np.asarray(image).copy()
    with open(path, "r+b") as file:  # in place, so that a memory map would see it
        file.write(bytes(len(SAMPLES[name])))
    path.unlink()
    assert_picture(image, expected)
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)


def test_image_does_not_depend_on_the_one_given():
    given_image, array = corners(), np.asarray(corners()).copy()
    for source in (given_image, array):
        image = load_picture(source)
        image.paste(BLACK, (0, 0, 30, 20))
        assert_picture(load_picture(source), corners())


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", *(data[:16] for data in SAMPLES.values())]))
@example(b"", b"")
@example(b"P1 1 1 0", b"")
def test_any_bytes_are_an_image_or_an_error(data, start):
    try:
        image = load_picture(start + data, max_pixels=1_000_000)
    except PictureError as error:
        assert f"bytes ({len(start + data)} B)" in str(error)
    else:
        assert_picture(image, np.asarray(image))


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_any_damage_gives_an_image_or_an_error(name, damage):
    data = bytearray(SAMPLES[name])
    for where, byte in damage:
        data[int(where**3 * (len(data) - 1))] = byte  # more often in the header
    try:
        image = load_picture(bytes(data), max_pixels=1_000_000)
    except PictureError:
        return
    assert_picture(image, np.asarray(image))


def test_the_bytes_of_a_picture_are_those_of_its_file_now(tmp_path, picture_server):
    path, data = tmp_path / "post.png", encode(Image.fromarray(noise()), "PNG")
    path.write_bytes(data)
    for picture in (path, str(path), data, memoryview(data), {"bytes": data, "path": "gone"}, {"path": str(path)}):
        assert read_bytes(picture) == data
    assert read_bytes(f"{picture_server.url}/kobe.png", allow_private_addresses=True)[:4] == b"\x89PNG"
    for picture in (noise(), torch.zeros(3, 4, 4), Image.fromarray(noise()), {"bytes": Image.fromarray(noise())}):
        assert read_bytes(picture) is None
    path.write_bytes(b"edited")
    assert read_bytes(path) == b"edited"
    for picture, reason in (("gone.png", "No such file"), (3, "expected a PIL image"), (data * 9, "max_bytes=1000")):
        with pytest.raises(PictureError, match=f"cannot read picture .*{reason}"):
            read_bytes(picture, max_bytes=1000)
