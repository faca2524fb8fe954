"""Rows of annotation tools (Label Studio, Prodigy, doccano, spaCy) to the exchange format, and back to Label Studio.

The tool is recognised from the shape of a row, a line or an element of the exported file:

  Label Studio  {"data": {"text": ...}, "annotations": [{"result": [...]}]}, or of its JSON-min
                {"text": ..., "label": [{"start": 0, "end": 3, "labels": ["PER"]}]}
  Prodigy       {"text": ..., "spans": [{"start": 0, "end": 3, "label": "PER"}], "relations": [...], "answer": "accept"}
  doccano       {"text": ..., "label": [[0, 3, "PER"]]}, or {"text": ..., "entities": [{"id": 1, "start_offset": 0,
                "end_offset": 3, "label": "PER"}], "relations": [{"from_id": 1, "to_id": 2, "type": "peer"}]}
  spaCy         ["text", {"entities": [[0, 3, "PER"]]}], {"text": ..., "entities": [[0, 3, "PER"]]}, or Doc.to_json()
"""

import json
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from .exchange import EXAMPLE, Row, find_units, items

OURS = {"entities", "ner_tags", "head", "tail"}
UNANNOTATED = "Label Studio: tasks without an annotation (predictions are not read), left out"
CANCELLED = "Label Studio: tasks whose annotations are all cancelled, left out"
UNLABELLED = "Label Studio: regions without a label, left out"
OTHERS = "Label Studio: further annotations of a task, not read"
REJECTED = "Prodigy: rows whose answer is not accept, left out"


def as_row(value: object) -> Row:
    """A line of JSON as a dict, spaCy's pair [text, {"entities": [...]}] too; raises `ValueError` for others."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict):
        return {"text": value[0], **value[1]}
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, e.g. {EXAMPLE}")
    return value


def to_exchange(row: Row, counts: Counter[str]) -> Row | None:
    """Convert the row of a tool to the exchange format; any other row is returned as it is.

    Args:
        counts: what is left out or converted is added to it.

    Returns:
        A row with text or tokens, entities and relations, and its other columns; `None` for one that the annotator
        rejected or did not see.

    Raises:
        ValueError: an annotation that cannot be read.
    """
    row = {name: parse(value) for name, value in row.items()}
    for matches, convert in TOOLS:
        if matches(row):
            return convert(row, counts)
    if not OURS & row.keys() and (
        names := [name for name, value in row.items() if name != "label" and is_spans(value)]
    ):
        raise ValueError(f"{names[0]} seems to hold entities; call it entities, e.g. {EXAMPLE}")
    return row


def is_spans(value: object) -> bool:
    """Whether a value is a list of objects with offsets, or of [start, end, label]."""
    starts = ("start", "begin", "start_offset", "startOffset")
    return any(dicts(value, name) for name in starts) or lists(value)


def parse(value: object) -> object:
    """The value of a cell of a CSV file that holds a list of objects or of lists."""
    if isinstance(value, str) and value.startswith(("[{", "[[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def dicts(value: object, *keys: str) -> bool:
    """Whether a value is a list of dicts, not empty, that all have these keys."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and {*keys} <= {*one} for one in value)


def lists(value: object) -> bool:
    """Whether a value is a list of [start, end, label], not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, list) and is_triple(one) for one in value)


def is_triple(values: list[object]) -> bool:
    return len(values) >= 3 and isinstance(values[0], (int, float)) and isinstance(values[2], str)


def without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


# Label Studio


def is_task(row: Row) -> bool:
    lists_of = {"annotations", "completions", "predictions"} & row.keys()
    return isinstance(row.get("data"), dict) and any(isinstance(row[name], list) for name in lists_of)


def read_task(row: Row, counts: Counter[str]) -> Row | None:
    """A task of Label Studio's JSON export: the first annotation that is not cancelled."""
    data = row["data"]
    assert isinstance(data, dict)
    annotations = row.get("annotations") or row.get("completions") or []
    if not dicts(annotations):
        counts[UNANNOTATED] += 1
        return None
    assert isinstance(annotations, list)
    valid = [one for one in annotations if not one.get("was_cancelled")]
    if not valid:
        counts[CANCELLED] += 1
        return None
    counts[OTHERS] += len(valid) - 1
    results = valid[0].get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise ValueError(f"Label Studio: result must be a list of objects, got {results!a:.80}")
    text = str(data[text_key(data)])
    entities: list[Row] = []
    places: dict[object, int] = {}
    for result in results:
        value, kind = result.get("value"), result.get("type")
        labels = value.get(kind, value.get("labels")) if isinstance(value, dict) else None
        if isinstance(labels, list) and {"start", "globalOffsets"} & value.keys():
            if not labels:
                counts[UNLABELLED] += 1
                continue
            places.setdefault(result.get("id"), len(entities))
            entities += read_region(value, labels, text, len(entities), counts)
        elif kind != "relation":
            counts[f"Label Studio: results of type {kind!a:.40}, not read"] += 1
    relations = [one for result in results if result.get("type") == "relation" for one in read_arrow(result, places)]
    others = without(row, "data", "annotations", "completions", "predictions") | without(data, text_key(data))
    if isinstance(tokens := data.get("tokens"), list) and " ".join(map(str, tokens)) == text:
        others |= to_tokens(tokens, entities)
        text = ""
    return others | ({"text": text} if text else {}) | {"entities": entities, "relations": relations}


