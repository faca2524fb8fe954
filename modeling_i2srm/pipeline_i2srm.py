"""Pipelines: a post in, its entities, the relations of pairs of them, or its own label, with scores out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from transformers import Pipeline
from transformers.utils import logging

from .batching import Answers, cut_by_length, has_pictures, read_windows
from .checks import check_finite, check_on_image_error, check_sub_tokens, check_threshold
from .crf import entity_types, find_entities, tags_of
from .crops import add_crops, check_cropper, describe_crop
from .modeling_i2srm import I2SRMForTokenClassification
from .posts import Post, find_pairs, read_post
from .pretrained_model import I2SRMPreTrainedModel, gather_words
from .processing_i2srm import I2SRMProcessor
from .tables import read_rows
from .words import SAVED_SPLITTING, EntityPairError, split_text

logger = logging.get_logger(__name__)

ROWS_TOGETHER = 32  # windows or pairs that go through the model at once, unless the batch is larger
CPU_TOKENS = 1024  # of a call on the CPU, padding included: larger calls are hardly faster, and take more memory
DECODED_WORDS = 16_384  # of the posts whose tags are decoded together, padding included
STRATEGIES = ("none", "simple", "first", "average", "max")


# Rows that went through the model together, as (post, number of the row), their logits (B, T, N) or (B, N) in float32,
# and the mask (B, T) of the words, if they are tagged.
Call = tuple[list[tuple[Post, int]], torch.Tensor, torch.Tensor | None]


class PostPipeline(Pipeline):
    """The base of the pipelines: it reads posts and their pictures, and runs rows of many posts together."""

    # Where types are ignored: the base class has `None` here, and its methods take options without names.
    _load_processor = True  # type: ignore[assignment]  # Pipeline says None
    _load_tokenizer = False  # type: ignore[assignment]  # Pipeline says None
    _load_image_processor = False  # type: ignore[assignment]  # Pipeline says None
    _load_feature_extractor = False  # type: ignore[assignment]  # Pipeline says None
    _load_video_processor = False  # type: ignore[assignment]  # Pipeline says None
    keys: tuple[str, ...]  # of a post
    example: str
    model: I2SRMPreTrainedModel
    processor: I2SRMProcessor

    def __init__(self, *args: object, cropper: Callable | bool | None = None, **kwargs: object) -> None:
        check_cropper(cropper)
        self.cropper = cropper if callable(cropper) else None
        super().__init__(*cast(Any, args), **cast(Any, kwargs))

    def __call__(self, inputs=None, cropper=None, **kwargs):  # type: ignore[override]  # fewer and named, as Pipeline allows
        post = {name: kwargs.pop(name) for name in self.keys if name in kwargs}
        if (inputs is None) != bool(post):
            raise ValueError(f"give a post, a list of posts or the parts of one post, e.g. {self.example}")
        inputs = post or read_rows(inputs)
        single, listed = isinstance(inputs, (Mapping, str, Post)), isinstance(inputs, (list, tuple))
        dataset = isinstance(inputs, torch.utils.data.Dataset)  # may have no __iter__
        if not (single or dataset) and (isinstance(inputs, bytes) or not isinstance(inputs, Iterable)):
            raise ValueError(f"{inputs!r:.200} is not a post; e.g. {self.example}")
        check_cropper(cropper)
        cropper = self.cropper if cropper is None else cropper
        if listed and not inputs:
            return []
        if not (single or dataset):
            inputs = list(self.numbered(inputs)) if listed else self.numbered(inputs)
        if callable(cropper):
            posts = self.read_with_crops([inputs] if single else inputs, cropper, **kwargs)
            answers = super().__call__(posts, **{**kwargs, "num_workers": 0})  # a cropper runs in this process
            return next(iter(answers)) if single else list(answers) if listed else iter(answers)
        if single or dataset:
            return super().__call__(inputs, **kwargs)
        if listed:
            return super().__call__(list(inputs), **kwargs)
        return iter(super().__call__(inputs, **kwargs))  # answers as they come

    def save_pretrained(self, save_directory, **kwargs):
        """Save model and processor into one folder, which `pipeline(..., trust_remote_code=True)` loads."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    @property
    def word_splitting(self) -> str:
        """How the processor splits text; one that comes with the code of an older checkpoint does not say."""
        return getattr(self.processor, "word_splitting", SAVED_SPLITTING)

    def numbered(self, posts: Iterable) -> Iterator:
        """Yield the posts; a `ValueError` about one that cannot be read names its place, from 0."""
        for place, post in enumerate(posts):
            if isinstance(post, Mapping):  # an iterator would be empty the second time
                post = {name: list(part) if isinstance(part, Iterator) else part for name, part in post.items()}
            if not hasattr(post, "load_pictures"):
                try:
                    read_post(post, self.keys, self.example, self.word_splitting)
                except ValueError as error:
                    raise ValueError(f"post {place}: {error}") from None
            yield post

    def load(
        self,
        post: Post | str | Mapping,
        on_image_error: str | None = None,
        allow_private_addresses: bool | None = None,
        for_cropper: bool = False,
    ) -> Post:
        """A post with its pictures read; the options are those of `Post.load_pictures`.

        A `Post` is ready as it is, unless another pipeline has split its text in another way.
        """
        if hasattr(post, "load_pictures"):  # another checkpoint's code has a Post of its own
            loaded = cast(Post, post)
            if getattr(post, "splitting", None) in (None, self.word_splitting):
                return loaded
            return replace(loaded, words=split_text(loaded.text, self.word_splitting), splitting=self.word_splitting)
        loaded = read_post(cast(str | Mapping, post), self.keys, self.example, self.word_splitting)
        loaded.load_pictures(self.processor, on_image_error, allow_private_addresses, for_cropper)
        return loaded

    def read_with_crops(self, posts: Iterable, cropper: Callable, **call: object) -> Iterator[Post]:
        """Read posts in batches and let a cropper find the objects of those that need crops.

        Args:
            call: options of a call of the pipeline; default those that it was made with.
        """
        settings = {"batch_size": self._batch_size or 1, **self._preprocess_params, **options(**call)}
        on_error, private = settings.get("on_image_error"), settings.get("allow_private_addresses")
        check_on_image_error(on_error)
        if isinstance(posts, torch.utils.data.Dataset) and isinstance(posts, Sized):
            left: Iterator = map(posts.__getitem__, range(len(posts)))
        else:
            left = iter(posts)
        while batch := list(islice(left, settings["batch_size"])):
            loaded = [self.load(post, on_error, private, for_cropper=True) for post in batch]
            add_crops(loaded, cropper)
            yield from loaded

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """As of `Pipeline`; posts of several batches are read together, and sorted by length."""
        options = preprocess_params, forward_params, postprocess_params
        if batch_size == 1:
            return super().get_iterator(inputs, num_workers, batch_size, *options)
        return Answers(inputs, partial(self.answer_windows, inputs, num_workers, batch_size, *options))

    def answer_windows(
        self, posts: Iterable, num_workers: int, batch_size: int, reading: dict, answering: dict, writing: dict
    ) -> Iterator:
        """Yield the answers to posts, which are read as `read_windows` does.

        Args:
            num_workers: processes that read posts, instead of threads.
            reading, answering, writing: options of `preprocess`, `answer` and `postprocess`.
        """
        listed = isinstance(posts, Sized)
        if num_workers:
            loader = super().get_iterator(posts, num_workers, 1, reading, answering, writing).loader.loader
            ready = (item["post"] for item in loader)
            windows = read_windows(ready, lambda post: {"post": post}, batch_size, listed)
        else:
            one_by_one = map(cast(Any, posts).__getitem__, range(len(cast(Sized, posts)))) if listed else posts
            windows = read_windows(one_by_one, partial(self.preprocess, **reading), batch_size, listed)
        for window in windows:
            items = {"post": [item["post"] for item in window], "batch_size": batch_size}
            for post in self.forward(items, **answering)["post"]:
                yield self.postprocess(cast(Any, {"post": post}), **writing)

    def encode(self, post: Post, rows: Sequence[dict | None], owners: list[int] | None = None) -> dict[str, Post]:
        """The return value of `preprocess`: a copy of a post with its rows, and its pictures only as tensors.

        A model that was trained without pictures gets none: its prompts are random.
        """
        pictured = has_pictures(post)
        if pictured and not getattr(self.model.config, "reads_pictures", True):
            logger.warning_once("pictures are not used: the model was trained without them (config.reads_pictures)")
            pictured = False
        tensors = self.processor.encode_pictures([post.image], [post.objects]) if pictured else {}
        pictures = {name: tensor[0] for name, tensor in tensors.items()}
        return {
            "post": replace(post, rows=list(rows), owners=owners or [], pictures=pictures, image=None, objects=None)
        }

    def batches(
        self, posts: list[Post], together: int = ROWS_TOGETHER
    ) -> Iterable[tuple[list[tuple[Post, int]], dict[str, torch.Tensor]]]:
        """Yield the rows of posts as (a list of (post, number of the row), the model's inputs).

        The rows of a call are of about one length, of posts with pictures or of posts without. Those of one post stay
        in order.

        Args:
            together: most rows of a call; on the CPU also at most `CPU_TOKENS`.
        """
        self.model.eval()  # a model that is being trained would give another answer each time
        pictured = [post for post in posts if post.pictures]
        pictures = self.encode_visually([post.pictures for post in pictured])
        for group in (pictured, [post for post in posts if not post.pictures]):
            rows = [(n, i) for n, post in enumerate(group) for i, row in enumerate(post.rows) if row is not None]
            lengths = [[len(row["input_ids"]) for row in post.rows if row is not None] for post in group]
            longest = [max(of_post, default=0) for of_post in lengths]
            most = CPU_TOKENS if self.device.type == "cpu" else together * max(longest, default=0)
            for places in cut_by_length([longest[n] for n, _ in rows], most, together):
                part = [rows[place] for place in places]
                encoded = [group[n].rows[i] or {} for n, i in part]
                texts = [{name: ids for name, ids in row.items() if isinstance(ids, list)} for row in encoded]
                batch = {name: tensor.to(self.device) for name, tensor in self.processor.pad(texts).items()}
                if group is pictured:
                    batch |= {name: tensor[[n for n, _ in part]] for name, tensor in pictures.items()}
                yield [(group[n], i) for n, i in part], batch

    def encode_visually(self, pictures: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The visual_features and image_mask of posts that have pictures: once for a post, however many its rows."""
        if not pictures:
            return {}
        stacked = {name: torch.stack([one[name] for one in pictures]).to(self.device) for name in pictures[0]}
        if "visual_features" not in stacked:
            stacked["visual_features"] = self.model.get_visual_features(**stacked)
        return {name: stacked[name] for name in ("visual_features", "image_mask")}

    def run_rows(self, posts: list[Post], together: int = ROWS_TOGETHER) -> Iterable["Call"]:
        """Yield the logits of the rows of posts, as `batches` puts them together."""
        for rows, batch in self.batches(posts, together):
            yield rows, self.model(**batch).logits.float(), batch.get("word_mask")

    def _forward(self, model_inputs, **kwargs):  # type: ignore[override]  # fewer and named, as Pipeline allows
        posts = model_inputs["post"]  # a list where posts come in batches
        together = max(ROWS_TOGETHER, model_inputs.get("batch_size", 1))
        self.answer(posts if isinstance(posts, list) else [posts], together, **kwargs)
        return {"post": posts}

    def answer(self, posts: list[Post], together: int, **options: object) -> None:  # its own options, in each class
        """Fill in the `answers` of each post; `together` is as of `batches`."""
        raise NotImplementedError

    def note_pictures(self, answer: dict, post: Post) -> dict:
        """Add to an answer which pictures it was made without, and the boxes that the model saw, at their places."""
        if post.image_errors:
            answer["image_errors"] = dict(post.image_errors)
        if post.crops is not None:
            seen = post.crops[: self.processor.num_objects]
            answer["objects"] = [None if crop is None else describe_crop(crop) for crop in seen]
        return answer


class MultimodalTokenClassificationPipeline(PostPipeline):
    """Find the entities of posts: `pipeline("multimodal-token-classification", model=..., trust_remote_code=True)`.

    A post is a text or a dict of text or tokens, image (a path, URL, PIL image ...; or `None`) and objects (crops: each
    a picture, or {"box": (left, top, right, bottom)} in pixels of the upright image, as answers have them). A text is
    split as the processor's word_splitting says; with tokens beside it, these are its words. One post gives a
    list of entities, a list or table of posts (`read_rows`) a list of lists, a data set or generator an iterator. Of
    several pictures in image the first is read, with a warning. A text that is longer than the encoder's limit is read
    in overlapping windows, and decoded as a whole. Pictures and mates in a batch change nothing in a post's answer but
    rounding.

    Args:
        aggregation_strategy: "simple" gives entities. "none" gives each word with its tag. "first", "average" and
            "max" are as "simple": tags belong to words here, not to sub-tokens. Keys are those of transformers' own
            pipeline: "entity_group" is the type of an entity, "entity" the tag of a word.
        threshold: leave out what has a lower score; default 0.
        return_all_scores: add "scores": of an entity, the score of every type for its words; of a word, of every tag.
        ignore_labels: types, or with "none" tags, that are left out; default ["O"].
        stride: sub-tokens that neighbouring windows share; default a quarter of a window.
        max_length: sub-tokens of a window; default the processor's.
        on_image_error: `None` raises for pictures that cannot be read, but leaves out one whose download fails; "warn"
            leaves out any such picture; "raise" always raises. "image_errors" names the pictures that are left out.
            Lack of memory, too many open files and a broken disk always raise: no picture causes them.
        allow_private_addresses: also download pictures from this machine and the networks around it, for those who
            have them there and write the URLs themselves; default: only from public addresses, else it is a download
            that fails.
        cropper: finds the objects of posts that have a picture and no objects (`None` or an empty list): an
            `ObjectCropper`, or any callable as crops.py says. Objects that are given win; a post without a picture gets
            none. The pictures of a batch go to it together, at full size, and are read in this process, whatever
            `num_workers` says. `False`: not the one that the pipeline was made with.
        batch_size: posts that go through the model together. With more than 1 posts are read in windows of several
            batches, and texts are sorted by length within each (`read_windows`); of a generator these grow from one
            batch. Default 1: each post is answered before the next one is read.

    Returns:
        For each entity {"entity_group": type, "score": probability under the CRF that exactly these words are such an
        entity, "word": the text from start to end, "start", "end": character offsets into the text, the end exclusive}.
        With tokens alone the text is the words as `join_words` joins them. For each word ("none") also "index", and
        "entity", its tag, in place of "entity_group". Where a cropper has looked also "objects": [{"box": (left, top,
        right, bottom) in pixels of the upright picture, "score", "label"}, ...], those that the model saw, at most
        `num_objects`; the crop is `load_picture(post["image"]).crop(box)`.

    Raises:
        ValueError: no post, no words, an unknown key or option; logits that are NaN or infinite; `PictureError` (a
            `ValueError`) for a picture.

    Example:

    >>> from transformers import pipeline
    >>> ner = pipeline("multimodal-token-classification", model="runs/quickstart")  # doctest: +SKIP
    >>> ner({"text": "Kobe lands in Paris", "image": "kobe.jpg"})  # doctest: +SKIP
    [{'entity_group': 'PER', 'score': 0.98, 'word': 'Kobe', 'start': 0, 'end': 4},
     {'entity_group': 'LOC', 'score': 0.97, 'word': 'Paris', 'start': 14, 'end': 19}]
    """

    keys = ("text", "tokens", "image", "objects")
    example = 'pipe({"text": "Kobe lands in Paris", "image": "kobe.jpg"})'
    model: I2SRMForTokenClassification

    def _sanitize_parameters(  # type: ignore[override]  # fewer and named, as Pipeline allows
        self,
        aggregation_strategy=None,
        threshold=None,
        return_all_scores=None,
        ignore_labels=None,
        stride=None,
        max_length=None,
        on_image_error=None,
        allow_private_addresses=None,
    ):
        if aggregation_strategy is not None and aggregation_strategy not in STRATEGIES:
            raise ValueError(f"aggregation_strategy={aggregation_strategy!r} must be one of {', '.join(STRATEGIES)}")
        if threshold is not None:
            check_threshold("threshold", threshold)
        if isinstance(ignore_labels, str):
            raise ValueError(f'ignore_labels={ignore_labels!r} is not a list, e.g. ignore_labels=["{ignore_labels}"]')
        check_sub_tokens(stride=stride, max_length=max_length)
        check_on_image_error(on_image_error)
        strategy = options(aggregation_strategy=aggregation_strategy)
        all_scores = options(return_all_scores=return_all_scores)
        return (
            options(
                stride=stride,
                max_length=max_length,
                on_image_error=on_image_error,
                allow_private_addresses=allow_private_addresses,
            ),
            {**strategy, **all_scores},
            {**strategy, **options(threshold=threshold, ignore_labels=ignore_labels)},
        )

    def preprocess(self, inputs, stride=None, max_length=None, **picture_options):  # type: ignore[override]  # fewer and named, as Pipeline allows
        post = self.load(inputs, **picture_options)
        rows, owners = self.processor.encode_windows([word.text for word in post.words], max_length, stride)
        return self.encode(post, rows, owners)

    def answer(self, posts, together, aggregation_strategy="simple", return_all_scores=False):  # type: ignore[override]  # fewer and named, as Pipeline allows
        emissions, mask = self.collect(posts, self.run_rows(posts, together))
        lengths = [len(post.words) for post in posts]
        for places in cut_by_length(lengths, DECODED_WORDS, len(posts)):
            width = lengths[places[0]]
            scores = emissions[places, :width], mask[places, :width]
            self.read([posts[place] for place in places], *scores, aggregation_strategy, return_all_scores)

    @staticmethod
    def collect(posts: list[Post], calls: Iterable["Call"]) -> tuple[torch.Tensor, torch.Tensor]:
        """The emissions (B, W, N) of the words of posts, each from the window that owns it, and their mask (B, W).

        Args:
            calls: all rows of the posts; those of other posts are ignored.
        """
        places = {id(post): place for place, post in enumerate(posts)}
        lengths = torch.tensor([len(post.words) for post in posts])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        emissions = torch.zeros(0)
        for rows, logits, word_mask in calls:
            words, _ = gather_words(logits, cast(torch.Tensor, word_mask))
            words = words[:, : mask.shape[1]]  # a row of another post may have more words than any of these posts
            if not len(emissions):
                emissions = words.new_zeros(*mask.shape, words.shape[-1])
            whole = [n for n, (post, _) in enumerate(rows) if len(post.rows) == 1 and id(post) in places]
            emissions[[places[id(rows[n][0])] for n in whole], : words.shape[1]] = words[whole]
            for n, (post, number) in enumerate(rows):
                if len(post.rows) > 1 and id(post) in places:
                    row = post.rows[number] or {}
                    first = row["first_word"]
                    last = first + sum(row["word_mask"])
                    own = [word for word in range(first, last) if post.owners[word] == number]
                    emissions[places[id(post)], own] = words[n, [word - first for word in own]]
        check_finite(emissions.cpu(), mask, lambda: [post.text for post in posts])
        return emissions, mask

    def read(self, posts, emissions, mask, aggregation_strategy="simple", return_all_scores=False):
        """Fill in what emissions of the words say."""
        tags = self.model.decode(emissions, mask)
        names = label_names(self.model)
        if aggregation_strategy == "none":
            for post, ids, marginals in zip(posts, tags, self.model.marginals(emissions, mask).cpu(), strict=True):
                post.answers = [
                    {"entity": names[tag], "score": float(row[tag]), "words": (word, word + 1), "index": word}
                    | ({"scores": {names[i]: float(p) for i, p in enumerate(row)}} if return_all_scores else {})
                    for word, (tag, row) in enumerate(zip(ids, marginals, strict=False))
                ]
            return
        types = entity_types(list(names.values()))
        spans = [find_entities([names[tag] for tag in ids]) for ids in tags]
        wanted = [
            [
                (start, ids[start:end] if kind == tagged else tags_of(kind, end - start, names))
                for start, end, tagged in entities
                for kind in (types if return_all_scores else [tagged])
            ]
            for ids, entities in zip(tags, spans, strict=True)
        ]
        all_scores = self.model.span_scores(emissions, mask, wanted)
        for post, entities, scores in zip(posts, spans, map(iter, all_scores), strict=True):
            post.answers = []
            for start, end, tagged in entities:
                of_types = {kind: next(scores) for kind in (types if return_all_scores else [tagged])}
                post.answers.append({"entity_group": tagged, "score": of_types[tagged], "words": (start, end)})
                if return_all_scores:
                    post.answers[-1]["scores"] = of_types

    def postprocess(  # type: ignore[override]  # fewer and named, as Pipeline allows
        self, model_outputs, aggregation_strategy="simple", threshold=0.0, ignore_labels=("O",)
    ):
        post = model_outputs["post"]
        answers = []
        kind = "entity" if aggregation_strategy == "none" else "entity_group"
        for entity in post.answers:
            if entity["score"] < threshold or entity[kind] in ignore_labels:
                continue
            first, last = entity.pop("words")
            start, end = post.words[first].start, post.words[last - 1].end
            entity |= {"word": post.text[start:end], "start": start, "end": end}
            answers.append(self.note_pictures(entity, post))
        return answers


class MultimodalRelationClassificationPipeline(PostPipeline):
    """Tell the relation of two entities: `pipeline("multimodal-relation-classification", ..., trust_remote_code=True)`.

    A post is a dict of text or tokens, head and tail (each (start, end) or {"start": ..., "end": ...} with the end
    exclusive: characters of a text, or words of tokens), image and objects; or, instead of head and tail, with "pairs",
    a list of (head, tail). Of a text that is longer than the encoder's limit a window with both entities is read.

    Args:
        top_k: how many relations, the best first; `None` or `-1` all of them; 0, the default, the best one, in no list.
        skip_long_pairs: answer `None` for a pair that does not fit into `max_length`, instead of an error.
        max_length: sub-tokens; default the processor's.
        on_image_error, allow_private_addresses, cropper, batch_size: as for `MultimodalTokenClassificationPipeline`.

    Returns:
        {"label": relation, "score": softmax probability} of the pair, or with `top_k` a list of them; with "pairs" a
        list of that. "words_left_out" says how many words of a long post are outside of the window; "objects" as of
        entities.

    Raises:
        ValueError: as above; a span that is not in the post; `EntityPairError` (a `ValueError`) for a pair that does
            not fit.

    Example:

    >>> from transformers import pipeline
    >>> re = pipeline("multimodal-relation-classification", model="runs/quickstart_mre")  # doctest: +SKIP
    >>> re({"text": "Kobe lands in Paris", "head": (0, 4), "tail": (14, 19), "image": "kobe.jpg"})  # doctest: +SKIP
    {'label': '/per/loc/place_of_residence', 'score': 0.91}
    """

    keys: tuple[str, ...] = ("text", "tokens", "image", "objects", "head", "tail", "pairs")
    example = 'pipe({"text": "Kobe lands in Paris", "head": (0, 4), "tail": (14, 19), "image": "kobe.jpg"})'

    def _sanitize_parameters(  # type: ignore[override]  # fewer and named, as Pipeline allows
        self,
        top_k=...,
        skip_long_pairs=None,
        max_length=None,
        on_image_error=None,
        allow_private_addresses=None,
    ):
        if top_k not in (None, ...) and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < -1):
            raise ValueError(f"top_k={top_k!r} must be a number of relations, or None for all, e.g. top_k=3")
        check_sub_tokens(max_length=max_length)
        check_on_image_error(on_image_error)
        return (
            options(
                skip_long_pairs=skip_long_pairs,
                max_length=max_length,
                on_image_error=on_image_error,
                allow_private_addresses=allow_private_addresses,
            ),
            {},
            {} if top_k is ... else {"top_k": top_k},
        )

    def preprocess(  # type: ignore[override]  # fewer and named, as Pipeline allows
        self, inputs, skip_long_pairs=False, max_length=None, **picture_options
    ):
        post = self.load(inputs, **picture_options)
        rows: list[dict | None] = []
        known, tokens, pieces = None, [], []
        for words, head, tail in find_pairs(post, self.example, self.word_splitting):
            if words is not known:
                known, tokens = words, [word.text for word in words]
                pieces = self.processor.sub_tokens(tokens)
            try:
                rows.append(self.processor.encode_pair(tokens, head, tail, max_length=max_length, pieces=pieces))
            except EntityPairError:
                if not skip_long_pairs:
                    raise
                rows.append(None)
        return self.encode(post, rows)

    def answer(self, posts, together):  # type: ignore[override]  # fewer and named, as Pipeline allows
        for post in posts:
            post.answers = [None] * len(post.rows)
        for rows, logits, _ in self.run_rows(posts, together):
            logits = logits.cpu()
            check_finite(logits, names=lambda rows=rows: [post.text for post, _ in rows])
            for (post, number), scores in zip(rows, logits.softmax(-1), strict=True):
                post.answers[number] = scores

    def postprocess(self, model_outputs, top_k=0):  # type: ignore[override]  # fewer and named, as Pipeline allows
        post, names = model_outputs["post"], label_names(self.model)
        answers: list[dict | list[dict] | None] = []
        for row, scores in zip(post.rows, post.answers, strict=True):
            if scores is None:
                answers.append(None)
                continue
            best = scores.argsort(descending=True, stable=True)[: len(scores) if top_k in (None, -1) else max(top_k, 1)]
            left_out = row["num_truncated_words"]
            notes = {"words_left_out": left_out} if left_out else {}
            ranked = [
                self.note_pictures({"label": names[i], "score": float(scores[i]), **notes}, post) for i in best.tolist()
            ]
            answers.append(ranked[0] if top_k == 0 else ranked)
        return answers if post.pairs is not None else answers[0]


class MultimodalTextClassificationPipeline(MultimodalRelationClassificationPipeline):
    """Give posts per label each: `pipeline("multimodal-text-classification", model=..., trust_remote_code=True)`.

    A post is a text or a dict of text or tokens, image and objects. Of a text that is longer than the encoder's limit
    the beginning is read.

    Args:
        top_k, max_length, on_image_error, allow_private_addresses, cropper, batch_size: as for
            `MultimodalRelationClassificationPipeline`.

    Returns:
        {"label", "score": softmax probability}, or with `top_k` a list of them, the best first. "words_left_out" says
        how many words of a long post were not read.

    Raises:
        ValueError: as for `MultimodalTokenClassificationPipeline`.

    Example:

    >>> from transformers import pipeline
    >>> classify = pipeline("multimodal-text-classification", model="runs/quickstart_topics")  # doctest: +SKIP
    >>> classify({"text": "what a day", "image": "kobe.jpg"})  # doctest: +SKIP
    {'label': 'positive', 'score': 0.93}
    """

    keys = ("text", "tokens", "image", "objects")
    example = 'pipe({"text": "what a day", "image": "kobe.jpg"})'

    def _sanitize_parameters(  # type: ignore[override]  # fewer and named, as Pipeline allows
        self, top_k=..., max_length=None, **picture_options
    ):
        return super()._sanitize_parameters(top_k=top_k, skip_long_pairs=None, max_length=max_length, **picture_options)

    def preprocess(self, inputs, max_length=None, **picture_options):  # type: ignore[override]  # fewer and named, as Pipeline allows
        post = self.load(inputs, **picture_options)
        row = self.processor.encode_tokens([word.text for word in post.words], max_length=max_length)
        return self.encode(post, [row])


def label_names(model: I2SRMPreTrainedModel) -> dict[int, str]:
    """The labels of a model by their ids."""
    return {int(i): name for i, name in (model.config.id2label or {}).items()}


def options(**values: object) -> dict[str, object]:
    """The options that are not `None`."""
    return {name: value for name, value in values.items() if value is not None}


__all__ = [
    "MultimodalRelationClassificationPipeline",
    "MultimodalTextClassificationPipeline",
    "MultimodalTokenClassificationPipeline",
]
