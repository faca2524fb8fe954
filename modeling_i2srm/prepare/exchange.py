"""The exchange format: a post with entities and relations as offsets, to words with tags or pairs, and back.

    {"id": "7", "text": "Kobe lands in Paris", "image": "pictures/7.jpg",
     "entities": [{"start": 0, "end": 4, "label": "PER"}, {"start": 14, "end": 19, "label": "LOC"}],
     "relations": [{"head": 0, "tail": 1, "label": "visits"}]}

`start` and `end` (exclusive) are characters of `text`; in a post with `tokens` instead of `text` they are words. `head`
and `tail` are positions in `entities`. An entity may have a `score`, and a `region`: the position of its picture in
`objects`, -1 if no object shows it; without the key this is not known.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..words import Word, split_text

Row = dict[str, object]
EXAMPLE = '{"text": "Kobe lands in Paris", "entities": [{"start": 0, "end": 4, "label": "PER"}]}'
LABELS = ("label", "entity", "entity_group", "type")  # the last three: of earlier answers, and of transformers
NO_REGION = -1
OUTSIDE = (-1, -1)

TRIMMED = "entities with white space at their edges, trimmed"
TRIMMED_PAIR = "pairs whose head or tail has white space at its edges, trimmed"
CUT = "entities that begin or end inside a word, which is cut there"
CUT_PAIR = "pairs whose head or tail begins or ends inside a word, which is cut there"
NO_PAIR = "posts with fewer than two entities, which have no pair, left out"
NOT_ANNOTATED = "posts whose relations are null, not annotated, which have no pair, left out"
UTF16 = "entities with offsets in UTF-16 units, converted"
REPEATED = "entities that repeat, left out"
SHORTER = "entities that overlap a longer one, left out"
RENAMED = "entities whose label holds white space, now _"
SECOND = "relations of a pair that has another one already, left out"
ORPHANS = "relations of entities that are left out"
BOXES = "objects that are boxes, not pictures, not read (crop_objects.py makes crops)"


class Entity(NamedTuple):
    """An entity of a post: its words, the end exclusive, its type, and the position of its object.

    The position is -1 if no object shows the entity, and `None` if this is not known.
    """

    start: int
    end: int
    label: str
    region: int | None = None


@dataclass
class LabelledPost:
    """The words of a post, its entities in the order of the words, and relations (head, tail, label) between them."""

    tokens: list[str]
    entities: list[Entity]
    relations: list[tuple[int, int, str]] = field(default_factory=list)

    def tags(self) -> list[str]:
        """The BIO tag of each word."""
        tags = ["O"] * len(self.tokens)
        for entity in self.entities:
            tags[entity.start] = f"B-{entity.label}"
            tags[entity.start + 1 : entity.end] = [f"I-{entity.label}"] * (entity.end - entity.start - 1)
        return tags

    def to_tag_row(self) -> Row:
        """The columns of a row of the joint task; relations and regions are there if the post has any."""
        row: Row = {"tokens": self.tokens, "ner_tags": self.tags()}
        if self.relations:
            row["relations"] = [{"head": head, "tail": tail, "label": label} for head, tail, label in self.relations]
        if any(entity.region is not None for entity in self.entities):
            row["regions"] = [entity.region for entity in self.entities]
        return row

    def to_pair_rows(self, no_relation: str) -> Iterator[tuple[str, Row]]:
        """A name and the columns of a row for each ordered pair of entities; those without a relation have none."""
        labels = {(head, tail): label for head, tail, label in self.relations}
        spans = [{"start": entity.start, "end": entity.end} for entity in self.entities]
        for head, first in enumerate(spans):
            for tail, second in enumerate(spans):
                if head != tail:
                    relation = labels.get((head, tail), no_relation)
                    row: Row = {"tokens": self.tokens, "head": first, "tail": second, "relation": relation}
                    yield f"{head}-{tail}", row


def read_labels(row: Row, counts: Counter[str], overlaps: str = "refuse") -> LabelledPost:
    """Read the words, entities and relations of a post in the exchange format.

    Args:
        row: the post; `entity`, `entity_group` or `type` do for `label`. An entity that has a `text` or
            `word` has to be that text.
        counts: what is converted or left out is added to it.
        overlaps: "refuse", or "longest" to keep the longest of entities that overlap.

    Raises:
        ValueError: names the entity or relation that is wrong.
    """
    text, tokens = row.get("text"), row.get("tokens")
    if bool(text) == bool(tokens):
        both = "both text and tokens" if text else "neither text nor tokens"
        raise ValueError(f"{both}: offsets are characters of text or words of tokens, give one of them; e.g. {EXAMPLE}")
    if tokens and not (isinstance(tokens, list) and all(isinstance(word, str) and word for word in tokens)):
        raise ValueError(f"tokens must be a list of words, got {tokens!a:.80}")
    if text and not isinstance(text, str):
        raise ValueError(f"text must be a text, got {text!a:.80}")
    post = (
        text if isinstance(text, str) and text else [str(word) for word in tokens] if isinstance(tokens, list) else []
    )
    values = items(row, "entities")
    spans: list[Entity | None] = [read_entity(value, n, post, counts) for n, value in enumerate(values)]
    places = leave_out_overlaps(spans, post, counts, overlaps)  # of each entity among those that are kept
    kept = sorted({span for span in spans if span is not None})
    words = kept
    if isinstance(post, str):
        post, words = place_in_words(post, kept, counts)
    return LabelledPost(post, words, list(read_relations(items(row, "relations"), places, len(values), counts)))


def items(row: Row, name: str) -> list[Row]:
    """The list of dicts that a column of a row is; empty where it is absent."""
    values = row.get(name)
    if isinstance(values, str) and values[:1] == "[":  # a cell of a CSV file
        values = json.loads(values)
    if values in (None, ""):
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"{name} must be a list of objects, got {values!a:.80}; e.g. {EXAMPLE}")
    return values


def read_entity(value: Row, number: int, post: str | list[str], counts: Counter[str]) -> Entity:
    """Check an entity; its offsets are those of the post, white space at the edges of a text is left out."""
    label = next((value[name] for name in LABELS if value.get(name) is not None), None)
    where = f"entity {number} ({label!a:.40})"
    if value.get("entity") == label and str(label).startswith(("B-", "I-")):
        raise ValueError(f"{where}: a tag of a word, not an entity; give whole entities, or ner_tags")
    if not isinstance(label, str) or not label.strip() or not label.isprintable():
        raise ValueError(f"{where}: label must be a printable text; e.g. {EXAMPLE}")
    name = "_".join(label.split())
    counts[RENAMED] += name != label
    start, end = value.get("start"), value.get("end")
    unit = "characters of the text" if isinstance(post, str) else "words"
    if type(start) is not int or type(end) is not int:
        raise ValueError(f"{where}: start={start!a:.40}, end={end!a:.40} must be whole numbers; e.g. {EXAMPLE}")
    if start == end:
        raise ValueError(f"{where}: start={start}, end={end} is empty; the end is exclusive, e.g. {EXAMPLE}")
    if isinstance(post, str):
        quote = next((value[name] for name in ("text", "word") if isinstance(value.get(name), str)), None)
        start, end = find_units(post, start, end, str(quote) if quote is not None else None, where, counts)
    if not 0 <= start < end <= len(post):
        raise ValueError(f"{where}: {start} to {end} is not within the {len(post)} {unit}")
    if isinstance(post, str):
        if not post[start:end].strip():
            raise ValueError(f"{where}: {start} to {end} holds white space alone")
        inner = trim(post, start, end)
        counts[TRIMMED] += inner != (start, end)
        start, end = inner
    region = value.get("region")
    if region is not None and (type(region) is not int or region < NO_REGION):
        raise ValueError(f"{where}: region={region!a:.40} must be the position of an object, or -1 for none")
    return Entity(start, end, name, region)


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at its edges."""
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())


