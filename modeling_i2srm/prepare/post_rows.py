"""Turns one row of a user's posts into rows of a data set, and checks them: words, labels, picture and crops."""

import json
from collections import Counter
from typing import TypeGuard

from ..checks import NO_RELATION
from ..words import DEFAULT_SPLITTING, Word, split_pair, split_text
from .annotation_tools import to_exchange
from .builder import is_text
from .exchange import BOXES, CUT_PAIR, NO_PAIR, NOT_ANNOTATED, TRIMMED_PAIR, Row, read_labels, trim
from .exchange import EXAMPLE as EXCHANGE

COLUMNS = ("id", "text", "tokens", "ner_tags", "entities", "relations", "head", "tail", "relation", "image", "objects")
ANSWERS = ("image_errors", "pairs_left_out", "withheld", "picture_match")  # of answers, beside the exchange format
AT_SPACES = "texts split at white space alone, as their labels are"
EXAMPLE = '{"text": "Kobe lands in Paris", "ner_tags": ["B-PER", "O", "O", "B-LOC"], "image": "pictures/7.jpg"}'


def label_rows(row: Row, counts: Counter[str], task: str, overlaps: str) -> list[Row]:
    """Turn a raw row into rows of the data set, not checked yet: its offsets of characters become words and labels.

    Args:
        row: in our columns, in the exchange format, or of an annotation tool.
        counts: what is converted or left out is added to it.
        task: "mner" for a row with tags, "mre" for a row for each ordered pair of entities.
        overlaps: as of `read_labels`.

    Raises:
        ValueError: the row is wrong.
    """
    exchange = to_exchange(row, counts)
    if exchange is None:
        return []
    row = exchange
    if row.get("entities") in (None, ""):
        if row.get("relations"):
            raise ValueError(f"relations are those of entities, but there are no entities; e.g. {EXCHANGE}")
        return [row]
    if labels := sorted({"ner_tags", "head", "tail", "relation"} & {name for name in row if row[name]}):
        raise ValueError(f"entities and {', '.join(labels)} both say what the labels are; leave one out")
    post = read_labels(row, counts, overlaps)
    unknown = "relations" in row and row["relations"] is None  # not annotated
    others = {name: value for name, value in row.items() if name not in ("text", "tokens", "entities", "relations")}
    objects = row.get("objects")
    number = len(objects) if isinstance(objects, list) else 0
    if wrong := [one.region for one in post.entities if one.region is not None and one.region >= number]:
        raise ValueError(f"region {wrong[0]} is not the position of one of the {number} objects")
    if isinstance(objects, list) and any(isinstance(one, dict) and "box" in one for one in objects):
        paths = [one.get("path") if isinstance(one, dict) and "box" in one else one for one in objects]
        boxes = {n for n, one in enumerate(paths) if one is None is not objects[n]}
        counts[BOXES] += len(boxes)
        others["objects"] = paths if any(paths) else None
        post.entities = [
            entity._replace(region=None) if entity.region in boxes or not any(paths) else entity
            for entity in post.entities
        ]
    if task == "mner":
        return [others | post.to_tag_row() | ({"relations": None} if unknown else {})]
    if unknown:
        counts[NOT_ANNOTATED] += 1
        return []
    counts[NO_PAIR] += len(post.entities) < 2
    id = row.get("id")
    return [
        others | columns | ({} if id in (None, "") else {"id": f"{id}/{name}"})
        for name, columns in post.to_pair_rows(NO_RELATION)
    ]


def check_row(row: Row, labels: set[str], counts: Counter[str]) -> Row:
    """Return the tokens, labels, picture and crops of a row; raise `ValueError` that names what is wrong."""
    text, tokens = row.get("text"), row.get("tokens")
    words, at_spaces = words_of_text(text, row, labels) if isinstance(text, str) and not tokens else ([], False)
    tokens = [word.text for word in words] if words else tokens or text
    if row.get("tokens") == [] or (isinstance(tokens, str) and tokens and not tokens.strip()):
        raise ValueError(f"the post has no words: its text is empty or white space; e.g. {EXAMPLE}")
    if not is_word_list(tokens):
        raise ValueError(f"expected text, or tokens as a list of words, got {tokens!a:.80}; e.g. {EXAMPLE}")
    checked: Row = {"tokens": tokens}
    counts[AT_SPACES] += at_spaces
    if {"head", "tail"} <= labels:
        checked |= check_pair(row, words, tokens, counts)
    for name in ("id", "image"):
        value = row.get(name)
        if value is not None and not isinstance(value, (str, int)) or not is_text(str(value)):
            raise ValueError(f"{name} must be a text, got {value!a:.80}")
        checked[name] = str(value) if value not in (None, "") else None
    crops = checked["objects"] = row.get("objects") or []
    if not isinstance(crops, list) or not is_word_list([one for one in crops if one is not None]):
        raise ValueError(f"objects must be a list of paths, got {crops!a:.80}")
    if "ner_tags" in labels:
        tags = checked["ner_tags"] = check_tags(needed(row, "ner_tags"), tokens)
        entities = sum(tag.startswith("B-") for tag in tags)
        if "relations" in labels:  # null is not annotated, an absent key is none
            relations = row.get("relations", [])
            checked["relations"] = relations if relations is None else relations or []
        checked |= {"regions": row.get("regions") or [None] * entities} if "regions" in labels else {}
    if "relation" in labels:
        if "relation" not in row:
            raise ValueError("no relation, which other rows have")
        value = "" if row["relation"] is None else row["relation"]
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"relation must be a printable text, got {value!a:.80}")
        checked["relation"] = value
    return checked


