"""Whole posts: the entities of a post and the relations between them, from one model or from one of each kind."""

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from transformers import pipeline

from ..batching import read_windows
from ..checks import check_on_image_error, check_threshold, no_relation_labels
from ..crops import add_crops, check_cropper
from ..joint_pipeline import MultimodalJointExtractionPipeline
from ..pipeline_i2srm import (
    MultimodalRelationClassificationPipeline,
    MultimodalTokenClassificationPipeline,
    label_names,
)
from ..posts import Post
from ..processing_i2srm import I2SRMProcessor
from ..support.batch_norm import fold_batch_norm
from ..tables import read_rows
from .answers import Entity, Extraction, Region, Relation, Withheld, objects_of, offsets_in_words, picture_names
from .models import HEADS, JOINT, is_joint, load_head
from .picture_match import PictureMatch, check_reads_pictures

DECIMALS = 4  # of scores that are written, and of score limits; other threads or batch mates change later ones
MAX_PAIRS = 10_000  # of a post that the relation model is asked of: 100 entities; without a bound 1,000 take a million
TYPED_LABEL = re.compile(r"/(\w+)/(\w+)/.+")  # MNRE's labels name the types of head and tail


class Extractor:
    """Extract entities and their relations from posts.

    A joint model finds both in one pass, and the object that shows each entity. Of two models, that of the relations is
    asked of every ordered pair of entities whose types the relation labels allow: `/per/org/member_of` of a PER and an
    ORG. Labels of another form are asked of every pair. The best label of a pair is taken, with its softmax
    probability; a pair whose best label is None (or no_relation, NA ..., `checks.no_relation_labels`), or one that its
    types do not allow, has no relation.

    Args:
        ner: pipeline of a joint model, or of the entities.
        re: pipeline of the relations; without one only a joint model looks for relations.
        threshold: leave out entities with a lower score, and their relations.
        relation_threshold: leave out relations with a lower score.
        coverage: withhold the answers of which the models are not sure, and keep this share of the right ones, e.g.
            0.9: each right entity, and each right relation between entities that are kept, is kept with at least this
            probability, if the posts are like those that training held out. The score limits are in the checkpoints
            (`I2SRMConfig.score_limit`); `Extraction.withheld` lists the others.
        on_image_error, allow_private_addresses: as for the pipelines; default what the first one was made with.
        cropper: finds the objects of posts that have a picture and no objects, once per post, for both models; default
            that of a pipeline that was made with one, `False` for none. The pictures of a batch go to it together.
        picture_match: tells how probable it is that the picture of a post is its own; the backbone then reads each
            picture twice.

    Example:

    >>> extractor = Extractor.from_pretrained("runs/quickstart")  # doctest: +SKIP
    >>> [triple[:3] for triple in extractor("Kobe lands in Paris").to_triples()]  # doctest: +SKIP
    [('Kobe', '/per/loc/place_of_residence', 'Paris')]
    >>> extractor = Extractor.from_pretrained("runs/quickstart_mner", "runs/quickstart_mre")  # doctest: +SKIP
    """

    def __init__(
        self,
        ner: MultimodalTokenClassificationPipeline,
        re: MultimodalRelationClassificationPipeline | None = None,
        threshold: float = 0.0,
        relation_threshold: float = 0.0,
        on_image_error: str | None = None,
        allow_private_addresses: bool | None = None,
        cropper: Callable | bool | None = None,
        coverage: float | None = None,
        picture_match: PictureMatch | None = None,
    ):
        check_threshold("threshold", threshold)
        check_threshold("relation_threshold", relation_threshold)
        check_on_image_error(on_image_error)
        check_cropper(cropper)
        if isinstance(ner, MultimodalJointExtractionPipeline) and re is not None:
            raise ValueError(
                "the first pipeline finds relations, too: leave out the second one, Extractor(joint), or give "
                'Extractor(pipeline("multimodal-token-classification", ...), re)'
            )
        if picture_match is not None:
            check_reads_pictures(ner)
        self.ner, self.re = ner, re
        reading = ner._preprocess_params
        self.on_image_error = reading.get("on_image_error") if on_image_error is None else on_image_error
        croppers = [pipe.cropper for pipe in (ner, re) if pipe is not None] if cropper is None else [cropper]
        self.cropper = next(filter(callable, croppers), None)
        private = reading.get("allow_private_addresses") if allow_private_addresses is None else allow_private_addresses
        self.allow_private_addresses = private
        self.threshold, self.relation_threshold = threshold, relation_threshold
        self.picture_match = picture_match
        self.coverage, self.limits = coverage, {}
        if coverage is not None:
            related = ner if isinstance(ner, MultimodalJointExtractionPipeline) else re
            for kind, pipe in (("entities", ner), ("relations", related)):
                if pipe is not None:
                    self.limits[kind] = pipe.model.config.score_limit(kind, coverage)
        self.labels: dict[str, tuple[str, str] | None] = {}
        if re is not None:
            names = set(label_names(re.model).values())
            for label in names - no_relation_labels(names):
                types = TYPED_LABEL.fullmatch(label)
                self.labels[label] = (types[1].upper(), types[2].upper()) if types else None

    @classmethod
    def from_pretrained(
        cls,
        ner: str,
        re: str | None = None,
        device: int | str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        picture_match: bool = False,
        **options: object,
    ) -> "Extractor":
        """Load one or two models from folders or Hub ids, for inference: batch-norm is folded into the convolutions.

        Args:
            ner: a joint model, or one of entities.
            re: a model of relations, beside one of entities.
            device, dtype: as for `transformers.pipeline`; dtype="bfloat16" is the fastest where the device has it.
            picture_match: read the `PictureMatch` of the first model from its folder.
            options: of `Extractor`.

        Raises:
            ValueError: a checkpoint of another kind, whose head would be random, a second model beside a joint one, no
                `PictureMatch` in the folder, or one that is asked of a model that was trained without pictures;
                `CheckpointError` (a `ValueError`) for one that is cut, broken, incomplete or not there.
        """
        arguments: dict[str, Any] = options
        make_pipeline: Callable = pipeline  # its types name the tasks of transformers alone
        paths = {"ner": ner} if re is None else {"ner": ner, "re": re}
        for name, path in paths.items():
            joint = is_joint(name, path)
            if joint and re is not None:
                raise ValueError(
                    f"{name}={str(path)!r} is a checkpoint of {JOINT}, which finds entities and relations: give no "
                    f'other beside it, Extractor.from_pretrained("{path}")'
                )
            task, model_class = HEADS["joint" if joint else name]
            model = load_head(name, path, model_class, dtype)
            processor = I2SRMProcessor.from_pretrained(path)
            arguments[name] = make_pipeline(task, model=model, processor=processor, device=device)
            fold_batch_norm(model)
        if picture_match:
            check_reads_pictures(arguments["ner"])  # before it asks for a map that cannot be fitted
            arguments["picture_match"] = PictureMatch.from_pretrained(ner)
        return cls(**arguments)

    def __call__(self, posts: object, batch_size: int = 8) -> "Extraction | list[Extraction] | Iterator[Extraction]":
        """Extract from one post, a list or table of posts, or any other iterable of posts (then as an iterator).

        Args:
            posts: a text, or a dict of text or tokens, image, objects and id.
            batch_size: posts that go through the models together, as of the pipelines.

        Raises:
            ValueError: as the pipelines.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r} must be 1 or more, e.g. batch_size=8")
        posts = read_rows(posts)
        if isinstance(posts, (str, Mapping)):
            return self.extract([self.load(posts)])[0]
        if isinstance(posts, bytes) or not isinstance(posts, Iterable):
            raise ValueError(f'{posts!r:.200} is not a post; e.g. extractor({{"text": "Kobe lands in Paris"}})')
        if isinstance(posts, (list, tuple)):  # all are checked before the first is read
            return list(self._stream(list(self.ner.numbered(posts)), batch_size))
        return self._stream(self.ner.numbered(posts), batch_size)

    def _stream(self, posts: Iterable, batch_size: int) -> Iterator[Extraction]:
        ahead = isinstance(posts, list) and self.cropper is None  # which gets pictures at full size
        for window in read_windows(posts, self.load, batch_size, ahead):
            yield from self.extract(window, batch_size)

    @property
    def num_objects(self) -> int:
        """Most crops of a post that a model sees."""
        return max(pipe.processor.num_objects for pipe in (self.ner, self.re) if pipe is not None)

    def load(self, post: Post | str | Mapping) -> Post:
        """A post with its pictures read."""
        loaded = self.ner.load(post, self.on_image_error, self.allow_private_addresses, self.cropper is not None)
        if isinstance(post, Mapping):
            loaded.image_name, loaded.crop_names = picture_names(post)
        return loaded

    def start(self, posts: list[Post]) -> list[Extraction]:
        """Let the cropper find the objects of loaded posts; return extractions without entities and relations."""
        if self.cropper is not None:
            add_crops(posts, self.cropper)
        extractions = []
        for post in posts:
            objects = objects_of(post, self.num_objects, isinstance(self.ner, MultimodalJointExtractionPipeline))
            answer = Extraction(post.text, [], [], post.id, dict(post.image_errors), objects=objects)
            answer.tokens, answer.image = post.tokens, post.image_name
            extractions.append(answer)
        return extractions

    def extract(self, posts: list[Post], batch_size: int | None = None) -> list[Extraction]:
        """Extract from posts that are loaded.

        Args:
            batch_size: posts that go through the models together; default all. The cropper gets all pictures together.
        """
        batch_size = batch_size or len(posts)
        extractions = self.start(posts)
        if self.picture_match is not None:
            for answer, probability in zip(extractions, self.picture_match(self.ner, posts), strict=True):
                answer.picture_match = probability
        # Whatever the pipelines were made with, these options are needed here.
        if isinstance(self.ner, MultimodalJointExtractionPipeline):
            thresholds = {"threshold": self.threshold, "relation_threshold": self.relation_threshold}
            for answer, graph in zip(
                extractions, self.ner(posts, batch_size=batch_size, cropper=False, **thresholds), strict=True
            ):
                read_graph(answer, graph)
                self.withhold(answer)
            return extractions
        needed = {"aggregation_strategy": "simple", "return_all_scores": False, "threshold": self.threshold}
        answers = self.ner(posts, batch_size=batch_size, cropper=False, **needed)
        for extraction, entities in zip(extractions, answers, strict=True):
            extraction.entities = read_entities(entities)
            self.withhold(extraction)
        if self.re is not None:
            questions = []
            for post, extraction in zip(posts, extractions, strict=True):
                pairs = self.candidates(extraction.entities)
                extraction.pairs_left_out = self.count_pairs(extraction.entities) - len(pairs)
                if pairs:
                    questions.append((extraction, pairs, self.with_pairs(post, extraction.entities, pairs)))
            rows = [post for _, _, post in questions]
            answers = self.re(rows, batch_size=batch_size, skip_long_pairs=True, top_k=0, cropper=False)
            for (extraction, pairs, _), scores in zip(questions, answers, strict=True):
                self.add_relations(extraction, pairs, scores)
                self.withhold(extraction)
        return extractions

    def withhold(self, extraction: Extraction) -> None:
        """Move the answers that score below the limits of the coverage to `withheld`, relations with their entities.

        Scores count with the decimals with which the limits are found.
        """
        if self.coverage is None:
            return

        def sure(answer: Entity | Relation) -> bool:
            kind = "entities" if isinstance(answer, Entity) else "relations"
            return round(answer.score, DECIMALS) >= self.limits[kind]

        order = sorted(range(len(extraction.entities)), key=lambda place: not sure(extraction.entities[place]))
        places = {old: new for new, old in enumerate(order)}
        entities = [extraction.entities[place] for place in order]
        count = sum(map(sure, entities))
        withheld = extraction.withheld or Withheld()
        extraction.entities, extraction.withheld = entities[:count], withheld
        withheld.entities += entities[count:]
        relations, extraction.relations = extraction.relations, []
        for one in relations:
            moved = replace(one, head=places[one.head], tail=places[one.tail])
            kept = sure(one) and max(moved.head, moved.tail) < count
            (extraction if kept else withheld).relations.append(moved)

    def candidates(self, entities: list[Entity]) -> list[tuple[int, int]]:
        """The ordered pairs of entities, by position, whose types some relation allows.

        Of a post with more than `MAX_PAIRS` as many for each head as there is room for, those with the nearest tails.
        """
        of_type, pairs = defaultdict(list), []
        for place, entity in enumerate(entities):
            of_type[entity.entity.upper()].append(place)
        tails = {
            head: sorted(chain(*(places for tail, places in of_type.items() if self._allows(head, tail))))
            for head in of_type
        }
        heads = [place for place, entity in enumerate(entities) if tails[entity.entity.upper()]]
        crowded = self.count_pairs(entities) > MAX_PAIRS
        room = max(MAX_PAIRS // len(heads), 1) if crowded else len(entities)
        for head in heads[:MAX_PAIRS]:
            possible = tails[entities[head].entity.upper()]
            middle = bisect_left(possible, head)
            near = [tail for tail in possible[max(middle - room, 0) : middle + room + 1] if tail != head]
            pairs += sorted((head, tail) for tail in sorted(near, key=lambda tail: abs(tail - head))[:room])
        return pairs

    def count_pairs(self, entities: list[Entity]) -> int:
        """How many ordered pairs of entities some relation allows."""
        types = Counter(entity.entity.upper() for entity in entities)
        allowed = ((head, tail) for head in types for tail in types if self._allows(head, tail))
        return sum(types[head] * (types[tail] - (head == tail)) for head, tail in allowed)

    def _allows(self, head: str, tail: str) -> bool:
        return any(types is None or types == (head, tail) for types in self.labels.values())

    def _allowed(self, entities: list[Entity], head: int, tail: int) -> list[str]:
        pair = entities[head].entity.upper(), entities[tail].entity.upper()
        return [label for label, types in self.labels.items() if types is None or types == pair]

    @staticmethod
    def with_pairs(post: Post, entities: list[Entity], pairs: list[tuple[int, int]]) -> Post:
        """A copy of a post with the pairs as spans: characters of a text, words of tokens."""
        spans = [(entity.start, entity.end) for entity in entities]
        if post.tokens is not None:
            spans = spans_in_words(post, entities)
        return replace(post, pairs=[(spans[head], spans[tail]) for head, tail in pairs])

    def add_relations(self, extraction: Extraction, pairs: list[tuple[int, int]], answers: list) -> None:
        """Take the relations that the answers to pairs hold."""
        for (head, tail), best in zip(pairs, answers, strict=True):
            if best is None:
                extraction.pairs_left_out += 1
                continue
            label, score = best["label"], best["score"]
            if label in self._allowed(extraction.entities, head, tail) and score >= self.relation_threshold:
                extraction.relations.append(Relation(head, tail, label, score))


def read_entities(answers: list[dict]) -> list[Entity]:
    """The entities of a post from the answers of a pipeline, which may also say what its pictures were.

    The code that an older checkpoint carries says `entity` for `entity_group`.
    """
    return [
        Entity(
            answer["entity_group"] if "entity_group" in answer else answer["entity"],
            **{name: answer[name] for name in ("score", "word", "start", "end")},
            region=None if answer.get("region") is None else Region(**answer["region"]),
        )
        for answer in answers
    ]


def read_graph(extraction: Extraction, answer: dict) -> None:
    """Fill in what the pipeline of a joint model has found in a post."""
    extraction.entities = read_entities(answer["entities"])
    extraction.relations = [Relation(**relation) for relation in answer["relations"]]
    extraction.pairs_left_out, extraction.grounded = answer.get("pairs_left_out", 0), True


def spans_in_words(post: Post, entities: list[Entity]) -> list[tuple[int, int]]:
    """First word and last word + 1 of each entity."""
    return offsets_in_words(post.words, [(entity.start, entity.end) for entity in entities])


__all__ = ["Extractor"]
