"""The inputs of an exported model from words and pictures: what `I2SRMProcessor` makes, with numpy and tokenizers."""

import logging

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from ..pictures import is_url, limit_aspect, load_picture
from ..words import best_windows, check_span, mark_pair, overlapping_windows

logger = logging.getLogger("extract")


class TextEncoder:
    """Words to rows of sub-tokens.

    Args:
        tokenizer: tokenizer.json as text.
        settings: "limit", the longest row in sub-tokens; "prefix" before a word; the ids "first", "last", "unknown",
            "reserved", which no word may have, and "markers" of entities, `None` without any.
    """

    def __init__(self, tokenizer: str, settings: dict):
        self.tokenizer = Tokenizer.from_str(tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.tokenizer.encode_special_tokens = True  # a word that looks like a special token is a word
        self.settings, self.reserved = settings, frozenset(settings["reserved"])
        self.room = settings["limit"] - 2

    def sub_tokens(self, words: list[str]) -> list[list[int]]:
        """The ids of each word's sub-tokens, at least one per word."""
        words = [word.encode("utf-8", "replace").decode("utf-8") for word in words]
        words = [word if word[:1] in ("", " ") else self.settings["prefix"] + word for word in words]
        unknown = self.settings["unknown"]
        # One by one: the threads of `encode_batch` cost more than the words of a post.
        pieces = [self.tokenizer.encode(word, add_special_tokens=False).ids for word in words]
        return [[unknown if i in self.reserved else i for i in ids] or [unknown] for ids in pieces]

    def frame(self, input_ids: list[int], **masks: list[int]) -> dict[str, np.ndarray]:
        """A batch of one row between the two special tokens; masks (T,) become as long."""
        row = {"input_ids": [self.settings["first"], *input_ids, self.settings["last"]]}
        row |= {name: [0, *mask, 0] for name, mask in masks.items()}
        return {name: np.array([values], np.int64) for name, values in row.items()}

    def encode_words(self, pieces: list[list[int]]) -> tuple[dict[str, np.ndarray], int]:
        """A row of words given as sub-tokens, cut to the limit, and how many words are in."""
        input_ids, word_mask, count = list[int](), list[int](), 0
        for ids in pieces:
            if len(input_ids) >= self.room:
                break
            ids = ids[: self.room - len(input_ids)]
            input_ids, word_mask, count = input_ids + ids, word_mask + [1] + [0] * (len(ids) - 1), count + 1
        return self.frame(input_ids, word_mask=word_mask), count

    def encode_windows(self, words: list[str]) -> tuple[list[dict[str, np.ndarray]], list[tuple[int, int]], list[int]]:
        """The overlapping rows of a post of any length.

        Returns:
            The rows, first word and last word + 1 of each, and for each word the row that it is read from.
        """
        pieces = self.sub_tokens(words)
        lengths = [len(ids) for ids in pieces]
        if cut := [word for word, length in zip(words, lengths, strict=True) if length > self.room]:
            logger.warning(
                f"{len(cut)} words are longer than the {self.room} sub-tokens of a window and are read up to there: "
                f"{', '.join(repr(word[:30] + ' ...') for word in cut[:3])}"
            )
        windows = overlapping_windows(lengths, self.room, self.room // 4)
        return [self.encode_words(pieces[a:b])[0] for a, b in windows], windows, best_windows(lengths, windows)

    def encode_pair(self, pieces: list[list[int]], head: object, tail: object) -> tuple[dict[str, np.ndarray], int]:
        """A row with markers around two entities, given as spans of words, and how many words are left out.

        Raises:
            EntityPairError: both entities and the words between them do not fit.
        """
        head, tail = check_span(head, "head", len(pieces)), check_span(tail, "tail", len(pieces))
        marked = mark_pair(pieces, head, tail, tuple(self.settings["markers"]), self.room)
        row = self.frame(marked.input_ids, head_mask=marked.head_mask, tail_mask=marked.tail_mask)
        return row, len(pieces) - (marked.last_word - marked.first_word)


class PictureReader:
    """Pictures to pixels.

    Args:
        settings: "size" to resize to, [height, width] or the shorter side, `None` for as it is; "resample", the filter
            of Pillow; "crop" [height, width] around the centre or `None`; "scale", "mean" and "std" of the three
            channels; "max_pixels" and "min_side" as of `load_picture`, "num_objects" the most crops of a post.
    """

    def __init__(self, settings: dict):
        self.settings = settings
        levels = (np.arange(256) * settings["scale"]).astype(np.float32)
        mean, std = (np.array(settings[name], np.float32)[:, None] for name in ("mean", "std"))
        self.levels = (levels - mean) / std  # (3, 256), what a level of a channel becomes

    def load_picture(self, picture: object, allow_private_addresses: bool | None = None) -> Image.Image:
        """A picture as an upright 8-bit RGB image of bounded size and shape.

        Raises:
            PictureError: it cannot be read.
            ValueError: a URL; nothing is read from the network here.
        """
        if is_url(picture):
            raise ValueError(
                f"{str(picture)[:300]!r} is a URL, and an exported model reads nothing from the network: download the "
                "picture and give its path or its bytes"
            )
        most, side = self.settings["max_pixels"], self.settings["min_side"]
        return limit_aspect(load_picture(picture, max_pixels=most, min_side=side))

    def load_whole(self, picture: object, allow_private_addresses: bool | None = None) -> tuple:
        """A picture at full size, of which boxes are cut, and as `load_picture` gives it."""
        image = self.load_picture(picture)
        return load_picture(picture, max_pixels=self.settings["max_pixels"]), image

    def encode(self, image: object, objects: list) -> dict[str, np.ndarray]:
        """pixel_values (1, K, 3, H, W) and image_mask (1, K) of a post; empty if it has no picture.

        Args:
            image, objects: pictures of `load_picture`, or `None`.
        """
        most = self.settings["num_objects"]
        if len(objects) > most:
            logger.warning(f"a post has {len(objects)} object crops, only the first num_objects={most} are used")
        slots = [image, *objects[:most]]
        while slots and slots[-1] is None:
            slots.pop()
        if not slots:
            return {}
        known = {n: self.pixels(one) for n, one in enumerate(slots) if isinstance(one, Image.Image)}
        empty = np.zeros_like(next(iter(known.values())))
        mask = [int(n in known) for n in range(len(slots))]
        pixels = np.stack([known.get(n, empty) for n in range(len(slots))])
        return {"pixel_values": pixels[None], "image_mask": np.array([mask], np.int64)}

    def pixels(self, picture: Image.Image) -> np.ndarray:
        """The values (3, H, W) of a picture."""
        size, crop = self.settings["size"], self.settings["crop"]
        if isinstance(size, int):
            shorter = min(picture.size)
            width, height = (int(size * side / shorter) for side in picture.size)
        elif size is not None:
            height, width = size
        if size is not None:
            picture = picture.resize((width, height), resample=self.settings["resample"])
        if crop is not None:
            left, top = (picture.width - crop[1]) // 2, (picture.height - crop[0]) // 2
            picture = picture.crop((left, top, left + crop[1], top + crop[0]))
        levels = np.asarray(picture)
        return np.stack([self.levels[channel][levels[..., channel]] for channel in range(3)])


__all__ = ["PictureReader", "TextEncoder"]
