"""Prepared pictures kept in memory, so that later epochs need not read them again."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..checks import is_listing
from ..pictures import is_absent

Pictures = dict[str, torch.Tensor]  # pixel_values (B, 1+M, 3, H, W) and image_mask (B, 1+M); empty without pictures


class PictureMemory:
    """The pixel values of rows by the files of their pictures.

    Once it is full, further rows are read each time. Rows whose pictures are not stored as bytes are not kept.

    Args:
        most_bytes: of all pixel values. Each worker process of a data loader has a memory of its own.

    Example:

    >>> memory = PictureMemory(2**28)
    >>> memory.encode([{"image": None}], read=lambda rows: ({}, True))
    {}
    """

    def __init__(self, most_bytes: int):
        self.free = most_bytes
        self.kept: dict[bytes, Pictures] = {}

    def encode(self, rows: list[dict], read: Callable[[list[dict]], tuple[Pictures, bool]]) -> Pictures:
        """The pictures of a batch of rows.

        Args:
            rows: with image and objects.
            read: gives the pictures of rows, and whether all could be read; else they are not kept.
        """
        keys = [row_key(row) for row in rows]
        places = [place for place, key in enumerate(keys) if key not in self.kept]
        pictures, whole = read([rows[place] for place in places]) if places else ({}, True)
        found: dict[int, Pictures] = {place: self.kept[key] for place, key in enumerate(keys) if key in self.kept}
        for number, place in enumerate(places):
            one = {name: values[number] for name, values in pictures.items()}
            if one:
                found[place] = one
                self._keep(keys[place] if whole else None, one)
        if not found:
            return {}
        some = next(iter(found.values()))
        absent = {name: torch.zeros_like(values) for name, values in some.items()}
        posts = [found.get(place, absent) for place in range(len(rows))]
        return {name: torch.stack([post[name] for post in posts]) for name in some}

    def _keep(self, key: bytes | None, pictures: Pictures) -> None:
        size = sum(values.nbytes for values in pictures.values())
        if key is not None and key not in self.kept and size <= self.free:
            self.free -= size
            self.kept[key] = {name: values.clone() for name, values in pictures.items()}  # not the whole batch


def row_key(row: Mapping) -> bytes | None:
    """A digest of the files of a row's pictures; `None` where one is not stored as bytes, or there is none."""
    objects: Any = row.get("objects")
    if is_absent(objects):
        objects = []
    elif not is_listing(objects):
        return None
    digest, count = hashlib.blake2b(digest_size=16), 0
    for picture in [row.get("image"), *objects]:
        if is_absent(picture):
            digest.update(b"-")
            continue
        content = picture.get("bytes") if isinstance(picture, Mapping) else picture
        if not isinstance(content, bytes):
            return None
        digest.update(b"%d:" % len(content) + content)
        count += 1
    return digest.digest() if count else None


__all__ = ["PictureMemory"]
