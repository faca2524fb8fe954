"""The answer to a post: entities, their relations and the objects that show them; to plain data and back."""

import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from typing import Any, NamedTuple, TypeVar, cast

from PIL import Image

from ..checks import is_missing
from ..crops import describe_crop
from ..pictures import DEFAULT_LABEL, DEFAULT_SCORE, is_absent, is_box, load_picture, scale_box
from ..posts import COLUMNS, Post
from ..words import Word, join_words

ANSWER_KEYS = ("text", "tokens", "image", "objects")  # of a post beside `COLUMNS`
EXAMPLE_ANSWER = (
    '{"text": "Kobe lands in Paris", "objects": ["crop.jpg"], "entities": [{"start": 0, "end": 4, "label": "PER"}]}'
)


@dataclass(frozen=True)
class Region:
    """The object that shows an entity: its place among the crops of the post, from 0, its box (left, top, right,
    bottom) where a cropper has found it, and its probability."""

    index: int
    box: tuple[int, int, int, int] | None
    score: float


@dataclass(frozen=True)
class Entity:
    """An entity: its type, the probability that exactly these words are one, its text and character offsets.

    `region` is the object that shows it, if a joint model says that one does.
    """

    entity: str
    score: float
    word: str
    start: int
    end: int
    region: Region | None = None


@dataclass(frozen=True)
class Relation:
    """A relation between two entities, given by their positions in `Extraction.entities`."""

    head: int
    tail: int
    label: str
    score: float


class Triple(NamedTuple):
    """A relation with the texts and types of its entities, and its score; the first three are the triple itself."""

    head: str
    relation: str
    tail: str
    head_type: str
    tail_type: str
    score: float


@dataclass(frozen=True)
class FoundObject:
    """A crop that a cropper found, or a box that a post came with, and a model saw: its box (left, top, right, bottom)
    in pixels of the upright picture, the detector's score, and the class or phrase."""

    box: tuple[int, int, int, int]
    score: float
    label: str


@dataclass
class Withheld:
    """Answers of which a model is not sure enough for the coverage that is asked for.

    Relations are withheld with their entities: `head` and `tail` are positions in the entities of the `Extraction`,
    followed by those here.
    """

    entities: list[Entity] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)