def find_units(
    text: str, start: int, end: int, quote: str | None, where: str, counts: Counter[str], utf16: bool = False
) -> tuple[int, int]:
    """The offsets in characters; programs in JavaScript count UTF-16 units, of which an emoji has two.

    Args:
        quote: the text that is there as the tool says it; without it the offsets are UTF-16 units only with `utf16`.
        utf16: where both fit the quote, the offsets are UTF-16 units.

    Raises:
        ValueError: the quote is not at these offsets.
    """
    answers = [(start, end)]
    if not text.isascii() and any(character > "\uffff" for character in text):
        answers.insert(0 if utf16 else 1, from_utf16(text, start, end))
    if quote is None:
        answer = answers[0]
        if answer == OUTSIDE:
            raise ValueError(f"{where}: {start} to {end}, in UTF-16 units, is outside of the text or cuts a character")
    else:
        matches = [(s, e) for s, e in answers if 0 <= s < e and same_text(text[s:e], quote)]
        if not matches:
            raise ValueError(f"{where}: at {start} to {end} is {text[max(start, 0) : end]!a:.40}, not {quote!a:.40}")
        answer = matches[0]
    counts[UTF16] += answer != (start, end)
    return answer


def from_utf16(text: str, start: int, end: int) -> tuple[int, int]:
    """Offsets in UTF-16 units as offsets in characters; `OUTSIDE` if they cut a character or are not in it."""
    units, places = 0, {}
    for place, character in enumerate(text):
        places[units] = place
        units += 2 if character > "\uffff" else 1
    places[units] = len(text)
    return (places[start], places[end]) if start in places and end in places else OUTSIDE


