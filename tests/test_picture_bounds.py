"""Pictures that are too large, take too much work, or are broken."""

import io
import struct
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
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
    noise,
    nothing_left_open,
    png,
)
from PIL import Image, ImageFile

from modeling_i2srm.pictures import PictureError, full_size, load_picture, read_bytes

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
    hidden = b"\xff\x02\xff\xff"  # no segment: the decoder reads on behind the marker of one that does not exist
    assert_refused(data[:-2] + hidden + scan * 100 + data[-2:], "scans, more than 100")
    assert_refused(data[:2] + b"\xff\xfe\x00\x02" * 10_001 + data[2:], "more than 10000 segments")


def test_scans_are_not_those_of_the_video_and_the_metadata_of_a_jpeg():
    data, starts = encode(corners(), "JPEG", progressive=True), b"\xff\xda" * 150
    comment = b"\xff\xfe" + (2 + len(starts)).to_bytes(2, "big") + starts
    assert load_picture(data + starts).size == load_picture(data[:2] + comment + data[2:]).size == corners().size


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
    assert image.size == size and full_size(image) == (803, 401)
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
    assert reduced.size == (10, 20) and full_size(reduced) == (40, 80)
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
