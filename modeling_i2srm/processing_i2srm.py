"""I2SRMProcessor: words or text, labels and pictures -> tensors."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer, BatchFeature, ProcessorMixin
from transformers.utils import logging

from .checks import IGNORE, check_whole_number, check_words, is_listing, label_id
from .crops import add_crops, check_cropper
from .graph_rows import read_graph
from .image_recipes import backbone_image_processor, pil_backed, resnet_image_processor
from .loading import loading
from .padding import pad_rows
from .pictures import is_absent, limit_aspect, load_picture, read_bytes, single_picture
from .posts import check_labels, kind_of, one_per_post, split_posts, split_row, word_offsets
from .words import (
    DEFAULT_SPLITTING,
    MARKERS,
    SAVED_SPLITTING,
    best_windows,
    check_span,
    check_splitting,
    mark_pair,
    overlapping_windows,
    split_pair,
)

logger = logging.get_logger(__name__)

LONGEST_DEFAULT = 512  # for tokenizers that state no limit
# How a tokenizer is called: a word that looks like a special token, a marker above all, is a word.
AS_WORDS = {"split_special_tokens": True, "return_attention_mask": False, "return_token_type_ids": False}


class I2SRMProcessor(ProcessorMixin):
    """Turn posts (words or raw text, tags, a picture, object crops) into the inputs of the models.

    Args:
        image_processor: for the vision backbone; PIL-backed, torchvision is not used.
        tokenizer: of the text encoder.
        num_objects: most object crops per post; further ones are left out with a warning.
        max_length: longest input in sub-tokens, special ones included; default the tokenizer's own limit.
        max_pixels: pictures with more pixels are refused before decoding (JPEGs are decoded at a lower resolution).
        reduced_decode: decode JPEG files at 1/2, 1/4 or 1/8 of their size where their shorter side stays at least this
            many times as long as after resizing. With the default of 2 and pictures of 224 that begins at a shorter
            side of 1024 and moves levels (0 to 255) by about 0.5 on the mean, less than another resampling filter
            does; with 1 it begins at 512 and moves them by 1 to 2. `None` decodes in full. PIL images and arrays are
            decoded already. It is saved with the processor, so that a model sees the same in training and inference.
        word_splitting: how raw text is split into words: "multilingual", "words", "spaces", "hashtags_apart" or
            "signs_apart", as `split_text` says. It is saved with the processor too, and should give words as those of
            the training data; a processor that was saved without it splits as "words" does.

    Example:

    >>> processor = I2SRMProcessor.from_encoders("FacebookAI/roberta-large", "microsoft/resnet-50")  # doctest: +SKIP
    >>> inputs = processor(text="Kobe lands in Paris", images="kobe.jpg")  # doctest: +SKIP
    >>> {name: tuple(tensor.shape) for name, tensor in inputs.items()}  # doctest: +SKIP
    {'input_ids': (1, 8), 'attention_mask': (1, 8), 'word_mask': (1, 8), 'pixel_values': (1, 4, 3, 224, 224),
     'image_mask': (1, 4)}
    """

    # Set it on a processor, whose URLs may then lead to this machine and the networks around it (see `load_picture`).
    # It is for the user of a checkpoint to say, and neither saved with one nor read from one.
    allow_private_addresses = False

    def __init__(
        self,
        image_processor: object = None,
        tokenizer: object = None,
        num_objects: int = 3,
        max_length: int | None = None,
        max_pixels: int = 50_000_000,
        reduced_decode: float | None = 2,
        word_splitting: str = DEFAULT_SPLITTING,
        **kwargs: object,
    ):
        check_whole_number("num_objects", num_objects, 0)
        check_whole_number("max_pixels", max_pixels, 1)
        if max_length is not None:
            check_whole_number("max_length", max_length, 3)
        if reduced_decode is not None and (isinstance(reduced_decode, str) or not reduced_decode >= 1):  # NaN fails
            raise ValueError(f"reduced_decode={reduced_decode} would enlarge pictures again; use 2, or None for never")
        self.num_objects, self.max_length, self.max_pixels = num_objects, max_length, max_pixels
        self.reduced_decode, self.word_splitting = reduced_decode, check_splitting(word_splitting)
        kwargs.pop("processor_class", None)
        super().__init__(pil_backed(image_processor), tokenizer, **kwargs)
        # A tokenizer takes options by changing itself. It is always called with the same ones, and for the first time
        # here, so that threads that share it find it as it has to be.
        self.tokenizer("", **AS_WORDS)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As of `ProcessorMixin`; raises `CheckpointError`, which names folder, file and reason."""
        with loading("processor", pretrained_model_name_or_path):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_args_and_dict(cls, args: list, processor_dict: dict, **kwargs: object) -> "I2SRMProcessor":
        """As of `ProcessorMixin`; a processor that was saved without word_splitting splits as it did then."""
        return super().from_args_and_dict(args, {"word_splitting": SAVED_SPLITTING, **processor_dict}, **kwargs)

    @classmethod
    def from_encoders(
        cls,
        text_name_or_path: str,
        vision_name_or_path: str | None = None,
        entity_markers: bool = False,
        **overrides: object,
    ) -> "I2SRMProcessor":
        """Build a processor from the tokenizer of a text encoder and the picture recipe of a vision backbone.

        That is the backbone's preprocessor_config.json or the pretrained_cfg of its configuration, of timm's models
        theirs, and else, with a warning, the ResNet recipe: shortest side to 256, centre 224x224, ImageNet mean and
        standard deviation. With `entity_markers` the tokenizer gets the four markers that relations
        need; call `model.resize_token_embeddings(len(processor.tokenizer))` then.
        """
        path = vision_name_or_path
        image_processor = resnet_image_processor() if path is None else backbone_image_processor(path)
        with loading("tokenizer", text_name_or_path):
            tokenizer = AutoTokenizer.from_pretrained(text_name_or_path)
        options: dict[str, Any] = overrides
        processor = cls(image_processor, tokenizer, **options)
        if entity_markers:
            processor.add_entity_markers()
        return processor

    def add_entity_markers(self) -> int:
        """Add the markers of head and tail to the tokenizer, as special tokens; return how many were new."""
        self.__dict__.pop("_reserved_ids", None)
        return self.tokenizer.add_tokens(list(MARKERS), special_tokens=True)

    def save_pretrained(self, save_directory, *args, **kwargs):
        files = super().save_pretrained(save_directory, *args, **kwargs)
        if type(self.tokenizer).__name__ == "BertweetTokenizer":
            # It saves its merges without the counts, but leaves out the last column when it loads them.
            merges = Path(save_directory, "bpe.codes")
            lines = merges.read_text(encoding="utf-8").splitlines()
            merges.write_text("".join(f"{line} 0\n" for line in lines), encoding="utf-8")
        return files

    @property
    def model_input_names(self):
        # input_ids first: length grouping reads the first name.
        names = list(self.tokenizer.model_input_names)
        return [*sorted(names, key=lambda name: name != "input_ids"), "word_mask", "pixel_values", "image_mask"]

    def __call__(
        self,
        text: str | list[str] | None = None,
        images: object = None,
        objects: object = None,
        *,
        tokens: list[str] | list[list[str]] | None = None,
        ner_tags: list | None = None,
        head: object = None,
        tail: object = None,
        relation: object = None,
        label: object = None,
        relations: list | None = None,
        regions: list | None = None,
        label2id: dict[str, int] | None = None,
        relation2id: dict[str, int] | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_word_offsets: bool = False,
        return_tensors: str = "pt",
        cropper: Callable | None = None,
        return_objects: bool = False,
    ) -> BatchFeature:
        """Process one post or a list of posts.

        Args:
            text: raw text, or a list of texts; split as the processor's word_splitting says.
            tokens: words of a post, or a list of posts' words, instead of `text` or, for offsets into it, with it.
            images: a picture or `None` a post: PIL image, path, URL, bytes, array or the dict of a `datasets.Image`.
            objects: a list of object crops (each like a picture) or `None` a post.
            ner_tags: a tag per word, ids or (with `label2id`) names.
            head, tail: the two entities of a post, each (start, end) or {"start": ..., "end": ...} with the end
                exclusive: words with `tokens`, characters with `text` alone. Needs the entity markers.
            relation: the relation of each pair, ids or (with `label2id`) names.
            label: the label of each post, ids or (with `label2id`) names.
            relations, regions: of the entities that `ner_tags` mark, for each post as of `encode_graph`; their labels
                are ids or (with `relation2id`) names.
            max_length: overrides the processor's.
            return_word_offsets: add "words", "word_offsets" and "num_truncated_words" (lists, not tensors; take them
                out before calling the model). Offsets refer to the text, or to the words as `join_words` joins them.
            cropper: finds the objects of posts with a picture and no `objects` (`None` or an empty list): an
                `ObjectCropper`, or any callable as crops.py says. Objects that are given win. All pictures of the call
                go to it together, at full size; it gets no labels. A post without a picture gets no crops.
            return_objects: add "objects" (no tensors; take it out before calling the model): for each post a list of
                the crops that the cropper found and the model gets, as it gave them, with box, score, label, picture.

        Returns:
            input_ids, attention_mask, token_type_ids (BERT), word_mask (B, T), labels (B, T) with `ner_tags`, graphs as
            of `pad` with `relations` or `regions`; with `head` and `tail` instead of the last three head_mask,
            tail_mask (B, T), and labels (B,) with `relation`; with `label` instead of them labels (B,); pixel_values
            (B, 1+M, 3, H, W) and image_mask (B, 1+M) if any picture is given.

        Raises:
            ValueError: what is wrong and a corrected call; `PictureError` (a `ValueError`) for pictures,
                `EntityPairError` (likewise) for a pair that does not fit into `max_length`.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: only return_tensors='pt' is supported")
        if label2id is not None and not isinstance(label2id, dict):
            raise ValueError(f"label2id={label2id!r:.200} is not a dict; e.g. label2id=model.config.label2id")
        posts, single = split_posts(text, tokens, self.word_splitting)
        if not posts:
            raise ValueError('no post given; e.g. processor(text=["Kobe lands in Paris"])')
        graph = {"ner_tags": ner_tags, "relations": relations, "regions": regions}
        labels = graph | {"head": head, "tail": tail, "relation": relation, "label": label}
        labels = {name: values for name, values in labels.items() if values is not None}
        check_labels(labels)
        arguments = {"images": images, "objects": objects, **labels}
        columns = {name: one_per_post(values, name, len(posts), single) for name, values in arguments.items()}
        check_cropper(cropper)
        for post, image, crops in zip(posts, columns.pop("images"), columns.pop("objects"), strict=True):
            post.image, post.objects = single_picture(image), crops
            if callable(cropper) and post.needs_crops:
                post.whole, post.image = self.load_whole(post.image)
        if callable(cropper):
            add_crops(posts, cropper)
        kind = kind_of({"tokens": tokens, **labels})
        rows = []
        for post, *values in zip(posts, *columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            if kind == "pair" and post.tokens is None:
                pair = row["head"], row["tail"]
                post.words, row["head"], row["tail"] = split_pair(post.text, *pair, self.word_splitting)
            row["tokens"] = [word.text for word in post.words]
            rows.append(self.encode_row(row, label2id, max_length, kind, relation2id))
        first_words = [row.pop("first_word", 0) for row in rows]
        truncated = [row.pop("num_truncated_words") for row in rows]
        if any(truncated) and not return_word_offsets:
            logger.warning(
                f"{sum(truncated)} words of {sum(map(bool, truncated))} of {len(rows)} posts are beyond max_length and "
                "were truncated; see return_word_offsets=True"
            )
        pictures = self.encode_pictures([post.image for post in posts], [post.objects for post in posts])
        features: dict = {**self.pad(rows, pad_to_multiple_of), **pictures}
        if return_word_offsets:
            features |= word_offsets(posts, first_words, truncated)
        if return_objects:
            features["objects"] = [(post.crops or [])[: self.num_objects] for post in posts]
        return BatchFeature(features)

    @cached_property
    def _word_prefix(self) -> str:
        """Byte-level tokenizers tell a word's start by the space before it, whatever their add_prefix_space."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        return " " if backend is not None and "ByteLevel" in repr(backend.pre_tokenizer) else ""

    @cached_property
    def _special_ids(self) -> tuple[int, int]:
        ids = self.tokenizer("", **AS_WORDS)["input_ids"]
        if len(ids) != 2:
            raise ValueError(f"{type(self.tokenizer).__name__} adds {len(ids)} special tokens to a text, expected 2")
        return tuple(ids)

    def _limit(self, max_length: int | None) -> int:
        own = self.tokenizer.model_max_length
        own = own if own < 1_000_000 else LONGEST_DEFAULT
        limit = next(length for length in (max_length, self.max_length, own) if length is not None)
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise ValueError(f"max_length={limit!r} must be a number of sub-tokens, e.g. max_length=128")
        if not 3 <= limit <= own:
            raise ValueError(f"max_length={limit} must be between 3 and the tokenizer's limit, {own}")
        return limit

    def encode_row(
        self,
        row: Mapping,
        label2id: dict[str, int] | None = None,
        max_length: int | None = None,
        kind: str | None = None,
        relation2id: dict[str, int] | None = None,
    ) -> dict:
        """Encode the words of a row of a data set, without padding, as its columns say.

        Args:
            row: tokens or text, and ner_tags (with relations and regions), or head, tail and relation, or label.
            kind: default `kind_of(row)`.

        Returns:
            As of `encode_pair`, `encode_graph`, `encode_post` or `encode_tokens`; a row that is encoded already as it
            is.
        """
        kind = kind_of(row) if kind is None else kind
        if kind == "encoded":
            return dict(row)
        tokens, head, tail = split_row(row, kind, self.word_splitting)
        if kind == "pair":
            return self.encode_pair(tokens, head, tail, row.get("relation"), label2id, max_length)
        if kind == "graph":
            graph = row["ner_tags"], row.get("relations"), row.get("regions")
            return self.encode_graph(tokens, *graph, label2id, relation2id, max_length)
        if kind == "labelled":
            return self.encode_post(tokens, row.get("label"), label2id, max_length)
        return self.encode_tokens(tokens, row.get("ner_tags"), label2id, max_length)

    def encode_tokens(
        self,
        tokens: list[str],
        ner_tags: list[int] | list[str] | None = None,
        label2id: dict[str, int] | None = None,
        max_length: int | None = None,
        pieces: list[list[int]] | None = None,
    ) -> dict:
        """Encode the words of one post, without padding.

        A word for which the tokenizer has no sub-token (zero-width characters, lone white space) becomes the unknown
        token, so every word has a first sub-token and no tag is lost or shifted.

        Args:
            pieces: the `sub_tokens` of the words, to save the work where they are known.

        Returns:
            Lists input_ids, attention_mask, token_type_ids (if the tokenizer has them), word_mask, labels (with
            `ner_tags`), and the number of words beyond `max_length`, num_truncated_words.
        """
        tokens = check_words(tokens)
        if ner_tags is not None and (not is_listing(ner_tags) or len(ner_tags) != len(tokens)):
            got = len(ner_tags) if is_listing(ner_tags) else "no list of"
            raise ValueError(
                f"{len(tokens)} tokens but {got} ner_tags: {tokens!r:.200} {ner_tags!r:.200}; give a tag per word, "
                'e.g. tokens=["Kobe", "lands"], ner_tags=[1, 0]'
            )
        room = self._limit(max_length) - 2
        pieces = self.sub_tokens(tokens[:room]) if pieces is None else pieces  # of a long post only what can fit
        row, word_starts = self._word_row(pieces, room)
        if ner_tags is not None:
            row["labels"] = [IGNORE] * len(row["input_ids"])
            tags: Sequence[int | str] = ner_tags
            for start, tag in zip(word_starts, tags, strict=False):
                row["labels"][start] = label_id(tag, label2id)
        row["num_truncated_words"] = len(tokens) - len(word_starts)
        return row

    def encode_graph(
        self,
        tokens: list[str],
        ner_tags: list[int] | list[str],
        relations: list[dict] | None = None,
        regions: list[int | None] | None = None,
        label2id: dict[str, int] | None = None,
        relation2id: dict[str, int] | None = None,
        max_length: int | None = None,
        pieces: list[list[int]] | None = None,
    ) -> dict:
        """Encode the words of one post with its entities, their relations and the objects that show them.

        Args:
            ner_tags: names, or ids with `label2id`; else, as max_length and pieces, as of `encode_tokens`.
            relations: dicts with head, tail and label; head and tail are indices of the entities that the tags mark, in
                the order of the words, or their words, {"start": ..., "end": ...}; the label is an id or (with
                `relation2id`) a name. `None` where relations are not annotated.
            regions: the object that shows each entity, -1 where none does, `None` where that is not annotated.

        Returns:
            As `encode_tokens`, and the lists and counts of `RowGraph.to_lists`.
        """
        row = self.encode_tokens(tokens, ner_tags, label2id, max_length, pieces)
        graph = read_graph(ner_tags, relations, regions, label2id, relation2id)
        return row | graph.to_lists(len(tokens) - row["num_truncated_words"], self.num_objects)

    def encode_post(
        self,
        tokens: list[str],
        label: int | str | None = None,
        label2id: dict[str, int] | None = None,
        max_length: int | None = None,
        pieces: list[list[int]] | None = None,
    ) -> dict:
        """Encode the words of one post that has a label as a whole, without padding.

        Args:
            label: id or (with `label2id`) name; the other arguments are as of `encode_tokens`.

        Returns:
            As `encode_tokens`, without word_mask, and the integer labels (with `label`).
        """
        row = self.encode_tokens(tokens, max_length=max_length, pieces=pieces)
        del row["word_mask"]
        if label is not None:
            row["labels"] = label_id(label, label2id)
        return row

    def _word_row(self, pieces: list[list[int]], room: int) -> tuple[dict, list[int]]:
        """The row of words given as sub-tokens, cut to `room`, and the positions of the words that are in."""
        input_ids, word_starts = list[int](), list[int]()
        for ids in pieces:
            if len(input_ids) >= room:
                break
            word_starts.append(len(input_ids) + 1)
            input_ids += ids[: room - len(input_ids)]
        row = self._frame(input_ids)
        row["word_mask"] = [0] * len(row["input_ids"])
        for start in word_starts:
            row["word_mask"][start] = 1
        return row, word_starts

    def encode_windows(
        self, tokens: list[str], max_length: int | None = None, stride: int | None = None
    ) -> tuple[list[dict], list[int]]:
        """Encode the words of one post of any length, in overlapping windows where it is longer than `max_length`.

        Args:
            stride: sub-tokens that neighbouring windows share; default a quarter of the longest.

        Returns:
            The rows, as of `encode_tokens` without labels, each with its first word, first_word; and for each word the
            number of the row that shows most of what stands around it.

        Raises:
            ValueError: a post without words, or a stride that is negative or not less than the room in a window.
        """
        room = self._limit(max_length) - 2
        stride = room // 4 if stride is None else stride
        if not tokens:
            raise ValueError('a post without words; e.g. processor.encode_windows(["Kobe", "lands", "in", "Paris"])')
        if not 0 <= stride < room:
            raise ValueError(f"stride={stride} must be between 0 and {room - 1}, e.g. stride={room // 4}")
        pieces = self.sub_tokens(tokens)
        lengths = [len(ids) for ids in pieces]
        if cut := [token for token, length in zip(tokens, lengths, strict=True) if length > room]:
            logger.warning(
                f"{len(cut)} words are longer than the {room} sub-tokens of a window and are read up to there: "
                f"{', '.join(repr(token[:30] + ' ...') for token in cut[:3])}"
            )
        windows = overlapping_windows(lengths, room, stride)
        rows = [{**self._word_row(pieces[a:b], room)[0], "first_word": a} for a, b in windows]
        return rows, best_windows(lengths, windows)

    def encode_pair(
        self,
        tokens: list[str],
        head: object,
        tail: object,
        relation: int | str | None = None,
        label2id: dict[str, int] | None = None,
        max_length: int | None = None,
        pieces: list[list[int]] | None = None,
    ) -> dict:
        """Encode the words of one post with markers around its head and tail entity, without padding.

        Of a post that is too long a window with both entities is kept; the words farthest from them are cut first.

        Args:
            tokens: the words.
            head, tail: (start, end) or {"start": ..., "end": ...} in words, the end exclusive. Any two spans: they may
                abut, nest, overlap or be equal.
            relation: id or (with `label2id`) name.
            pieces: the `sub_tokens` of the words, to save the work where many pairs of one post are encoded.

        Returns:
            Lists input_ids, attention_mask, token_type_ids (if the tokenizer has them), head_mask, tail_mask (1 on the
            entity's own sub-tokens), the integer labels (with `relation`), the first word that is in, first_word, and
            the number of truncated words, num_truncated_words.

        Raises:
            EntityPairError: both entities and the words between them do not fit.
            ValueError: a span that is not in the post, or a tokenizer without the markers.
        """
        if pieces is None:
            tokens = check_words(tokens)
        head, tail = check_span(head, "head", len(tokens)), check_span(tail, "tail", len(tokens))
        pieces = self.sub_tokens(tokens) if pieces is None else pieces
        marked = mark_pair(pieces, head, tail, self._marker_ids, self._limit(max_length) - 2)
        row = self._frame(marked.input_ids)
        row |= {"head_mask": [0, *marked.head_mask, 0], "tail_mask": [0, *marked.tail_mask, 0]}
        if relation is not None:
            row["labels"] = label_id(relation, label2id)
        row["first_word"] = marked.first_word
        row["num_truncated_words"] = len(tokens) - (marked.last_word - marked.first_word)
        return row

    @cached_property
    def _marker_ids(self) -> tuple[int, ...]:
        known = self.tokenizer.get_vocab()
        if not set(MARKERS) <= known.keys():
            raise ValueError(
                f"the tokenizer has no entity markers {' '.join(MARKERS)}; call processor.add_entity_markers() and "
                "model.resize_token_embeddings(len(processor.tokenizer))"
            )
        return tuple(known[marker] for marker in MARKERS)

    def _frame(self, input_ids: list[int]) -> dict:
        first, last = self._special_ids
        row = {"input_ids": [first, *input_ids, last], "attention_mask": [1] * (len(input_ids) + 2)}
        if "token_type_ids" in self.tokenizer.model_input_names:
            row["token_type_ids"] = [0] * len(row["input_ids"])
        return row

    def sub_tokens(self, tokens: list[str]) -> list[list[int]]:
        """The ids of each word's sub-tokens, at least one per word."""
        if not tokens:
            return []
        # Lone surrogates cannot be encoded; they count as unknown characters.
        words = [word.encode("utf-8", "replace").decode("utf-8") for word in tokens]
        words = [word if word[:1] in ("", " ") else self._word_prefix + word for word in words]
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend and backend.encode_special_tokens and not (backend.truncation or backend.padding):  # faster
            pieces = [encoding.ids for encoding in backend.encode_batch_fast(words, add_special_tokens=False)]
        else:
            pieces = self.tokenizer(words, add_special_tokens=False, verbose=False, **AS_WORDS)["input_ids"]
        reserved, unknown = self._reserved_ids, self.tokenizer.unk_token_id
        return [[unknown if i in reserved else i for i in ids] or [unknown] for ids in pieces]

    @cached_property
    def _reserved_ids(self) -> frozenset[int]:
        """Ids that no word may have. Some tokenizers find special tokens inside of words: unigram, slow BERT."""
        return frozenset(i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special)

    def pad(self, rows: list[dict], pad_to_multiple_of: int | None = None) -> dict[str, torch.Tensor]:
        """Pad rows of `encode_tokens`, `encode_pair`, `encode_post` or `encode_graph` on the right to (B, T) tensors.

        The labels of pairs and posts become (B,). Rows without any get -100 beside others. Of graphs there are
        entity_spans (B, E, 2), -1 = padding; relation_labels (B, E, E), head x tail, 0 = no relation, -100 = padding,
        not annotated, or an entity with itself; and region_labels (B, E), -100 = padding or not annotated.
        """
        return pad_rows(rows, self.tokenizer.pad_token_id, pad_to_multiple_of)

    def load_picture(self, picture: object, allow_private_addresses: bool | None = None) -> Image.Image:
        """A picture as an upright 8-bit RGB PIL image of bounded size and shape; raises `PictureError`."""
        allowed = self.allow_private_addresses if allow_private_addresses is None else allow_private_addresses
        most, side = self.max_pixels, self._min_side()
        return limit_aspect(load_picture(picture, max_pixels=most, min_side=side, allow_private_addresses=allowed))

    def load_whole(self, picture: object, allow_private_addresses: bool | None = None) -> tuple:
        """A picture at full size, which croppers get, and as `load_picture` gives it; it is read or downloaded once."""
        allowed = self.allow_private_addresses if allow_private_addresses is None else allow_private_addresses
        if isinstance(picture, Mapping) and picture.get("bytes") is None:
            picture = picture.get("path")
        data = read_bytes(picture, allow_private_addresses=allowed)
        if data is not None and not isinstance(picture, Mapping):
            picture = {"bytes": data, "path": str(picture) if isinstance(picture, (str, os.PathLike)) else None}
        whole, min_side = load_picture(picture, max_pixels=self.max_pixels), self._min_side()
        if min_side is None or min(whole.size) < 2 * min_side:  # it would not be decoded at a part of its size
            return whole, limit_aspect(whole)
        return whole, self.load_picture(picture)

    def _min_side(self) -> int | None:
        """The shorter side, in pixels, that a JPEG must keep when it is decoded at a part of its size."""
        size = {name: side for name, side in dict(getattr(self.image_processor, "size", None) or {}).items() if side}
        if self.reduced_decode is None or not getattr(self.image_processor, "do_resize", True) or not size:
            return None
        # Where there is no shortest edge the longest side will do for both.
        side = size.get("shortest_edge") or max(size.values())
        # ConvNeXT's recipe, which is that of microsoft/resnet-50 too, resizes to more and then crops.
        return math.ceil(self.reduced_decode * side / (getattr(self.image_processor, "crop_pct", None) or 1))

    def encode_pictures(self, images: list, objects: list | None = None) -> dict[str, torch.Tensor]:
        """Load and normalise the pictures of a batch.

        Args:
            images: a picture or `None` a post.
            objects: a list of crops or `None` a post.

        Returns:
            pixel_values (B, 1+M, 3, H, W), zeros where absent, and image_mask (B, 1+M); empty if no post has a picture.
        """
        objects = [None] * len(images) if objects is None else objects
        width = 1 + self.num_objects
        slots, pictures = [], []
        for post, (image, crops) in enumerate(zip(images, objects, strict=True)):
            crops = [] if is_absent(crops) else crops
            if not is_listing(crops):
                raise ValueError(
                    f"objects holds {repr(crops)[:60]}, expected a list of crops per post, e.g. objects=[[crop], None]"
                )
            crops = list(crops)
            if len(crops) > self.num_objects:
                logger.warning_once(
                    f"a post has {len(crops)} object crops, only the first num_objects={self.num_objects} are used"
                )
            for position, picture in enumerate([single_picture(image), *crops[: self.num_objects]]):
                if not is_absent(picture):
                    slots.append(post * width + position)
                    pictures.append(self.load_picture(picture))
        if not pictures:
            return {}
        pixels = self.image_processor(pictures, return_tensors="pt")["pixel_values"]  # (N, 3, H, W)
        pixel_values = pixels.new_zeros(len(images) * width, *pixels.shape[1:])
        image_mask = torch.zeros(len(images) * width, dtype=torch.long)
        pixel_values[slots] = pixels
        image_mask[slots] = 1
        return {"pixel_values": pixel_values.unflatten(0, (-1, width)), "image_mask": image_mask.view(-1, width)}


I2SRMProcessor.register_for_auto_class("AutoProcessor")


__all__ = ["I2SRMProcessor", "pil_backed", "resnet_image_processor"]