def text_key(data: Row) -> str:
    """The key of the text in the data of a task."""
    names = [name for name, value in data.items() if isinstance(value, str) and name not in ("id", "image")]
    if "text" in names:
        return "text"
    names = [name for name in names if isinstance(value := data[name], str) and " " in value.strip()]
    if len(names) != 1:
        raise ValueError(f"Label Studio: data has no text, but {', '.join(map(ascii, data))}; call its text text")
    return names[0]


def read_region(value: Row, labels: list[object], text: str, number: int, counts: Counter[str]) -> list[Row]:
    """The entities of a region of a text, one for each of its labels."""
    place = value
    if not isinstance(value.get("start"), int) and isinstance(value.get("globalOffsets"), dict):
        place = value["globalOffsets"]  # type: ignore[assignment]  # a dict, as was just tested
    start, end, quote = place.get("start"), place.get("end"), value.get("text")
    where = f"Label Studio, entity {number} ({labels!a:.40})"
    if type(start) is not int or type(end) is not int:
        raise ValueError(f"{where}: start={start!a:.40}, end={end!a:.40} must be whole numbers, characters of a text")
    start, end = find_units(text, start, end, quote if isinstance(quote, str) else None, where, counts, utf16=True)
    return [{"start": start, "end": end, "label": label} for label in labels]


def read_arrow(result: Row, places: dict[object, int]) -> list[Row]:
    """The relations of an arrow between two regions: one for each label and direction."""
    head, tail = (places.get(result.get(name)) for name in ("from_id", "to_id"))
    if head is None or tail is None:
        ends = result.get("from_id"), result.get("to_id")
        raise ValueError(f"Label Studio: a relation between {ends!a:.80}, which are not both entities")
    labels = result.get("labels")
    if not isinstance(labels, list) or not labels:
        raise ValueError(f"Label Studio: the relation between entities {head} and {tail} has no label")
    pairs = {"left": [(tail, head)], "bi": [(head, tail), (tail, head)]}.get(str(result.get("direction")))
    return [{"head": h, "tail": t, "label": label} for label in labels for h, t in pairs or [(head, tail)]]


def to_tokens(tokens: list[object], entities: list[Row]) -> Row:
    """Replace offsets in the text that tokens make by those in tokens, where all entities are whole tokens."""
    starts: dict[object, int] = {}
    ends: dict[object, int] = {}
    place = 0
    for number, token in enumerate(map(str, tokens)):
        starts[place], ends[place + len(token)] = number, number + 1
        place += len(token) + 1
    if not all(entity["start"] in starts and entity["end"] in ends for entity in entities):
        return {"tokens": None, "text": " ".join(map(str, tokens))}
    for entity in entities:
        entity["start"], entity["end"] = starts[entity["start"]], ends[entity["end"]]
    return {"tokens": tokens}


def to_task(row: Row, kind: str) -> Row:
    """A post in the exchange format as a task of Label Studio; its labels are "predictions" or "annotations"."""
    tokens, text = row.get("tokens"), row.get("text")
    data = without(row, "entities", "relations", "tokens", "text")
    if isinstance(tokens, list):
        text, data["tokens"] = " ".join(map(str, tokens)), tokens
    text = str(text)
    places = [0, *accumulate(2 if character > "\uffff" else 1 for character in text)]  # Label Studio's, of characters
    results: list[Row] = []
    for number, entity in enumerate(items(row, "entities")):
        start, end = entity["start"], entity["end"]
        assert isinstance(start, int) and isinstance(end, int)
        if isinstance(tokens, list):
            before = len("".join(f"{token} " for token in tokens[:start]))
            start, end = before, before + len(" ".join(map(str, tokens[start:end])))
        value = {"start": places[start], "end": places[end], "text": text[start:end], "labels": [entity["label"]]}
        about: Row = {"id": f"e{number}", "type": "labels", "from_name": "label", "to_name": "text", "value": value}
        results.append(about | ({"score": entity["score"]} if "score" in entity else {}))
    for relation in items(row, "relations"):
        ends = {"from_id": f"e{relation['head']}", "to_id": f"e{relation['tail']}"}
        results.append({"type": "relation", "direction": "right", "labels": [relation["label"]], **ends})
    return {"data": {"text": text, **data}, kind: [{"result": results}]}


def regions_key(row: Row) -> str | None:
    """The key of the regions in a row of Label Studio's JSON-min."""
    return next((name for name, value in row.items() if dicts(value, "labels")), None)


