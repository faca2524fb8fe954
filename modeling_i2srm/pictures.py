"""Reading one picture, from wherever it comes, as 8-bit RGB."""

import errno
import io
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from PIL import Image, ImageCms, ImageFile
from transformers.utils import logging

from .checks import is_missing
from .remote_pictures import CHUNK_BYTES, AddressError, SizeError, check_bytes, is_address, read_address, read_all

logger = logging.get_logger(__name__)

# The formats posts come in. Left out on purpose: those that call another program (EPS), that may hold a picture of
# another size than the header says (ICO, ICNS), or that have no signature (TGA).
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM")
MAX_ASPECT = 16  # longer pictures are cut to this ratio around their centre before they are resized
MAX_SCANS = 100  # of a progressive JPEG; usual ones have ten. Each is decoded at full size, and takes some 50 bytes
MAX_SEGMENTS = 10_000  # of a JPEG; one with large metadata has hundreds
# What the decoder of a JPEG stops at: not a packed 0xff, not a restart, not what it takes for a broken byte of a scan.
SEGMENT_PATTERN = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
URL_PATTERN = re.compile(r"https?://", re.IGNORECASE)
# How the base64 of a picture's file begins: PNG, JPEG, GIF, WebP, BMP, TIFF.
BASE64_PATTERN = re.compile(r"(iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk|SUkqA|TU0AK)[A-Za-z0-9+/_\s-]*={0,2}\s*")
BASE64_HINT = (
    "it looks like base64, which is not guessed: give the bytes, base64.b64decode(picture), or a data: URI, "
    "'data:image/png;base64,' + picture"
)

# How to turn a picture upright, by its EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}
ORIENTATION_TAG = 0x0112
FULL_SIZE = "full_size"  # in the info of a picture that is decoded at a part of its size
EXPECTED = "expected a PIL image, a path, an http(s) URL, bytes, a numpy array or a torch tensor"
PICTURE_KEYS = {"bytes", "path", "box", "score", "label"}  # of a dictionary that is a picture or a box
DEFAULT_SCORE, DEFAULT_LABEL = 1.0, "object"  # of a box without them
FAULT_KINDS = ("download", "address", "missing", "outside", "unreadable")  # of a `PictureError`

# What is wrong with the machine, not with a picture: too many open files, no memory, a broken disk or network folder.
MACHINE_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE}

_pillow_lock = threading.Lock()


class PictureError(ValueError):
    """A picture that cannot be read; the message names the picture and the reason.

    Args:
        kind: "download" (of an http or https URL), "address" (one that is never read, such as s3:// or a broken data:
            URI), "missing" (no such file), "outside" (of the folder that pictures may be in), or "unreadable".

    `place` is the picture's place in a post, "image" or "objects[0]" ..., if it is of one.
    """

    def __init__(self, message: str, kind: str = "unreadable"):
        super().__init__(message)
        self.kind = kind
        self.place: str | None = None

    @property
    def is_too_large(self) -> bool:
        """Whether the picture exceeds the limit of bytes or pixels."""
        return isinstance(self.__cause__, SizeError)

    @property
    def is_machines_fault(self) -> bool:
        """Whether the same picture may well be read another time."""
        cause = self.__cause__
        return isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in MACHINE_ERRORS)