@dataclass
class Extraction:
    """The answer to a post: its entities, the relations between them, and its objects.

    Args:
        text: the text that offsets refer to; of a post given as tokens alone, these as `join_words` joins them.
        id: of the post, if it has one.
        image_errors: why pictures could not be read, by "image", "objects[0]" ...; the post was read without them.
        pairs_left_out: pairs of entities too far apart for the relation model's longest input, and those beyond
            `MAX_PAIRS` of a post.
        objects: the crops of the post at their places: a box that a cropper found or the post came with, as the models
            saw it, the path or URL of a crop that was given as one, else `None`. Empty where no crop has box, path or
            URL, and no model has looked for the objects of entities.
        tokens: the words of a post given as tokens.
        image: the picture of the post, where it was given as a path or URL.
        grounded: a model has looked for the object of each entity; no object shows those without a region.
        withheld: the answers that a coverage withholds; `None` where none was asked for.
        picture_match: the probability that the picture is the post's own, where it was asked for (`PictureMatch`).

    Example:

    >>> extraction = Extraction(
    ...     "Kobe lands in Paris",
    ...     [Entity("PER", 0.98, "Kobe", 0, 4), Entity("LOC", 0.97, "Paris", 14, 19)],
    ...     [Relation(0, 1, "visits", 0.8)],
    ... )
    >>> extraction.to_triples()
    [Triple(head='Kobe', relation='visits', tail='Paris', head_type='PER', tail_type='LOC', score=0.8)]
    >>> Extraction.from_dict(extraction.to_dict()) == extraction
    True
    """

    text: str
    entities: list[Entity]
    relations: list[Relation]
    id: str | None = None
    image_errors: dict[str, str] = field(default_factory=dict)
    pairs_left_out: int = 0
    objects: list[FoundObject | str | None] = field(default_factory=list)
    tokens: list[str] | None = field(default=None, compare=False)
    image: str | None = None
    grounded: bool = field(default=False, compare=False)
    withheld: Withheld | None = None
    picture_match: float | None = None

    def to_dict(self) -> dict:
        """As plain dicts and lists, in the exchange format that the data scripts read, too.

        Keys: id, text or tokens, entities (start, end, label, score), relations (head, tail, label, score), image,
        objects, image_errors and pairs_left_out. Offsets are characters of text, or words of tokens. Entities of a
        joint model also have region, the place of an object or -1 for none, and of an object its region_score. With a
        coverage also withheld, the entities and relations of `Withheld`; with a `PictureMatch` also picture_match.
        """
        text, words = (self.text, []) if self.tokens is None else join_words(self.tokens)
        in_words = self.tokens is not None and text == self.text  # not of tokens that came with another text

        def plain(entities: list[Entity]) -> list[dict]:
            spans = [(entity.start, entity.end) for entity in entities]
            return [
                {"start": start, "end": end, "label": entity.entity, "score": entity.score}
                | (region_keys(entity.region) if self.grounded else {})
                for (start, end), entity in zip(
                    offsets_in_words(words, spans) if in_words else spans, entities, strict=True
                )
            ]

        withheld = {}
        if self.withheld is not None:
            unsure = plain(self.withheld.entities), list(map(asdict, self.withheld.relations))
            withheld["withheld"] = dict(zip(("entities", "relations"), unsure, strict=True))
        return {
            "id": self.id,
            **({"tokens": self.tokens} if in_words else {"text": self.text}),
            **({"image": self.image} if self.image is not None else {}),
            "objects": [asdict(one) if isinstance(one, FoundObject) else one for one in self.objects],
            "entities": plain(self.entities),
            "relations": [asdict(relation) for relation in self.relations],
            "image_errors": self.image_errors,
            "pairs_left_out": self.pairs_left_out,
            **withheld,
            **({"picture_match": self.picture_match} if self.picture_match is not None else {}),
        }

    def to_earlier_dict(self) -> dict:
        """As version 0.1 wrote it, for runs that began then: `entity` and `word`, characters of the text."""
        later = ("tokens", "image", "grounded", "withheld", "picture_match")
        found = replace(self, objects=[one for one in self.objects if isinstance(one, FoundObject)])
        values = {name: value for name, value in asdict(found).items() if name not in later}
        for entity in values["entities"]:
            del entity["region"]
        return values

    def to_json(self) -> str:
        """As one line of JSON, in ASCII: a post may hold line separators and halves of characters."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping) -> "Extraction":
        """Read what `to_dict` gave, of earlier versions too, a row of answers.parquet or a post of the exchange format.

        A score that is absent, since a person made the label, is 1; columns of data sets are ignored.

        Raises:
            ValueError: neither text nor tokens, a key that no post has, an answer or object that cannot be read, or a
                span, relation or region that is not in the post.
        """
        given = {name: value for name, value in values.items() if not is_missing(value)}
        if unknown := {name: value for name, value in given.items() if name not in (*ANSWER_KEYS, *COLUMNS)}:
            raise ValueError(f"{unknown!r:.200} are no keys of a post; expected e.g. {EXAMPLE_ANSWER}")
        if not given.keys() & {"text", "tokens"}:
            raise ValueError(f"{dict(values)!r:.200} has neither text nor tokens; expected e.g. {EXAMPLE_ANSWER}")
        words: list[Word] | None = None
        if "tokens" in given:
            given["tokens"] = list(given["tokens"])
        if "text" not in given:
            given["text"], words = join_words(given["tokens"])
        text, objects = given["text"], read_objects(given.pop("objects", []))

        def read_entity(one: Mapping) -> Entity:
            return read_found(one, text, words, objects)

        def read_answers(graph: Mapping, name: str, before: int = 0) -> tuple[list[Entity], list[Relation]]:
            entities = read_each(read_entity, graph.get("entities"), f"{name}entities")
            count = before + len(entities)

            def read_relation(one: Mapping) -> Relation:
                head, tail = (position(one, end, count, "entities") for end in ("head", "tail"))
                return Relation(head, tail, one["label"], score_of(one))

            return entities, read_each(read_relation, graph.get("relations"), f"{name}relations")

        kept, unsure = read_answers(given, ""), given.get("withheld")
        errors, graphs = given.get("image_errors", {}), [given] if unsure is None else [given, unsure]
        entities = [one for graph in graphs if graph.get("entities") is not None for one in graph["entities"]]
        parts = {name: given[name] for name in ("id", "tokens", "pairs_left_out", "picture_match") if name in given}
        return cls(
            text,
            *kept,
            image_errors=errors if isinstance(errors, dict) else {one["picture"]: one["reason"] for one in errors},
            objects=objects,
            image=name_of(given.get("image")),
            grounded=any(not is_missing(one.get("region")) for one in entities),
            withheld=None if unsure is None else Withheld(*read_answers(unsure, "withheld.", len(kept[0]))),
            **parts,
        )

    def to_triples(self) -> list[Triple]:
        """The relations with the texts and types of their entities."""
        triples = []
        for relation in self.relations:
            head, tail = self.entities[relation.head], self.entities[relation.tail]
            triples.append(Triple(head.word, relation.label, tail.word, head.entity, tail.entity, relation.score))
        return triples

    def crops(self, picture: object, **options: object) -> list[Image.Image | None]:
        """The crops of `objects`, cut again from the picture of the post; `None` in the place of one without a box.

        Args:
            picture: what the post has as image.
            options: of `load_picture`.

        Raises:
            PictureError: the picture cannot be read (any more).

        Example:

        >>> extraction = extractor(post)  # doctest: +SKIP
        >>> extraction.crops(post["image"])  # doctest: +SKIP
        """
        boxes = [one.box if isinstance(one, FoundObject) else None for one in self.objects]
        read: Callable[..., Image.Image] = load_picture
        whole = read(picture, **options) if any(boxes) else None
        return [whole.crop(scale_box(box, whole)) if whole is not None and box is not None else None for box in boxes]


Part = TypeVar("Part")


def read_each(read: Callable[[Mapping], Part], values: Iterable | None, name: str) -> list[Part]:
    """Read the parts of a post, of which `name` is the key; `None` are none.

    Raises:
        ValueError: one cannot be read; the message names its place.
    """
    parts = []
    for place, value in enumerate(values if values is not None else ()):
        try:
            parts.append(read(value))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{name}[{place}]={value!r:.200} cannot be read ({reason}); e.g. {EXAMPLE_ANSWER}"
            ) from error
    return parts


def position(one: Mapping, name: str, count: int, what: str) -> int:
    """The place that a part of a post has among so many others, from 0."""
    place = operator.index(one[name])
    if not 0 <= place < count:
        raise ValueError(f"{name}={place} is not the position of one of the {count} {what}")
    return place


def read_found(
    one: Mapping, text: str, words: list[Word] | None, objects: Sequence[FoundObject | str | None]
) -> Entity:
    """An entity from plain data.

    Args:
        text, objects: of the post; without objects a region may have any place.
        words: that the offsets count; `None` where these are characters.

    Raises:
        ValueError: the entity is not in the text, or its region is not one of the objects.
    """
    length, unit = (len(text), "characters") if words is None else (len(words), "words")
    start, end = position(one, "start", length, unit), operator.index(one["end"])
    if not start < end <= length:
        raise ValueError(f"end={end} must be above start={start} and at most {length}, as the text has {length} {unit}")
    if words is not None:
        start, end = words[start].start, words[end - 1].end
    region, label = None, one["entity"] if one.get("label") is None else one["label"]
    place: Any = one.get("region")
    if not is_missing(place) and place != -1:
        place = position(one, "region", len(objects) or max(operator.index(place) + 1, 0), "objects, nor -1 for none")
        found = objects[place] if objects else None
        box = found.box if isinstance(found, FoundObject) else None
        region = Region(place, box, score_of(one, "region_score"))
    return Entity(label, score_of(one), text[start:end], start, end, region)


def score_of(one: Mapping, name: str = "score") -> float:
    """The score of an answer or a box, 1 where it is absent."""
    score = one.get(name)
    if not (is_missing(score) or isinstance(score, Real)):
        raise ValueError(f"{name}={score!r} is not a number")
    return DEFAULT_SCORE if is_missing(score) else float(cast(float, score))


def read_objects(objects: Iterable) -> list[FoundObject | str | None]:
    """The objects of a post at their places: as boxes, or paths and URLs; `None` for what is not such a one.

    Raises:
        ValueError: something is neither a box nor a picture.
    """

    def read(one: object) -> FoundObject | str | None:
        if is_box(one):
            box = cast(Mapping, one)
            label = DEFAULT_LABEL if box.get("label") is None else box["label"]
            left, top, right, bottom = (round(float(side)) for side in box["box"])
            return FoundObject((left, top, right, bottom), score_of(box), label)
        if isinstance(one, Mapping) and not (is_absent(one) or one.keys() & {"bytes", "path"}):
            raise ValueError("it has no box, bytes or path")
        return name_of(one)

    if isinstance(objects, (str, bytes, Mapping)):
        raise ValueError(f"objects={objects!r:.200} is not a list; e.g. {EXAMPLE_ANSWER}")
    return read_each(cast(Any, read), objects, "objects")


def name_of(picture: object) -> str | None:
    """The path or URL that a picture is given as; `None` if it is given as something else."""
    name = picture
    if isinstance(picture, Mapping):
        name = picture.get("path") if is_absent(picture.get("bytes")) else None
    return str(name) if isinstance(name, str) and name else None


def region_keys(region: Region | None) -> dict:
    """A region in the exchange format: its place, -1 for none, and its score."""
    return {"region": -1} if region is None else {"region": region.index, "region_score": region.score}


def offsets_in_words(words: list[Word], spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """First word and last word + 1 of spans of characters that begin and end at words."""
    starts = {word.start: n for n, word in enumerate(words)}
    ends = {word.end: n for n, word in enumerate(words, start=1)}
    return [(starts[start], ends[end]) for start, end in spans]


def picture_names(post: Mapping) -> tuple[str | None, list[str | None]]:
    """The paths and URLs of the picture and the crops of a post, to be written with its answer; no data: addresses.

    Crops keep their places, with `None` for one that is absent or has no name.
    """
    image, crops = post.get("image"), post.get("objects")
    names = [name_of(crop) for crop in (image, *(crops if isinstance(crops, (list, tuple)) else ()))]
    image, *crops = [None if name is not None and name.startswith("data:") else name for name in names]
    return image, crops


def objects_of(post: Post, most: int, grounded: bool) -> list[FoundObject | str | None]:
    """The `Extraction.objects` of a post whose pictures are read.

    Args:
        most: how many crops the models see; boxes beyond are left out.
        grounded: entities may point to a crop without box and name, which then has its place, too.
    """
    objects: list[FoundObject | str | None] = [*(post.crop_names or [None] * len(post.objects or []))]
    if post.crops is not None:
        pairs = zip(post.crops[:most], objects, strict=False)
        objects = [name if crop is None else FoundObject(**describe_crop(crop)) for crop, name in pairs]
    return objects if grounded or any(objects) else []


__all__ = [
    "Entity",
    "Extraction",
    "FoundObject",
    "Region",
    "Relation",
    "Triple",
    "Withheld",
    "objects_of",
    "picture_names",
]
