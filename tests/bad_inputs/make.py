"""Writes the bad inputs of tests/bad_inputs; the same bytes at every run.

python tests/bad_inputs/make.py FOLDER        # to look at them
"""

import functools
import io
import random
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image, ImageCms, ImageDraw

MARKERS_OF_GIF = b"GIF89a"


def photo(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    """A picture with something on it: red above, blue below, a circle."""
    image = Image.new("RGB", (width, height), "red")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height // 2, width, height), fill="blue")
    draw.ellipse((width // 4, height // 4, width // 2, height // 2), fill="white")
    return image.convert(mode)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, data: bytes, extra: bytes = b"") -> bytes:
    """A PNG of 8-bit RGB whose header and packed pixels are given."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """A few bytes that say they are 50,000 x 50,000 pixels, 7.5 GB, of every format that has a plain header."""
    side = 50_000
    jpeg = encoded(photo(), "JPEG")
    start = jpeg.index(b"\xff\xc0") + 5
    row = zlib.compressobj(9)
    rows = row.compress(bytes(1 + 3 * side) * 20) + row.flush()  # 20 rows of the 50,000 it promises
    return {
        "bomb.png": png(side, side, rows),
        "bomb.jpg": jpeg[:start] + struct.pack(">HH", side, side) + jpeg[start + 4 :],
        "bomb.gif": MARKERS_OF_GIF + struct.pack("<HHBBB", side, side, 0, 0, 0) + encoded(photo(mode="P"), "GIF")[13:],
        "bomb.bmp": (bmp := encoded(photo(), "BMP"))[:18] + struct.pack("<ii", side, side) + bmp[26:],
        "bomb.tif": large_tiff(side),
        "comment.png": png(4, 4, zlib.compress(bytes(13 * 4)), png_chunk(b"zTXt", b"Comment\0\0" + zeros())),
        "profile.png": png(4, 4, zlib.compress(bytes(13 * 4)), png_chunk(b"iCCP", b"profile\0\0" + zeros())),
        "scans.jpg": many_scans(),
    }


def large_tiff(side: int) -> bytes:
    """A TIFF of 40 x 30 whose tags say that it is larger."""
    content = bytearray(encoded(photo(), "TIFF"))
    start = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * entry
        tag, kind = struct.unpack_from("<HH", content, place)
        if tag in (256, 257, 278):  # width, height, rows of a strip
            struct.pack_into("<H" if kind == 3 else "<I", content, place + 8, side)
    return bytes(content)


@functools.cache
def zeros(megabytes: int = 200) -> bytes:
    """So many zeros, packed into 0.9 MB."""
    packer, megabyte = zlib.compressobj(1), bytes(10**6)
    return b"".join(packer.compress(megabyte) for _ in range(megabytes)) + packer.flush()


def many_scans(count: int = 5_000) -> bytes:
    """A progressive JPEG that brings its last scan again and again: some bytes each, and a pass over all pixels."""
    whole = encoded(Image.new("L", (2000, 2000), 77), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + scan * count + whole[-2:]


def pictures() -> dict[str, bytes]:
    """Files by name. Those in `READABLE` are odd and yet whole."""
    jpeg, as_png = encoded(photo(), "JPEG"), encoded(photo(), "PNG")
    noise = random.Random(0).randbytes(600)
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    srgb[24:36] = bytes(12)  # when it was made
    frames = [photo(), photo().rotate(180)]
    sixteen = Image.new("I;16", (40, 30), 40_000)
    return {
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": as_png[: len(as_png) // 2],
        "truncated.gif": encoded(photo(), "GIF")[:-40],
        "truncated.webp": encoded(photo(), "WEBP")[:-40],
        "headless.jpg": jpeg[2:],
        "header_only.jpg": jpeg[:24],
        "empty.jpg": b"",
        "one_byte.jpg": b"\xff",
        "text.jpg": b"this is no picture, whatever its name says\n",
        "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "noise.jpg": noise,
        "noise_with_signature.jpg": b"\xff\xd8\xff\xe0" + noise,
        "noise_with_signature.png": b"\x89PNG\r\n\x1a\n" + noise,
        "no_pixels.png": png(0, 40, zlib.compress(b"")),
        "script.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        **bombs(),
        # whole, but seldom seen
        "1x1.png": encoded(photo(1, 1), "PNG"),
        "1x5000.png": encoded(photo(1, 5000), "PNG"),
        "5000x1.jpg": encoded(photo(5000, 1), "JPEG"),
        "16_bit.png": encoded(sixteen, "PNG"),
        "cmyk.jpg": encoded(photo(mode="CMYK"), "JPEG"),
        "grey_alpha.png": encoded(photo(mode="LA"), "PNG"),
        "palette.png": encoded(photo(mode="P"), "PNG"),
        "one_bit.png": encoded(photo(mode="1"), "PNG"),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "turned.jpg": encoded(photo(), "JPEG", exif=exif),
        "turned_broken_exif.jpg": encoded(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09" + noise[:40]),
        "profile.jpg": encoded(photo(), "JPEG", icc_profile=bytes(srgb)),
        "broken_profile.jpg": encoded(photo(), "JPEG", icc_profile=noise[:200]),
        "broken_profile.png": encoded(photo(), "PNG", icc_profile=noise[:200]),
        "wrong_name.png": jpeg,
    }


@functools.cache
def pictures_once() -> dict[str, bytes]:
    return pictures()


READABLE = {
    "1x1.png": (1, 1),
    "1x5000.png": (1, 16),  # MAX_ASPECT
    "5000x1.jpg": (16, 1),
    "turned.jpg": (30, 40),
    **dict.fromkeys(
        (
            "16_bit.png cmyk.jpg grey_alpha.png palette.png one_bit.png animated.gif animated.webp "
            "turned_broken_exif.jpg profile.jpg broken_profile.jpg broken_profile.png wrong_name.png"
        ).split(),
        (40, 30),
    ),
}

# Texts, and the words in which they are read; None: no words.
TEXTS = {
    "empty": ("", None),
    "spaces": (" \t\n\u00a0\u2003 ", None),
    "emoji": ("\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", 3),
    "NUL": ("Kobe\0lands in \0 Paris", 6),
    "lone surrogate": ("Kobe \ud83d lands \udc00", 4),
    "right to left": ("\u0645\u0631\u062d\u0628\u0627 \u202eKobe\u202c \u05e9\u05dc\u05d5\u05dd", 5),
    "zero-width": ("\u200b\u200b\u2060\ufeff", 4),
    "joiners": ("\u200d\u200c\u200d", 1),
    "combining": ("\u0301" * 500, 1),
    "one long word": ("a" * 50_000, 1),
    "line ends": ("a\u2028b\u2029c\x85d\re", 5),
    "markers": ("<*> Kobe </*> <#> [CLS] [SEP] </#>", None),
}

SPANS = [
    (-1, 1),
    (1, 0),
    (1, 1),
    (0, 99),
    (99, 100),
    (0.0, 1.0),
    (0, 1.5),
    (True, 2),
    (False, True),
    ("0", "1"),
    "01",
    None,
    (None, 1),
    (float("nan"), 1),
    (0, float("inf")),
    (0,),
    (0, 1, 2),
    {},
    {"start": 0},
    {"begin": 0, "end": 1},
    0,
    b"\x00\x01",
    (10**30, 10**31),
    ([0], [1]),
]


def write_pictures(folder: Path) -> dict[str, Path]:
    """Write all pictures; their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, content in pictures_once().items():
        paths[name] = folder / name
        paths[name].write_bytes(content)
    return paths


if __name__ == "__main__":
    for path in write_pictures(Path(sys.argv[1])).values():
        print(f"{path.stat().st_size:>9,}  {path}")