def load_picture(
    picture: object,
    max_pixels: int = 50_000_000,
    max_bytes: int = 50_000_000,
    timeout: float = 10.0,
    min_side: int | None = None,
    allow_private_addresses: bool = False,
) -> Image.Image:
    """Read a picture as a new 8-bit RGB image, upright, without transparency.

    Args:
        picture: one of

            - a PIL image, in any mode; of an animation the frame it stands at. It is loaded, else left as it is;
            - a path (`str` or `os.PathLike`), an http or https URL, a data: URI, the bytes of a file (`bytes`,
              `bytearray`, `memoryview`), or a file opened in binary mode, which is read from its start and left where
              it stood; in one of `FORMATS`, of an animation the first frame;
            - a `{"bytes": ..., "path": ...}` dictionary, as `datasets.Image(decode=False)` gives; bytes go first;
            - a numpy array or torch tensor (H, W), (H, W, 1|3|4) or (1|3|4, H, W), of bool, uint8 (0 to 255), uint16
              (0 to 65535) or float (0 to 1). Where both layouts fit, arrays are channels-last, tensors channels-first.

        max_pixels: most pixels (width x height) to decode. A larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size if
            that is few enough, a larger progressive one at 1/2 only: at any scale it takes memory for the full size.
        max_bytes: most bytes of a file, a download or `bytes`.
        timeout: seconds, for a download as a whole, from looking up the name to the last byte.
        min_side: decode a JPEG at the smallest of 1/2, 1/4 and 1/8 of its size whose shorter side is still at least
            this long, in pixels; faster, for a picture that is made smaller afterwards. Other formats, PIL images and
            arrays stay as they are. Default: the full size.
        allow_private_addresses: also download from this machine and the networks around it (127.0.0.1, 10.x, 192.168.x,
            169.254.x, their IPv6 counterparts, and names that lead there), which anybody who writes a URL into a post
            could otherwise have asked.

    Raises:
        PictureError: the picture is missing, broken, cut short, over a bound, or of no known kind; an address is
            neither an http or https URL nor a data: URI, or leads to an address that is not public. A picture is never
            returned in part.

    What is transparent shows white. 16-bit grey (modes I;16 and I) is scaled from 0..65535. Mode F is taken as 0..1 if
    no value is above 1, else as 0..255. Colour profiles are not applied. The image returned carries no metadata, but
    where it is decoded at a part of its size, its upright full size (`full_size`).
    """
    try:
        return _load(picture, max_pixels, max_bytes, timeout, min_side, allow_private_addresses)
    except Exception as error:  # Pillow's readers raise nearly anything on a broken file
        message = f"cannot load picture {_name(picture)}: {_reason(error, timeout)}"
        raise PictureError(message, _kind(picture, error)) from error


def read_bytes(
    picture: object, max_bytes: int = 50_000_000, timeout: float = 10.0, allow_private_addresses: bool = False
) -> bytes | None:
    """The bytes of a picture's file, read or downloaded now; `None` for one that is not a file (image, array, tensor).

    Args:
        picture, max_bytes, timeout, allow_private_addresses: as in `load_picture`, which turns what is returned into an
            image.

    Raises:
        PictureError: the file is missing or over the bound, or the picture is of no known kind.

    Example:

    >>> read_bytes({"bytes": b"GIF89a", "path": None})
    b'GIF89a'
    """
    try:
        return _read_bytes(picture, max_bytes, timeout, allow_private_addresses)
    except Exception as error:
        message = f"cannot read picture {_name(picture)}: {_reason(error, timeout)}"
        raise PictureError(message, _kind(picture, error)) from error


