"""Checks picture files and keeps their bytes as they are."""

import hashlib
import io
from pathlib import Path

import datasets
from PIL import Image

MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")  # Pillow would hand some others to programs outside


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[dict | None, str | None]:
    """Return the unchanged bytes of a picture, after decoding them once the way `datasets.Image` will.

    Returns:
        The value of an `Image` column, or None for a file that is absent or cannot be decoded, and what was wrong
        with a file that is there.
    """
    if not path.is_file():
        return None, None
    try:
        value = {"bytes": path.read_bytes(), "path": path.name}
        with Image.open(io.BytesIO(value["bytes"]), formats=FORMATS) as image:  # reads the size alone
            width, height = image.size
        if width * height > max_pixels:
            return None, f"{width}x{height} pixels, more than {max_pixels}"
        datasets.Image().decode_example(value)
    except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
        return None, f"{type(error).__name__}: {error}"
    return value, None


def stamp_files(folder: Path) -> str:
    """Return a hash of the names, sizes and times of the files in a folder, which takes no reading of gigabytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
