"""Scores of answers that look at nothing: the most frequent label, no region, the first crop, the whole picture."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..checks import NO_RELATION
from ..crf import find_entities
from .audit_data import Picture, Split

HIT = 0.5  # least intersection over union of a box that counts as right


class Baseline(NamedTuple):
    """An answer that looks at nothing, and how often it is right.

    Args:
        answer: in words.
        right, of: numbers of rows, entities or whatever is answered.
        what: what these are.
        misleads: whether a high share is worth a warning.
    """

    answer: str
    right: float
    of: int
    what: str
    misleads: bool = True

    @property
    def percent(self) -> float:
        return round(100 * self.right / self.of, 2)


def audit_baselines(splits: dict[str, Split]) -> list[Baseline]:
    """Score blind answers on the test split, or the last one; what is frequent is counted in the training split."""
    train = splits.get("train") or next(iter(splits.values()))
    test = splits.get("test") or list(splits.values())[-1]
    baselines = [*label_baselines(train.rows, test.rows), *region_baselines(test), *box_baselines(test.rows)]
    return [baseline for baseline in baselines if baseline.of]


def label_baselines(train: list[dict], test: list[dict]) -> Iterator[Baseline]:
    """The most frequent relation, label and entity type of the training rows."""
    for column, what in (("relation", "pairs"), ("label", "posts")):
        if column in test[0] and column in train[0]:
            most = Counter(row[column] for row in train).most_common(1)[0][0]
            right = sum(row[column] == most for row in test)
            yield Baseline(f"always {most!r}", right, len(test), f"test {what}", column == "label")
    if "relation" in test[0]:
        related = [row["relation"] for row in test if row["relation"] != NO_RELATION]
        kinds = Counter(row["relation"] for row in train if row["relation"] != NO_RELATION)
        if kinds:
            most = kinds.most_common(1)[0][0]
            yield Baseline(f"always {most!r}", related.count(most), len(related), "related test pairs")
    if "ner_tags" in test[0]:
        types = [Counter(kind for row in rows for kind in entity_types_of(row)) for rows in (train, test)]
        if types[0]:
            most = types[0].most_common(1)[0][0]
            yield Baseline(f"each entity is a {most}", types[1][most], types[1].total(), "test entities")
    if any(row.get("relations") is not None for row in test):
        rows = [row["relations"] for row in test if row.get("relations") is not None]
        none = sum(all(one["label"] == NO_RELATION for one in row) for row in rows)
        yield Baseline("no relation, always", none, len(rows), "test posts with annotated relations", False)


def entity_types_of(row: dict) -> list[str]:
    return [kind for _, _, kind in find_entities(row["ner_tags"])]


def region_baselines(split: Split) -> Iterator[Baseline]:
    """No crop, the first one, the largest one and one drawn at random, of entities whose crop is annotated."""
    answers: list[tuple[int, Sequence[Picture]]] = [
        (region, crops)
        for row, crops in zip(split.rows, split.crops or (), strict=False)
        for region in row.get("regions") or ()
        if region is not None
    ]
    shown = [(region, crops) for region, crops in answers if region >= 0]
    rest, what = len(shown), "test entities that a crop shows"
    yield Baseline("no region, always", len(answers) - rest, len(answers), "test entities with an annotated region")
    yield Baseline("the first crop, always", sum(region == 0 for region, _ in shown), rest, what)
    yield Baseline("the largest crop, always", sum(region == largest(crops) for region, crops in shown), rest, what)
    by_chance = sum(1 / len(crops) for _, crops in shown)
    yield Baseline("a crop drawn at random (expected)", round(by_chance, 1), rest, what, False)


def largest(crops: Sequence[Picture]) -> int:
    """The position of the crop of the most pixels."""
    return max(range(len(crops)), key=lambda n: (crops[n].width or 0) * (crops[n].height or 0))


def box_baselines(rows: list[dict]) -> Iterator[Baseline]:
    """No box, and a box round the whole picture, of entities whose boxes are annotated."""
    entities = [boxes for row in rows for boxes in row.get("entity_boxes") or ()]
    boxed = [boxes for boxes in entities if boxes]
    hits = sum(any((c - a) * (d - b) >= HIT for a, b, c, d in boxes) for boxes in boxed)
    yield Baseline("no box, always", len(entities) - len(boxed), len(entities), "test entities")
    yield Baseline("a box round the whole picture (IoU of .5)", hits, len(boxed), "test entities that have a box")


__all__ = ["Baseline", "audit_baselines"]
