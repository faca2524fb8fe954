"""Posts: what kind of post or row a dict is, and the class that holds a post until a model has answered."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

import torch
from PIL import Image
from transformers.utils import logging

from .checks import is_listing, is_missing
from .pictures import (
    DEFAULT_LABEL,
    DEFAULT_SCORE,
    PictureError,
    full_size,
    is_absent,
    is_box,
    is_url,
    scale_box,
    single_picture,
)
from .tables import likely_column
from .words import DEFAULT_SPLITTING, Word, align_words, check_span, join_words, split_pair, split_text

logger = logging.get_logger(__name__)

TEXT_KEYS = ("text", "tokens")
# Columns of our data sets that a post may have beside its own keys. Only the id is used.
COLUMNS: tuple[str, ...] = ("id", "ner_tags", "relation", "label", "head", "tail", "object_boxes")
COLUMNS += ("entities", "relations", "regions", "entity_boxes")
COLUMNS += ("image_errors", "pairs_left_out", "withheld", "picture_match")  # of answers


class PictureReader(Protocol):
    """What reads the pictures of a post: an `I2SRMProcessor`."""

    def load_picture(self, picture: object, allow_private_addresses: bool | None = None) -> object:
        """A picture as a model gets it."""

    def load_whole(self, picture: object, allow_private_addresses: bool | None = None) -> tuple:
        """A picture at full size, and as `load_picture` gives it."""


@dataclass(frozen=True)
class BoxCrop:
    """A crop that a post gives as a box in its image: what a cropper says of one, and its picture."""

    box: tuple[int, int, int, int]
    score: float
    label: str
    picture: Image.Image


@dataclass
class Post:
    """A post from the dict that a user gives to the answer of a model.

    Args:
        text: the text that offsets refer to; of a post given as tokens alone, these as `join_words` joins them.
        words: the words of the text.
        tokens: the words of a post given as tokens, else `None`.
        splitting: how the text of a post without tokens is split.
        id: of the post, if it has one.
        head, tail, pairs: the entities that a relation is asked of, as they are given.
        image, objects: the picture and the crops: at first as they are given, then as PIL images.
        image_errors: why pictures could not be read, by "image", "objects[0]" ...; these are `None`.
        image_name, crop_names: paths and URLs of image and objects, as they were given; `None` for one without.
        picture_faults: the `PictureError.kind` of each of them.
        whole: the picture at full size, until a cropper has looked at it.
        crops: the crops of a cropper, as it gave them, or those that are given as boxes, each at its place among
            `objects`, with `None` for another one; `None` where there is no such crop and no cropper has looked.
        rows: windows of a long post, or entity pairs, encoded without padding; `None` for a pair that does not fit.
        owners: the row that each word is read from.
        pictures: pixel_values (1+M, 3, H, W) or visual_features (1+M, F), and image_mask (1+M,); empty without any.
        answers: of a model: entities, or (N,) scores of each row.
    """

    text: str
    words: list[Word]
    tokens: list[str] | None = None
    splitting: str | None = None
    id: str | None = None
    head: object = None
    tail: object = None
    pairs: object = None
    image: object = None
    objects: Sequence[object] | None = None
    image_errors: dict[str, str] = field(default_factory=dict)
    image_name: str | None = None
    crop_names: list[str | None] = field(default_factory=list)
    picture_faults: list[str] = field(default_factory=list)
    whole: object = None
    crops: list | None = None
    rows: list[dict | None] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    pictures: dict[str, torch.Tensor] = field(default_factory=dict)
    answers: list = field(default_factory=list)

    @property
    def source(self) -> str | list[str]:
        """The text, or the tokens of a post given as such."""
        return self.text if self.tokens is None else self.tokens

    @property
    def needs_crops(self) -> bool:
        """True if the post has a picture and no crops, so that a cropper has to find some."""
        return self.image is not None and (self.objects is None or is_listing(self.objects) and not len(self.objects))

    def load_pictures(
        self,
        processor: PictureReader,
        on_image_error: str | None = None,
        allow_private_addresses: bool | None = None,
        for_cropper: bool = False,
    ) -> None:
        """Read the picture and the crops; those that cannot be read, where that is allowed, become `None`.

        Args:
            processor: an `I2SRMProcessor`.
            on_image_error, allow_private_addresses: as of the pipelines.
            for_cropper: also keep the picture at full size, if a cropper looks at it.

        Raises:
            PictureError: a picture cannot be read, and that is not allowed.
        """

        def load(picture: object, name: str, read: Callable = processor.load_picture) -> object:
            if is_absent(picture):
                return None
            try:
                return read(picture, allow_private_addresses)
            except PictureError as error:
                allowed = on_image_error == "warn" or (on_image_error is None and is_url(picture))
                if not allowed or error.is_machines_fault:
                    error.place = name
                    raise
                logger.warning(f"{name}: {error}; the post is read without it")
                self.image_errors[name] = str(error)
                self.picture_faults.append(error.kind)
                return None

        crops, waits, whole = list(self.objects or []), for_cropper and self.needs_crops, None
        if waits or any(map(is_box, crops)):
            both = load(self.image, "image", processor.load_whole)
            whole, self.image = both if isinstance(both, tuple) else (None, None)
        else:
            self.image = load(self.image, "image")
        self.whole = whole if waits else None
        cut: Callable = partial(cut_box, whole)
        if "image" in self.image_errors:  # its crops are lost with it
            crops = [None if is_box(crop) else crop for crop in crops]
        found = [
            load(crop, f"objects[{i}]", cut if is_box(crop) else processor.load_picture) for i, crop in enumerate(crops)
        ]
        self.objects = [crop.picture if isinstance(crop, BoxCrop) else crop for crop in found]
        boxes = [crop if isinstance(crop, BoxCrop) else None for crop in found]
        self.crops = boxes if any(boxes) else self.crops


def cut_box(whole: Image.Image | None, crop: Mapping, allow_private_addresses: bool | None = None) -> BoxCrop:
    """Cut a crop for which `is_box` is true out of the image of its post; what is outside is left out.

    Args:
        whole: the image, as `PictureReader.load_whole` reads it; boxes are in pixels of its full size.
        allow_private_addresses: unused, as nothing is read; `Post.load_pictures` gives it to all that read crops.

    Raises:
        PictureError: the post has no image; the box is not four numbers, or nothing of it is in the picture; a score
            that is not a number.
    """
    if whole is None:
        raise PictureError(
            f"{crop!r:.200} is a box in the image of the post, which has none: give the image, too, or the crop "
            "itself, e.g. objects=['crop.jpg']"
        )
    (width, height), label, score = full_size(whole), crop.get("label"), DEFAULT_SCORE
    try:
        left, top, right, bottom = (round(float(side)) for side in crop["box"])
        score = score if crop.get("score") is None else float(crop["score"])
    except (TypeError, ValueError, OverflowError):
        left, top, right, bottom = 0, 0, 0, 0
    inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        example = {"box": [0, 0, width, height], "score": 0.9, "label": "dog"}
        raise PictureError(
            f"{dict(crop)!r:.300} is no box in a picture of {width} x {height} pixels: expected left, top, right and "
            f"bottom in pixels, e.g. {example}"
        )
    picture = whole.crop(scale_box(inside, whole))
    return BoxCrop(inside, score, DEFAULT_LABEL if label is None else str(label), picture)


def kind_of(row: Mapping) -> str | None:
    """The kind of a row of a data set, decided by its columns; `None` if it has no text.

    "encoded": it has input_ids. "pair": it has a head or a tail. "graph": it has relations or regions beside ner_tags.
    "labelled": it has a label, and no ner_tags. "words": any other; its words may have ner_tags.

    >>> kind_of({"tokens": ["Kobe"], "ner_tags": [1]}), kind_of({"text": "what a day", "label": 2})
    ('words', 'labelled')
    """
    if "input_ids" in row:
        return "encoded"
    if not {"tokens", "text"} & row.keys():
        return None
    if row.get("head") is not None or row.get("tail") is not None:
        return "pair"
    if "ner_tags" in row and (row.get("relations") is not None or row.get("regions") is not None):
        return "graph"
    return "labelled" if "label" in row and "ner_tags" not in row else "words"


def check_labels(labels: Mapping) -> None:
    """Raise a `ValueError` unless the labels of a call are of one kind: of words, of pairs or of whole posts."""
    pairs = "head" in labels
    if pairs != ("tail" in labels) or (pairs and "ner_tags" in labels) or (not pairs and "relation" in labels):
        raise ValueError(
            "give head and tail (and relation), or ner_tags, or none of them, e.g. "
            "processor(..., head=(0, 1), tail=(3, 4))"
        )
    if {"relations", "regions"} & labels.keys() and "ner_tags" not in labels:
        raise ValueError("relations and regions are those of the entities that ner_tags mark: give ner_tags, too")
    if "label" in labels and (pairs or "ner_tags" in labels):
        raise ValueError("label is that of a whole post: give it without ner_tags, head and tail")


def read_post(post: str | Mapping, keys: tuple[str, ...], example: str, splitting: str = DEFAULT_SPLITTING) -> Post:
    """Check a text, or a dict of the parts of a post, and split it into words; pictures stay as they are given.

    Args:
        keys: that a post may have beside `COLUMNS`.
        example: a correct call, for messages.
        splitting: of a text without tokens, as of `split_text`.

    Raises:
        ValueError: not a post; unknown keys; neither text nor tokens, or tokens that the text does not consist of; no
            words; objects that are not a list.
    """
    if isinstance(post, str):
        post = {"text": post}
    if not isinstance(post, Mapping):
        raise ValueError(f"{post!r:.200} is not a post: give a dict with {', '.join(keys)}, e.g. {example}")
    if unknown := [str(name) for name in post if name not in (*keys, *COLUMNS)]:
        likely = {name: target for name in unknown if (target := likely_column(name)) in keys and target not in post}
        hint = "".join(f"; is {name!r} meant to be {target!r}?" for name, target in likely.items())
        raise ValueError(f"a post has no {', '.join(map(repr, unknown))}, but {', '.join(keys)}; e.g. {example}{hint}")
    text, tokens, crops = post.get("text"), post.get("tokens"), post.get("objects")
    if text is None and tokens is None:
        raise ValueError(f"text={text!r:.200}, tokens={tokens!r:.200}: give one of them, e.g. {example}")
    if text is not None and not isinstance(text, str):
        hint = "; columns become posts with [dict(zip(columns, row)) for row in zip(*columns.values())]"
        raise ValueError(f"text={text!r:.200} is not a str; e.g. {example}{hint if is_listing(text) else ''}")
    if tokens is not None:
        listed = isinstance(tokens, Iterable) and not isinstance(tokens, (str, Mapping))
        words = list(tokens) if listed else []
        if not listed or not all(isinstance(word, str) for word in words):
            raise ValueError(
                f'tokens={tokens!r:.200} is not a list of words, e.g. tokens=["Kobe", "lands", "in", "Paris"]'
            )
        tokens = words
    posts = split_posts(text, tokens, splitting)[0] if tokens or (text and tokens is None) else []
    if not posts or not posts[0].words:
        value = f"text={text!r:.200}" if tokens is None else f"tokens={tokens!r:.200}"
        raise ValueError(f"{value} has no words; e.g. {example}")
    crops = None if is_absent(crops) else crops
    if crops is not None and (isinstance(crops, (str, bytes, Mapping)) or not isinstance(crops, Iterable)):
        raise ValueError(f"objects={repr(crops)[:60]} is not a list of crops; e.g. objects=['crop.jpg']")
    name = post.get("id")
    posts[0].id = None if is_missing(name) else str(name)
    posts[0].objects = None if crops is None else list(crops)
    for part in {"image", "head", "tail", "pairs"} & set(keys):
        setattr(posts[0], part, post.get(part))
    posts[0].image = single_picture(posts[0].image)
    return posts[0]


def split_posts(text: object, tokens: object, splitting: str = DEFAULT_SPLITTING) -> tuple[list[Post], bool]:
    """Split one text or a list of texts into words, or take the tokens of one post or of several as words.

    Args:
        text, tokens: one of them, or both: then the tokens are the words, and offsets refer to the text.
        splitting: of texts without tokens, as of `split_text`.

    Returns:
        The posts, and whether it is a single one that was given without a list around it.

    Raises:
        ValueError: none of the two arguments, or something else than texts or words; tokens that a text does not
            consist of.
    """
    if text is None and tokens is None:
        raise ValueError(
            'give either text or tokens, e.g. processor(text="Kobe lands in Paris") or '
            'processor(tokens=["Kobe", "lands", "in", "Paris"])'
        )
    texts: list[str] = []
    items = text if isinstance(text, Iterable) and not isinstance(text, str) else [text]
    for item in () if text is None else items:
        if not isinstance(item, str):
            raise ValueError(f'text holds {item!r}, expected str; for words call processor(tokens=["a", "b"])')
        texts.append(item)
    if tokens is None:
        posts = [Post(item, split_text(item, splitting), splitting=splitting) for item in texts]
        return posts, isinstance(text, str)
    posts, single = posts_of_tokens(tokens)
    if text is not None:
        if isinstance(text, str) != single or len(texts) != len(posts):
            raise ValueError(
                f"{len(texts)} texts, but tokens of {len(posts)} posts: give as many, e.g. "
                'processor(text="Kobe lands!", tokens=["Kobe", "lands", "!"]), or leave out one of the two'
            )
        for post, item in zip(posts, texts, strict=True):
            post.text, post.words = item, align_words(item, post.tokens or [])
    return posts, single


def posts_of_tokens(tokens: object) -> tuple[list[Post], bool]:
    """The posts of `split_posts` for tokens alone."""
    if isinstance(tokens, str) or not isinstance(tokens, Iterable):
        raise ValueError(f"tokens={tokens!r} is not a list of words; call processor(text=...) or (tokens=[...])")
    tokens = list(tokens)
    single = len(tokens) > 0 and isinstance(tokens[0], str)
    posts = []
    for names in [tokens] if single else tokens:
        if isinstance(names, str) or not hasattr(names, "__iter__"):
            raise ValueError(f'tokens holds {names!r} among posts, expected lists of words, e.g. tokens=[["Kobe"]]')
        names = list(names)
        for name in names:
            if not isinstance(name, str):
                raise ValueError(f'tokens holds {name!r}, expected words, e.g. tokens=["Kobe", "lands"]')
        text, words = join_words(names)
        posts.append(Post(text, words, [word.text for word in words]))
    return posts, single


def split_row(row: Mapping, kind: str | None, splitting: str = DEFAULT_SPLITTING) -> tuple[list[str], object, object]:
    """The words of a row of a data set, and its head and tail as spans of words.

    Args:
        row: tokens or text; of a pair with text alone, head and tail are spans of characters.
        kind: as of `kind_of`.
        splitting: of a text, as of `split_text`.
    """
    head, tail = row.get("head"), row.get("tail")
    if "tokens" in row:
        return row["tokens"], head, tail
    if kind == "pair":
        words, head, tail = split_pair(row["text"], head, tail, splitting)
    else:
        words = split_text(row["text"], splitting)
    return [word.text for word in words], head, tail


def find_pairs(
    post: Post, example: str, splitting: str = DEFAULT_SPLITTING
) -> Iterator[tuple[list[Word], object, object]]:
    """Yield the words, and head and tail as spans of words, of each pair of a post.

    Args:
        example: a correct call, for messages.
        splitting: of a text without tokens, as of `split_text`.

    Raises:
        ValueError: neither head and tail nor pairs, or a span that is not in the text.
    """
    head, tail, pairs = post.head, post.tail, post.pairs
    if not (head is None) == (tail is None) == (pairs is not None):
        raise ValueError(
            f"head={head!r}, tail={tail!r}, pairs={repr(pairs)[:60]}: give head and tail, or pairs, e.g. {example}"
        )
    try:
        pairs = [(head, tail)] if pairs is None else [(head, tail) for head, tail in cast(Iterable, pairs)]
    except (TypeError, ValueError):
        raise ValueError(
            f"pairs={repr(pairs)[:60]} is not a list of (head, tail), e.g. pairs=[((0, 4), (14, 19))]"
        ) from None
    starts = {word.start: n for n, word in enumerate(post.words)}
    ends = {word.end: n for n, word in enumerate(post.words, start=1)}
    for head, tail in pairs:
        words = post.words
        if post.tokens is None:
            both = (head, "head"), (tail, "tail")
            spans = [check_span(span, name, len(post.text), "characters") for span, name in both]
            if all(start in starts and end in ends for start, end in spans):  # most pairs are of whole words
                head, tail = ((starts[start], ends[end]) for start, end in spans)
            else:
                words, head, tail = split_pair(post.text, head, tail, splitting)
        yield words, head, tail


def word_offsets(posts: list[Post], first_words: list[int], truncated: list[int]) -> dict[str, list]:
    """The words of posts that are in their rows, with their offsets and the number of those that are not.

    Args:
        first_words: the first word of each post that is in.
        truncated: how many words of each post are not.
    """
    kept = [
        post.words[first : first + len(post.words) - cut]
        for post, first, cut in zip(posts, first_words, truncated, strict=True)
    ]
    return {
        "words": [[word.text for word in words] for words in kept],
        "word_offsets": [[(word.start, word.end) for word in words] for words in kept],
        "num_truncated_words": truncated,
    }


def one_per_post(values: object, name: str, count: int, single: bool) -> list:
    """The values of an argument as a list with one per post; `None` becomes a list of `None`.

    Args:
        name: of the argument, for the message.
        count, single: as of `split_posts`.

    Raises:
        ValueError: not as many values as posts.
    """
    if values is None:
        return [None] * count
    # A list with one picture for one post is taken as a batch of one.
    if single and not (name == "images" and isinstance(values, (list, tuple))):
        return [values]
    if not is_listing(values) or not isinstance(values, Collection) or len(values) != count:
        got = len(values) if isinstance(values, (list, tuple)) else repr(values)[:60]
        example = [(0, 1)] * count if name in ("head", "tail") else [None] * count
        absent = "" if name in ("head", "tail") else ", with None where there is none"
        raise ValueError(
            f"{count} post{'s' * (count > 1)}, but {name} is {got}: give a list of {count}{absent}, e.g. "
            f"{name}={example}"
        )
    return list(values)


__all__ = [
    "COLUMNS",
    "Post",
    "check_labels",
    "find_pairs",
    "kind_of",
    "one_per_post",
    "read_post",
    "split_posts",
    "split_row",
    "word_offsets",
]