def limit_aspect(picture: Image.Image) -> Image.Image:
    """Cut a very long picture to `MAX_ASPECT` around its centre, so that resizing its short side stays bounded."""
    width, height = picture.size
    longest = MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return picture
    left, top = max((width - longest) // 2, 0), max((height - longest) // 2, 0)
    return picture.crop((left, top, left + min(width, longest), top + min(height, longest)))


def is_url(picture: object) -> bool:
    """Whether a picture has to be downloaded."""
    picture = _content(picture)
    return isinstance(picture, str) and URL_PATTERN.match(picture) is not None


def is_absent(picture: object) -> bool:
    """Whether the place of a picture is empty: `None`, NaN (of pandas), an empty text, or a dictionary of such values.

    >>> [is_absent(value) for value in (None, float("nan"), "", {"bytes": None, "path": None}, "kobe.jpg", b"")]
    [True, True, True, True, False, False]
    """
    if isinstance(picture, Mapping):
        return bool(picture) and picture.keys() <= PICTURE_KEYS and all(map(is_absent, picture.values()))
    return is_missing(picture) or (isinstance(picture, str) and not picture)


def is_box(crop: object) -> bool:
    """Whether a crop is given as a box in the image of its post, as in answers, and not as a picture.

    >>> [is_box(crop) for crop in ({"box": [0, 0, 9, 9], "label": "dog"}, {"path": "a.jpg", "box": None}, "a.jpg")]
    [True, False, False]
    """
    return isinstance(crop, Mapping) and crop.get("box") is not None and is_absent(_content(crop))


def full_size(picture: Image.Image) -> tuple[int, int]:
    """The width and height that a picture of `load_picture` has before it is decoded at a part of its size."""
    return picture.info.get(FULL_SIZE, picture.size)


def scale_box(box: Sequence[int], picture: Image.Image) -> tuple[int, int, int, int]:
    """A box in pixels of the full size of a picture, in its own pixels; it holds those that the box has a part of.

    >>> scale_box((0, 1, 5, 7), Image.new("RGB", (8, 8)))
    (0, 1, 5, 7)
    """
    (left, top, right, bottom), (width, height), (across, down) = box, full_size(picture), picture.size
    return left * across // width, top * down // height, -(-right * across // width), -(-bottom * down // height)


def single_picture(picture: object, name: str = "image") -> object:
    """What a post has as its image, as one picture: `None` where it is absent, and the first of several.

    Args:
        picture: what `load_picture` takes, an absent one, or a list of these; of several a warning says so.
        name: of the picture in the warning.
    """
    if isinstance(picture, (list, tuple)) or (isinstance(picture, np.ndarray) and picture.dtype == object):
        present = [one for one in picture if not is_absent(one)]
        if len(present) > 1:
            logger.warning(f"{name} holds {len(present)} pictures: the first is read, the others are not")
        return present[0] if present else None
    return None if is_absent(picture) else picture


def _content(picture: Any) -> Any:
    """What a dictionary of `datasets.Image` holds; anything else as it is."""
    if isinstance(picture, Mapping):
        return picture.get("path") if picture.get("bytes") is None else picture["bytes"]
    return picture


def _held(picture: Any) -> Any:
    """As `_content`, of a picture that is about to be read."""
    content = _content(picture)
    if isinstance(picture, Mapping) and is_absent(content):
        raise ValueError(f"it has neither bytes nor a path; {EXPECTED}")
    return content


def _load(
    picture: Any, max_pixels: int, max_bytes: int, timeout: float, min_side: int | None, allow_private_addresses: bool
) -> Image.Image:
    picture = _held(picture)
    data = _read_bytes(picture, max_bytes, timeout, allow_private_addresses)
    if data is not None:
        with _pillow_switches(max_pixels):
            image, size = _open(data, max_pixels, min_side)
            return _from_image(image, max_pixels, size)
    if isinstance(picture, Image.Image):
        with _pillow_switches(max_pixels):
            return _from_image(picture, max_pixels)
    if isinstance(picture, np.ndarray):
        return _from_array(picture, max_pixels, channels_first=False)
    tensor = picture.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # numpy has no bfloat16
    return _from_array(array, max_pixels, channels_first=True)


# Where the bytes come from


def _read_bytes(picture: Any, max_bytes: int, timeout: float, allow_private_addresses: bool) -> bytes | None:
    picture = _held(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        check_bytes(memoryview(picture).nbytes, max_bytes)
        return bytes(picture)
    if is_address(picture):
        return read_address(picture, max_bytes, timeout, allow_private_addresses)
    if isinstance(picture, (str, os.PathLike)):
        return _read_file(picture, max_bytes)
    if isinstance(picture, (Image.Image, np.ndarray)) or _is_tensor(picture):
        return None
    if callable(getattr(picture, "read", None)):
        return _read_stream(picture, max_bytes)
    raise ValueError(EXPECTED)


def _read_stream(stream: Any, max_bytes: int) -> bytes:
    """All of an opened file or buffer; where it can seek, from its start, and it is left where it stood."""
    seekable = getattr(stream, "seekable", None)
    position = stream.tell() if seekable is not None and seekable() else None
    if position is not None:
        stream.seek(0)
    try:
        data = bytearray()
        while chunk := stream.read(CHUNK_BYTES):
            if not isinstance(chunk, bytes):
                raise ValueError("it is opened as text; open it in binary mode, e.g. open('kobe.jpg', 'rb')")
            data += chunk
            check_bytes(len(data), max_bytes)
        return bytes(data)
    finally:
        if position is not None:
            stream.seek(position)


def _read_file(path: str | os.PathLike, max_bytes: int) -> bytes:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if isinstance(path, str) and BASE64_PATTERN.fullmatch(path):
            raise AddressError(BASE64_HINT) from error
        raise
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe may never end, nor even begin; open() says of folders
        raise ValueError("it is not a file, but a pipe, a device or a socket")
    with open(path, "rb") as file:
        check_bytes(os.fstat(file.fileno()).st_size, max_bytes)
        return read_all(file, max_bytes)


# From bytes, an image or an array to RGB


def _open(data: bytes, max_pixels: int, min_side: int | None) -> tuple[ImageFile.ImageFile, tuple[int, int] | None]:
    """The picture with its header read and nothing decoded, and the full size of a JPEG, which may be decoded smaller.

    Image.open is not used: it would warn of a picture, or refuse it, by Pillow's process-wide bound before ours.
    """
    if not data:
        raise ValueError("it is empty (0 bytes)")
    Image.init()
    for name in FORMATS:
        if name not in Image.OPEN:  # an older Pillow
            continue
        factory, accept = Image.OPEN[name]
        accepted = accept is not None and accept(data[:16])
        if isinstance(accepted, str):  # why this build of Pillow cannot read the format
            raise ValueError(accepted)
        if accepted:
            try:
                image = factory(io.BytesIO(data), "")
            except SyntaxError as error:
                raise ValueError(f"broken {name} file ({error})") from error
            except Image.DecompressionBombError as error:  # the reader's own check, far over the bound
                raise SizeError(
                    f"{error} The limit here is max_pixels={max_pixels}; "
                    "to read it anyway: load_picture(picture, max_pixels=...)"
                ) from error
            size = image.size if name == "JPEG" else None
            if name == "JPEG":
                _check_jpeg(image, data)
                _reduce(image, max_pixels, min_side)
            elif name == "PNG":
                _scale_transparent_grey(image)
            return image, size
    hint = f"; {BASE64_HINT}" if BASE64_PATTERN.fullmatch(data[:64].decode("latin-1")) else ""
    raise ValueError(f"it starts with {data[:16]!r}, expected one of {', '.join(FORMATS)}{hint}")


def _check_jpeg(image: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse a JPEG that takes far more work than its bytes can be a picture for; its reader would not notice."""
    scans = _count_scans(data)
    if scans > MAX_SCANS:
        raise ValueError(f"it has {scans} scans, more than {MAX_SCANS}")
    # Each block of 8 x 8 takes a bit at least, and the channel with the most blocks has a quarter of all places.
    width, height = image.size
    least = width * height // (64 * 8 * 4)
    if len(data) < least:
        raise ValueError(
            f"{len(data)} bytes cannot hold its {width} x {height} pixels, which take {least} or more: it is cut short"
        )


def _count_scans(data: bytes) -> int:
    """Count the scans of a JPEG up to the end of its image.

    Bytes inside of other segments do not count, nor does what follows the image, e.g. the video of a motion photo.

    Raises:
        ValueError: so many segments that walking them takes long.
    """
    scans = segments = place = 0
    while (marker := SEGMENT_PATTERN.search(data, place)) and marker[1] != b"\xd9":
        place, segments = marker.end(), segments + 1
        if segments > MAX_SEGMENTS:
            raise ValueError(f"it has more than {MAX_SEGMENTS} segments")
        if marker[1] != b"\xd8":  # the start of the image has no length
            place += max(int.from_bytes(data[place : place + 2], "big"), 2)
        scans += marker[1] == b"\xda"
    return scans


def _reduce(image: ImageFile.ImageFile, max_pixels: int, min_side: int | None) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 of its size: the largest of them under the bound where it is over it, and
    the smallest that leaves the shorter side `min_side` long."""
    (width, height), scale = image.size, 1
    if width * height > max_pixels:
        # libjpeg keeps all coefficients of a progressive JPEG, about 6 bytes a pixel of the full size at any scale.
        scales = (2,) if image.info.get("progressive") else (2, 4, 8)
        small = (s for s in scales if min(image.size) >= s and -(-width // s) * -(-height // s) <= max_pixels)
        scale = next(small, 0)
        if not scale:  # too large at any scale, and refused for it
            return
    if min_side is not None:
        scale = max(scale, *(s for s in (1, 2, 4, 8) if s == 1 or min(image.size) >= s * max(min_side, 1)))
    if scale > 1:
        image.draft(None, (width // scale, height // scale))


def _scale_transparent_grey(image: ImageFile.ImageFile) -> None:
    """Bring the transparent grey of a 2- or 4-bit PNG to 8 bits; Pillow does so with the pixels only."""
    grey = image.info.get("transparency")
    rawmode = image.tile[0][3] if image.tile else None
    if not isinstance(grey, int):
        return
    if rawmode == "L;2" and grey in range(4):
        image.info["transparency"] = grey * 85
    elif rawmode == "L;4" and grey in range(16):
        image.info["transparency"] = grey * 17


def _from_image(image: Image.Image, max_pixels: int, size: tuple[int, int] | None = None) -> Image.Image:
    _check_pixels(*image.size, max_pixels)
    image.load()
    upright = _upright(image)  # after load(), which turns a TIFF by itself
    picture = _to_rgb(image)
    if size is not None and size != image.size:
        picture.info[FULL_SIZE] = size[::-1] if upright in SIDEWAYS else size
    return picture if upright is None else picture.transpose(upright)


def _upright(image: Image.Image) -> Image.Transpose | None:
    """How to turn a picture upright; None if its EXIF data do not say or cannot be read.

    ImageOps.exif_transpose is not used: it writes the EXIF data again, which fails when any other tag is malformed.
    """
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # as many kinds as there are ways to break EXIF data
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    """A new RGB image without metadata, over white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _grey_image(image)
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "LAB":  # convert() goes through a coarse table and is up to 22 levels off
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        flags = ImageCms.Flags.NOOPTIMIZE
        image = cast(Image.Image, ImageCms.profileToProfile(image, *profiles, outputMode="RGB", flags=flags))
    elif image.mode == "P":
        image = image.copy()  # convert() writes the transparency into the palette of the image it is called on
    if image.has_transparency_data:
        image = image.convert("RGBA")
        result = Image.new("RGB", image.size, "white")
        result.paste(image, mask=image.getchannel("A"))
    else:
        result = image.convert("RGB")  # a copy, if it is RGB already
        result.info = {}
    return result


def _grey_image(image: Image.Image) -> Image.Image:
    """An image of mode I;16 (any byte order), I or F as L or LA; Pillow's own convert() clips at 255."""
    values = np.asarray(image)
    if image.mode == "F":
        grey = _to_levels(values, top=1.0 if values.max() <= 1 else 255.0)
    else:
        low, high = values.min(), values.max()
        if low < 0 or high > 65535:
            raise ValueError(f"mode I values must be in 0..65535, these are in {low}..{high}")
        grey = _to_levels(values.astype(np.uint16))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return Image.fromarray(grey)
    return Image.fromarray(np.dstack([grey, np.where(values == transparent, 0, 255).astype(np.uint8)]))


def _from_array(array: np.ndarray, max_pixels: int, channels_first: bool) -> Image.Image:
    if array.ndim == 3:
        first, last = array.shape[0] in (1, 3, 4), array.shape[2] in (1, 3, 4)
        if first and (channels_first or not last):
            array = np.moveaxis(array, 0, 2)
        elif not last:
            raise ValueError("expected a shape of (H, W), (H, W, 1|3|4) or (1|3|4, H, W)")
        if array.shape[2] == 1:
            array = array[:, :, 0]
    if array.ndim not in (2, 3):
        raise ValueError("expected a shape of (H, W), (H, W, 1|3|4) or (1|3|4, H, W)")
    _check_pixels(array.shape[1], array.shape[0], max_pixels)
    return _to_rgb(Image.fromarray(_to_levels(array)))


def _to_levels(values: np.ndarray, top: float = 1.0) -> np.ndarray:
    """Values as uint8 levels, rounded; floats are 0..top and may overstep that by half a level."""
    if np.issubdtype(values.dtype, np.uint8):
        levels = values
    elif np.issubdtype(values.dtype, np.bool_):
        levels = np.where(values, 255, 0)
    elif np.issubdtype(values.dtype, np.uint16):
        levels = (values.astype(np.uint32) + 128) // 257
    elif np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low / top * 255 >= -0.5 and high / top * 255 <= 255.5):  # so written that NaN fails
            raise ValueError(f"float values must be in 0..{top:g}, these are in {low:g}..{high:g}")
        levels = np.rint(values.astype(np.float32) / top * 255).clip(0, 255)
    else:
        raise ValueError(f"values must be bool, uint8 (0..255), uint16 (0..65535) or float (0..1), not {values.dtype}")
    return np.ascontiguousarray(levels, dtype=np.uint8)


@contextmanager
def _pillow_switches(max_pixels: int) -> Iterator[None]:
    """Keep Pillow's two process-wide switches from changing what is read here.

    They are touched, one picture at a time, only where the application has set LOAD_TRUNCATED_IMAGES (broken pictures
    would come back in part) or the caller allows more than MAX_IMAGE_PIXELS (which some readers look at themselves).
    """
    with _pillow_lock:
        limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        if truncated or (limit is not None and limit < max_pixels):
            try:
                Image.MAX_IMAGE_PIXELS = None if limit is None else max(limit, max_pixels)
                ImageFile.LOAD_TRUNCATED_IMAGES = False
                yield
            finally:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, truncated
            return
    yield


# Bounds and messages


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    pixels = width * height
    if pixels == 0:
        raise ValueError(f"it has no pixels ({width} x {height})")
    if pixels > max_pixels:
        raise SizeError(
            f"its size of {width} x {height} = {pixels} pixels exceeds max_pixels={max_pixels}; "
            f"to read it anyway: load_picture(picture, max_pixels={pixels})"
        )


def _is_tensor(picture: Any) -> bool:
    return hasattr(picture, "detach") and hasattr(picture, "numpy")  # without importing torch


def _name(picture: Any) -> str:
    """What to call a picture in a message."""
    if isinstance(picture, Mapping):
        path = picture.get("path")
        if picture.get("bytes") is None:
            return f"dict of the keys {list(picture)!s:.200}" if is_absent(path) else _name(path)
        return _name(picture["bytes"]) + (f" of {_name(path)}" if path else "")
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return f"bytes ({memoryview(picture).nbytes} B)"
    if isinstance(picture, (str, os.PathLike)):
        return repr(_shorten(os.fsdecode(picture)))
    if isinstance(picture, Image.Image):
        return f"PIL image of mode {picture.mode}, {picture.width} x {picture.height}"
    if isinstance(picture, np.ndarray) or _is_tensor(picture):
        return f"array of shape {tuple(picture.shape)}"
    return f"of type {type(picture).__name__}"


def _kind(picture: Any, error: Exception) -> str:
    """The kind of a `PictureError`."""
    if isinstance(error, AddressError):
        return "address"
    if is_url(picture):
        return "download"
    missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    return "missing" if missing else "unreadable"


def _shorten(text: str) -> str:
    return text if len(text) <= 300 else text[:297] + "..."


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return f"no complete answer within timeout={timeout} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