def same_text(text: str, quote: str) -> bool:
    """Whether two texts differ in white space and case at most; Label Studio quotes line feeds as \\n."""
    short, other = ("".join(one.split()).casefold() for one in (text, quote.replace("\\n", " ")))
    return short == other or text == quote


def leave_out_overlaps(
    spans: list[Entity | None], post: str | list[str], counts: Counter[str], overlaps: str
) -> list[int | None]:
    """Replace entities that are left out by `None`; return the position of each among the kept ones, in order."""
    kept: list[Entity] = []
    by_length = sorted((span for span in spans if span is not None), key=lambda span: (span.start - span.end, span))
    for span in by_length:
        rival = next((other for other in kept if span.start < other.end and other.start < span.end), None)
        if rival is None:
            kept.append(span)
        elif span[:3] != rival[:3] and overlaps == "refuse":
            pair = " and ".join(quote_span(post, one) for one in sorted((span, rival)))
            raise ValueError(
                f"entities overlap: {pair}; a word has one tag: correct them, or give --overlaps longest to keep the "
                "longer one"
            )
    kept.sort()
    places: list[int | None] = []
    for n, one in enumerate(spans):
        same = next((i for i, other in enumerate(kept) if one is not None and one[:3] == other[:3]), None)
        counts[SHORTER] += same is None
        counts[REPEATED] += same in places and same is not None
        places.append(same)
        spans[n] = None if same is None else kept[same]
    return places


def quote_span(post: str | list[str], span: Entity) -> str:
    words = post[span.start : span.end]
    return f"{span.label} {words if isinstance(words, str) else ' '.join(words)!a:.40} ({span.start} to {span.end})"


def split_at(text: str, spans: Iterable[tuple[int, int]]) -> list[Word]:
    """Split a text into words, also at the beginning and the end of each span of characters.

    >>> [word.text for word in split_at("in #Paris!", [(4, 9)])]
    ['in', '#', 'Paris', '!']
    """
    cuts = sorted({0, len(text), *(place for span in spans for place in span)})
    return [
        Word(word, start + offset, end + offset)
        for offset, stop in zip(cuts, cuts[1:], strict=False)
        for word, start, end in split_text(text[offset:stop])
    ]


def place_in_words(text: str, spans: list[Entity], counts: Counter[str]) -> tuple[list[str], list[Entity]]:
    """The words of a text, and its entities (in characters, in order) in words."""
    whole = split_text(text)
    starts, ends = {word.start for word in whole}, {word.end for word in whole}
    words = split_at(text, [(span.start, span.end) for span in spans])
    places, entities = {word.start: n for n, word in enumerate(words)}, []
    last = {word.end: n for n, word in enumerate(words, start=1)}
    for span in spans:
        if span.start not in places or span.end not in last:
            raise ValueError(f"entity {span.label!a:.40}: {text[span.start : span.end]!a:.40} is not a word")
        counts[CUT] += span.start not in starts or span.end not in ends
        entities.append(span._replace(start=places[span.start], end=last[span.end]))
    return [word.text for word in words], entities


def read_relations(
    values: list[Row], places: list[int | None], entities: int, counts: Counter[str]
) -> Iterator[tuple[int, int, str]]:
    """Yield the relations (head, tail, label), head and tail as positions among the kept entities."""
    labels: dict[tuple[int, int], str] = {}
    for number, value in enumerate(values):
        label = next((value[name] for name in ("label", "relation", "type") if value.get(name) is not None), None)
        where = f"relation {number} ({label!a:.40})"
        if not isinstance(label, str) or not label.isprintable():
            raise ValueError(f"{where}: label must be a printable text")
        head, tail = (read_end(value.get(name), name, where, entities) for name in ("head", "tail"))
        first, second = places[head], places[tail]
        if first is None or second is None:
            counts[ORPHANS] += 1
        elif first == second:
            raise ValueError(f"{where}: head and tail are the same entity, {head}")
        elif (first, second) in labels:
            counts[SECOND] += 1
        else:
            labels[first, second] = label
            yield first, second, label


def read_end(value: object, name: str, where: str, entities: int) -> int:
    if type(value) is not int or not 0 <= value < entities:
        raise ValueError(f"{where}: {name}={value!a:.40} must be the position of one of the {entities} entities")
    return value


def to_exchange_row(post: LabelledPost, others: Row) -> Row:
    """A labelled post in the exchange format, with words, and the other keys that it has."""
    row: Row = {**others, "tokens": post.tokens}
    row["entities"] = [
        {"start": one.start, "end": one.end, "label": one.label}
        | ({} if one.region is None else {"region": one.region})
        for one in post.entities
    ]
    row["relations"] = [{"head": head, "tail": tail, "label": label} for head, tail, label in post.relations]
    return row


__all__ = ["Entity", "LabelledPost", "read_labels", "split_at", "to_exchange_row"]