def needed(row: Row, name: str) -> object:
    """A label of a row; raises `ValueError` where it is absent."""
    if row.get(name) in (None, ""):
        raise ValueError(f"no {name}{' or entities' if name == 'ner_tags' else ''}, which other rows have")
    return row[name]


def check_tags(value: object, tokens: list[str]) -> list[str]:
    """The BIO tags of a row, one for each word; raises `ValueError` for others."""
    if not is_word_list(value) or len(value) != len(tokens) or any(len(tag.split()) != 1 for tag in value):
        raise ValueError(f"ner_tags must be {len(tokens)} BIO tags, one for each of {tokens!a:.80}, got {value!a:.80}")
    return value


def words_of_text(text: str, row: Row, labels: set[str]) -> tuple[list[Word], bool]:
    """The words of a text, and whether they are those between white space because the tags of the row are.

    The words are those of `split_text`. Where they are more than those between white space, as in "(Paris),", and the
    row has a tag for each of the latter, the annotator's words are kept.
    """
    if not is_text(text):
        return [Word(text, 0, len(text))], False  # refused by check_row
    words, pieces = (split_text(text, name) for name in (DEFAULT_SPLITTING, "spaces"))
    tags = row.get("ner_tags") if "ner_tags" in labels else None
    at_spaces = words != pieces and isinstance(tags, list) and len(tags) == len(pieces)
    return (pieces if at_spaces else words), at_spaces


def check_pair(row: Row, words: list[Word], tokens: list[str], counts: Counter[str]) -> Row:
    """The head and the tail of a row in words: they are characters of a text, and words of tokens.

    The words are those of the row, or of a text without tags those that `split_pair` makes, in the key tokens.

    Raises:
        ValueError: a span that is outside of the post or empty, or that cuts words and may be one of words.
    """
    if row.get("text") and row.get("tokens"):
        raise ValueError(
            "both text and tokens: head and tail are characters of text or words of tokens, give one of them"
        )
    text = str(row["text"]) if words else None
    length, unit = (len(tokens), "words") if text is None else (len(text), "characters of the text")
    spans = {name: check_bounds(needed(row, name), name, length, unit) for name in ("head", "tail")}
    if text is None:
        return {name: {"start": start, "end": end} for name, (start, end) in spans.items()}
    if any(not text[start:end].strip() for start, end in spans.values()):
        raise ValueError(f"head or tail holds white space alone; {in_words(row, spans)}")
    trimmed = {name: trim(text, *span) for name, span in spans.items()}
    counts[TRIMMED_PAIR] += trimmed != spans
    spans = trimmed
    if row.get("ner_tags") not in (None, ""):
        starts = {word.start: n for n, word in enumerate(words)}
        ends = {word.end: n for n, word in enumerate(words, start=1)}
        if not all(start in starts and end in ends for start, end in spans.values()):
            raise ValueError(f"head or tail cuts a word that has a tag; {in_words(row, spans)}")
        return {name: {"start": starts[start], "end": ends[end]} for name, (start, end) in spans.items()}
    edges = {(word.start, word.end) for word in split_text(text)}
    firsts, lasts = {start for start, _ in edges}, {end for _, end in edges}
    if cut := [name for name, (start, end) in spans.items() if start not in firsts or end not in lasts]:
        if all(end <= len(split_text(text, "spaces")) for _, end in spans.values()):
            start, end = spans[cut[0]]
            raise ValueError(f"{cut[0]} {text[start:end]!a:.40} cuts a word; {in_words(row, spans)}")
        counts[CUT_PAIR] += 1
    parts, head, tail = split_pair(text, spans["head"], spans["tail"])
    both = {name: dict(zip(("start", "end"), span, strict=True)) for name, span in (("head", head), ("tail", tail))}
    return {"tokens": [part.text for part in parts], **both}


def in_words(row: Row, spans: dict[str, tuple[int, int]]) -> str:
    """What to write instead, where head and tail of a text may be words."""
    said = "with text, head and tail are characters, of whole words"
    pieces = [word.text for word in split_text(str(row["text"]), "spaces")]
    if any(end > len(pieces) for _, end in spans.values()):
        return said
    tokens = json.dumps(pieces)
    example = f'"tokens": {tokens if len(tokens) < 100 else "[WORDS]"}, "head": {json.dumps(row["head"])}'
    return f'{said}; if they are words, write {{{example}, "tail": {json.dumps(row["tail"])}}}'


def check_bounds(value: object, name: str, length: int, unit: str) -> tuple[int, int]:
    """The start and the end of a span that lies within the post; raises `ValueError` for others."""
    bounds = [value.get("start"), value.get("end")] if isinstance(value, dict) else value
    if not isinstance(bounds, list) or [type(bound) for bound in bounds] != [int, int]:
        raise ValueError(f'{name} must be {{"start": 0, "end": 2}}, got {value!a:.80}')
    if not 0 <= bounds[0] < bounds[1] <= length:
        raise ValueError(f"{name} must be within the {length} {unit}, got {bounds}")
    return bounds[0], bounds[1]


def is_word_list(words: object) -> TypeGuard[list[str]]:
    """Whether a value is a list of texts that can be stored."""
    return isinstance(words, list) and all(isinstance(word, str) and word and is_text(word) for word in words)