def read_min(row: Row, counts: Counter[str]) -> Row:
    """A row of Label Studio's JSON-min."""
    key = str(regions_key(row))
    entities: list[Row] = []
    name = text_key(without(row, key))
    for value in row[key]:  # type: ignore[attr-defined]  # a list of dicts, as regions_key says
        labels = value["labels"] if isinstance(value["labels"], list) else [value["labels"]]
        entities += read_region(value, labels, str(row[name]), len(entities), counts)
    return {**without(row, key, name), "text": row[name], "entities": entities}


# Prodigy, doccano, spaCy


def is_prodigy(row: Row) -> bool:
    labelled = isinstance(row.get("spans"), list) or row.get("answer") in ("accept", "reject", "ignore")
    return isinstance(row.get("text"), str) and labelled and not OURS & row.keys()


def read_prodigy(row: Row, counts: Counter[str]) -> Row | None:
    if row.get("answer", "accept") != "accept":
        counts[REJECTED] += 1
        return None
    spans = row.get("spans") or []
    if not isinstance(spans, list) or not all(isinstance(span, dict) for span in spans):
        raise ValueError(f"Prodigy: spans must be a list of objects, got {spans!a:.80}")
    arrows = row.get("relations") or []
    if not isinstance(arrows, list) or not all(isinstance(arrow, dict) for arrow in arrows):
        raise ValueError(f"Prodigy: relations must be a list of objects, got {arrows!a:.80}")
    relations: list[Row] = [
        {"head": end_of(one, "head", spans), "tail": end_of(one, "child", spans), "label": one.get("label")}
        for one in arrows
    ]
    entities = [{name: span.get(name) for name in ("start", "end", "label")} for span in spans]
    left = without(row, "spans", "tokens", "relations", "answer")
    return {**left, "entities": entities, "relations": relations}


def end_of(arrow: Row, name: str, spans: list[Row]) -> int:
    """The position of the span that an arrow of Prodigy begins or ends at: its offsets, or a token of it."""
    span, token = arrow.get(f"{name}_span"), arrow.get(name)
    for number, one in enumerate(spans):
        if isinstance(span, dict):
            if (span.get("start"), span.get("end")) == (one.get("start"), one.get("end")):
                return number
        elif isinstance(token, int):
            first, last = one.get("token_start"), one.get("token_end")
            if isinstance(first, int) and isinstance(last, int) and first <= token <= last:
                return number
    raise ValueError(f"Prodigy: the {name} {span or token!a:.80} of a relation is not one of the spans")


def is_doccano(row: Row) -> bool:
    if dicts(row.get("entities"), "start_offset", "end_offset"):
        return True
    text = row.get("text", row.get("data"))
    values = [row[name] for name in ("label", "labels") if name in row]
    return isinstance(text, str) and not OURS & row.keys() and any(value == [] or lists(value) for value in values)


def read_doccano(row: Row, counts: Counter[str]) -> Row:
    left = without(row, "data", "label", "labels", "entities", "relations")
    text = row.get("text", row.get("data"))
    if not dicts(row.get("entities"), "start_offset", "end_offset"):
        return {**left, "text": text, "entities": from_lists(row.get("label", row.get("labels")))}
    values: list[Row] = row["entities"]  # type: ignore[assignment]  # a list of dicts, as was just tested
    names = {"start": "start_offset", "end": "end_offset", "label": "label"}
    entities = [{name: value.get(theirs) for name, theirs in names.items()} for value in values]
    places = {value.get("id"): number for number, value in enumerate(values)}
    arrows = row.get("relations") or []
    if not isinstance(arrows, list) or not all(isinstance(arrow, dict) for arrow in arrows):
        raise ValueError(f"doccano: relations must be a list of objects, got {arrows!a:.80}")
    relations: list[Row] = [
        {"head": places.get(one.get("from_id")), "tail": places.get(one.get("to_id")), "label": one.get("type")}
        for one in arrows
    ]
    return {**left, "text": text, "entities": entities, "relations": relations}


def from_lists(values: object) -> list[Row]:
    """The entities that lists of [start, end, label] are."""
    lists: Any = values or []
    return [dict(zip(("start", "end", "label"), value, strict=False)) for value in lists]


def is_spacy(row: Row) -> bool:
    return isinstance(row.get("text"), str) and (lists(row.get("entities")) or dicts(row.get("ents"), "start", "end"))


def read_spacy(row: Row, counts: Counter[str]) -> Row:
    if "ents" not in row:
        return {**row, "entities": from_lists(row["entities"])}
    return {**without(row, "ents", "tokens", "sents"), "entities": row["ents"]}


TOOLS: tuple[tuple[Callable[[Row], bool], Callable[[Row, Counter[str]], Row | None]], ...] = (
    (is_task, read_task),
    (lambda row: regions_key(row) is not None, read_min),
    (is_prodigy, read_prodigy),
    (is_spacy, read_spacy),
    (is_doccano, read_doccano),
)

__all__ = ["as_row", "to_exchange", "to_task"]
