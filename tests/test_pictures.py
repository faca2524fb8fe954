"""Pictures of every kind, as plain RGB images."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_pictures import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    WHITE,
    assert_picture,
    assert_refused,
    corners,
    encode,
    exif,
    noise,
    png,
)
from PIL import Image, ImageCms, ImageOps

from modeling_i2srm.pictures import load_picture

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
