"""Finds the pictures that a user's posts name, and decodes those that are part of the row."""

import hashlib
import os
import tempfile
from collections import Counter
from functools import cached_property
from pathlib import Path, PureWindowsPath

from ..remote_pictures import decode_data_uri
from .picture_files import MAX_BYTES, PictureFolder, folders_below

OUTSIDE = "pictures outside of the picture folder, not read (--image_dir)"
DATA_URI = "data:"


class PictureTree(PictureFolder):
    """The names of the files in and below a folder; they are read when a picture is absent."""

    def __init__(self, path: Path):
        super().__init__(None)
        self.root = path

    @cached_property
    def paths(self) -> dict[str, list[str]]:
        """Return the paths of files by their names and by their paths, without ending and in lower case."""
        paths: dict[str, list[str]] = {}
        for folder, files in folders_below(self.root):
            for file in sorted(files):
                path = (folder / file).relative_to(self.root).as_posix()
                for key in {stem_of(path), stem_of(file)}:
                    paths.setdefault(key, []).append(path)
        return paths

    def other_names(self, name: str | None) -> list[str]:
        """Return files that an absent picture may be: in other capitals, with another ending, or in another folder."""
        if name is None or name.startswith(DATA_URI) or "://" in name:
            return []
        try:
            if (self.root / name.replace("\\", "/")).is_file():
                return []
        except (OSError, ValueError):
            return []
        stem = stem_of(os.path.normpath(name.replace("\\", "/")).replace("\\", "/"))
        file = stem.rpartition("/")[2]
        return self.paths.get(stem) or self.paths.get(file, []) if file else []


def stem_of(path: str) -> str:
    """Return a path in lower case without the ending of the file."""
    folder, slash, file = path.lower().rpartition("/")
    return folder + slash + file.partition(".")[0]


class PictureFinder:
    """Returns the files of the pictures that posts name, and keeps decoded ones until it is deleted.

    Args:
        base: the folder of the pictures; a path to another place is counted and not read.
    """

    def __init__(self, base: Path):
        self.base = base.resolve()
        self.folder: tempfile.TemporaryDirectory | None = None

    def find(self, name: str, counts: Counter) -> tuple[str, Path | None]:
        """Return the name of a picture for the report, and its file or `None`; add to counts."""
        if name[:5].lower() == DATA_URI:
            return self.decode(name, counts)
        return name, find_file(self.base, name, counts)

    def decode(self, uri: str, counts: Counter) -> tuple[str, Path | None]:
        """Write the picture of a `data:` URI to a temporary file; it is named after its content."""
        name = f"data:{hashlib.sha256(uri.encode(errors='replace')).hexdigest()[:16]}"
        try:
            content = decode_data_uri(uri, MAX_BYTES)
        except ValueError:  # broken or too large
            counts["pictures as data: URIs that cannot be decoded"] += 1
            return name, None
        counts["pictures as data: URIs, decoded"] += 1
        self.folder = self.folder or tempfile.TemporaryDirectory()
        path = Path(self.folder.name, name.removeprefix(DATA_URI))
        if not path.exists():
            path.write_bytes(content)
        return name, path


def find_file(base: Path, name: str, counts: Counter) -> Path | None:
    """Return the path of a picture in `base`; a path to another place is counted and not read.

    A path may have Windows' backslashes.
    """
    if "://" in name:
        counts["pictures given as a URL, not fetched"] += 1
        return None
    for path in dict.fromkeys((name, name.replace("\\", "/"))):
        try:
            file = (base / path).resolve()
            if not file.is_relative_to(base) or PureWindowsPath(path).drive and not (base / path).is_file():
                counts[OUTSIDE] += 1
                return None
            if file.is_file():
                return file
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, a link to itself
            return None
    return None
