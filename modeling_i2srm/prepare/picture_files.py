"""Finds picture files, checks them and reads their bytes unchanged."""

import hashlib
import io
import math
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import datasets
from PIL import Image, UnidentifiedImageError

from ..support.digests import hash_file

MAX_PIXELS = 50_000_000
MAX_BYTES = 50_000_000
MAX_SCANS = 100  # of a progressive JPEG, each decoded at full size; usual ones have ten
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF")  # Pillow would run external programs for some others
ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff")}
QUALITY = 95  # of crops of JPEGs
DEPTH = 4  # levels of folders below data_dir that are searched
LEAST_PICTURES = 0.5  # share of the names that a folder must hold if its path does not name the data set
CONTENT_HASHED = {".txt", ".json", ".jsonl", ".csv", ".tsv", ".conll", ".bio", ".pth"}


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[dict | None, str | None]:
    """Return the unchanged bytes of a picture, after decoding them once the way `datasets.Image` will.

    Returns:
        The value of an `Image` column, or None for a file that is absent or cannot be used: truncated, too large, not
        a picture, a link out of its folder, or an animation, as it is not known which frame belongs to the post. And
        what is wrong with an existing file.
    """
    if not os.path.lexists(path):
        return None, None
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
            return None, "a link that leads out of its folder, not followed"
        if not path.is_file():
            return None, "not a file"
        if path.stat().st_size > MAX_BYTES:
            return None, f"{path.stat().st_size} bytes, more than {MAX_BYTES}"
        content = path.read_bytes()
        value = {"bytes": content, "path": path.name.encode(errors="replace").decode()}
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:  # reads only the header
            width, height = image.size
            frames = getattr(image, "n_frames", 1) if image.format in ANIMATIONS else 1
        if width * height > max_pixels:
            return None, f"{width}x{height} pixels, more than {max_pixels}"
        scans = content.count(b"\xff\xda")
        if image.format in ("JPEG", "MPO") and scans > MAX_SCANS:
            return None, f"{scans} scans, more than {MAX_SCANS}"
        if frames > 1:
            return None, f"animated, {frames} frames"
        datasets.Image().decode_example(value)
    except UnidentifiedImageError:
        return None, f"no picture of the formats {', '.join(FORMATS)}"
    except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
        return None, f"{type(error).__name__}: {str(error).replace(str(path.parent), '')[:200]}"
    return value, None


def encode_crop(picture: Image.Image, name: str, jpeg: bool) -> dict:
    """Return a crop as a value of an `Image` column: a JPEG if its picture is a JPEG, else a lossless PNG."""
    file = io.BytesIO()
    if jpeg:
        picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    else:
        picture.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{name}.{'jpg' if jpeg else 'png'}"}


def has_another_format(path: Path) -> bool:
    """Whether a picture has another format than its name says; readers accept it."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            format = str(image.format)
            return path.suffix.lower() not in SUFFIXES.get(format, (f".{format.lower()}",))
    except Exception:
        return False


class PictureFolder:
    """The names of the files in a folder, read once; `PictureFolder(None)` is empty."""

    def __init__(self, path: Path | None, refused: Path | None = None):
        self.path, self.refused = path, refused
        self.names = set(os.listdir(path)) if path is not None and path.is_dir() else set()
        self.by_stem: dict[str, list[str]] = {}
        for name in sorted(name for name in self.names if Path(name).suffix.lower() not in CONTENT_HASHED):
            self.by_stem.setdefault(name.partition(".")[0].lower(), []).append(name)

    def file(self, name: str | None) -> Path | None:
        """Return the path of a picture, or None if it does not exist."""
        return self.path / name if self.path and name in self.names else None

    def other_names(self, name: str | None) -> list[str]:
        """Return files whose names equal that of an absent picture except for the ending or capitals."""
        return [] if name is None or name in self.names else self.by_stem.get(name.partition(".")[0].lower(), [])


def find_picture_folder(root: Path, names: Collection[str], data_set: str | None = None) -> PictureFolder:
    """Return the folder in or below `root` that holds most of the named pictures; without any, an empty one.

    Args:
        root: The folder to search.
        names: The file names of the pictures.
        data_set: Other data sets below `root` may use the same file names (`198.jpg`). With this name, a folder counts
            only if the name is in its path or it holds at least half of the pictures. If none counts, `refused` of the
            result is a folder that was left out.
    """
    names = set(names)
    best, refused, best_rank = None, None, (0, False)
    for folder, files in folders_below(root):
        count = len(names.intersection(files))
        is_named = data_set is None or data_set in f"{root.resolve().name}/{folder.relative_to(root)}".lower()
        if count and not is_named and count < LEAST_PICTURES * len(names):
            refused = folder
        elif count and (count, is_named) > best_rank:
            best, best_rank = folder, (count, is_named)
    return PictureFolder(best, refused=None if best else refused)


def folders_below(root: Path, levels: float = DEPTH) -> Iterator[tuple[Path, list[str]]]:
    """Yield `root` and its sub-folders down to some levels, each once, with the names of its files."""
    seen = set()
    for name, subfolders, files in os.walk(root, followlinks=True):
        folder = Path(name)
        real = folder.resolve()
        depth = len(folder.relative_to(root).parts)
        subfolders[:] = sorted(sub for sub in subfolders if not sub.startswith(".") and depth < levels)
        if real in seen:
            subfolders.clear()
        else:
            seen.add(real)
            yield folder, files


def is_plain_name(name: str) -> bool:
    """Whether a text is a valid file name that cannot lead out of its folder."""
    if not name.isprintable() or name.strip() != name or set(name) & set("/\\:"):
        return False
    return name not in ("", ".", "..") and len(name.encode()) <= 200


def natural_order(name: str) -> tuple[list, str]:
    """Sort key that puts `crop_2` before `crop_10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def read_crop_index(path: Path) -> dict[str | int, list[str]]:
    """Read a released index of crops, picture name or row number -> file names in their order; no code is run.

    Raises:
        ValueError: The file is not such an index; names the file and the first wrong entry.
    """
    import torch  # imported here, as it takes seconds

    try:
        index = torch.load(path, weights_only=True)
    except Exception as error:  # a damaged archive can raise nearly anything
        raise ValueError(f"{path}: cannot be read as an index of crops ({type(error).__name__}: {error})") from None
    if not isinstance(index, dict):
        raise ValueError(f"{path}: expected a dict of crop names, got {type(index).__name__}")
    for key, crops in index.items():
        if not isinstance(crops, list) or not all(isinstance(name, str) and is_plain_name(name) for name in crops):
            raise ValueError(f"{path}: expected a list of file names for {key!r}, got {str(crops)[:80]}")
    return index


def stamp_files(root: Path) -> str:
    """Return a hash of all files below a folder: text files by content, pictures by name, size and time."""
    digest = hashlib.sha256()
    for folder, names in folders_below(root, levels=math.inf):
        for path in (folder / name for name in sorted(names)):
            if path.is_file():
                status = path.stat()
                stamp = f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}"
                if path.suffix.lower() in CONTENT_HASHED:
                    stamp += " " + hash_file(path)
                digest.update(stamp.encode(errors="surrogateescape"))
    return digest.hexdigest()
