"""Posts as graphs, in rows of data: the entities that tags mark, relations between them, and what shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

from .checks import IGNORE, is_listing, is_missing, label_id
from .crf import find_entities

EXAMPLE = 'e.g. relations=[{"head": 0, "tail": 1, "label": "peer"}]'
Entity = tuple[int, int, str]  # first word, last word + 1, type


def names_of_tags(ner_tags: Sequence[int | str], label2id: Mapping[str, int] | None) -> list[str]:
    """The names of tags, ids or names; a word without a tag (-100) belongs to no entity.

    Raises:
        ValueError: ids without a `label2id`, which alone says which of them begin an entity; unknown ids.
    """
    names = {i: name for name, i in (label2id or {}).items()}
    if label2id is None and not all(isinstance(tag, str) for tag in ner_tags):
        raise ValueError(
            "ner_tags are ids: give label2id, which says which of them are entities, e.g. "
            "label2id=model.config.label2id"
        )
    ids = [tag if isinstance(tag, str) else label_id(tag, label2id) for tag in ner_tags]
    return [tag if isinstance(tag, str) else "O" if tag == IGNORE else names[tag] for tag in ids]


def read_relations(
    relations: object, entities: list[Entity], relation2id: Mapping[str, int] | None = None
) -> list[tuple[int, int, int]]:
    """The relations of a post as (head, tail, label id), head and tail as indices of its entities.

    Args:
        relations: dicts with head, tail (an index of an entity, or the words of one as {"start": ..., "end": ...}) and
            label (an id or, with `relation2id`, a name).
        entities: of the post, in the order of its words.

    Raises:
        ValueError: a relation that names no entity or twice the same one, a pair that occurs twice, or an unknown
            label; with the value and a correct call.
    """
    if not is_listing(relations):
        raise ValueError(f"relations={relations!r:.200} is not a list; {EXAMPLE}")
    read: dict[tuple[int, int], int] = {}
    for place, relation in enumerate(relations):
        try:
            if not isinstance(relation, Mapping) or not {"head", "tail", "label"} <= relation.keys():
                raise ValueError("it is not a dict of head, tail and label")
            pair = entity_index(relation["head"], "head", entities), entity_index(relation["tail"], "tail", entities)
            if pair[0] == pair[1]:
                raise ValueError(f"head and tail are the same entity, {pair[0]}")
            if pair in read:
                raise ValueError(f"the pair of the entities {pair[0]} and {pair[1]} occurs twice: it has one relation")
            read[pair] = label_id(relation["label"], relation2id)
        except ValueError as error:
            raise ValueError(f"relations[{place}]={relation!r:.200}: {error}; {EXAMPLE}") from None
    return [(*pair, label) for pair, label in read.items()]


def entity_index(value: object, end: str, entities: list[Entity]) -> int:
    """The index of the entity that one end of a relation names, by its index or its words."""
    if isinstance(value, Mapping):
        spans = [(start, stop) for start, stop, _ in entities]
        span = value.get("start"), value.get("end")
        index = spans.index(span) if span in spans else -1
    else:
        index = int(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else -1
    if not 0 <= index < len(entities):
        known = ", ".join(
            f"{i} = words {start} to {stop - 1} ({kind})" for i, (start, stop, kind) in enumerate(entities)
        )
        raise ValueError(f"{end} {value!r:.100} names no entity: there are {len(entities)} ({known})")
    return index


def read_regions(regions: object, entities: list[Entity]) -> list[int]:
    """The object that shows each entity: its index, -1 = none does, -100 = not annotated (`None`, also as a whole).

    Raises:
        ValueError: not one value an entity, or anything else than such a number.
    """
    if regions is None:
        return [IGNORE] * len(entities)
    example = "e.g. regions=[0, -1, None]: an object, none shows it, not annotated"
    if not is_listing(regions) or len(regions) != len(entities):
        count = len(regions) if is_listing(regions) else "no list of"
        raise ValueError(f"{len(entities)} entities, but {count} regions ({regions!r:.200}): give one each, {example}")
    values: list[Any] = [IGNORE if is_missing(value) else value for value in regions]
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, SupportsIndex) or int(value) < -1 and value != IGNORE:
            raise ValueError(f"regions[{place}]={value!r:.50} is not the number of an object; {example}")
    return [int(value) for value in values]


@dataclass(frozen=True)
class RowGraph:
    """The graph of a row: entities in the order of their words, relations between them, and the objects that show them.

    Args:
        entities: (first word, last word + 1, type).
        relations: (head, tail, label id), head and tail as indices of the entities; `None` where not annotated.
        regions: of each entity the index of an object, -1 = none shows it, -100 = not annotated.
    """

    entities: list[Entity]
    relations: list[tuple[int, int, int]] | None
    regions: list[int]

    def to_lists(self, words: int, num_objects: int) -> dict:
        """The graph as a model takes it, without what truncation cuts off.

        Args:
            words: how many of the post's words are in.
            num_objects: how many objects a model sees; a region beyond counts as not annotated.

        Returns:
            entity_spans [[first word, last word + 1], ...], relation_labels [[head, tail, label id], ...] or `None`,
            region_labels, and the counts num_truncated_entities, num_truncated_relations and num_regions_left_out.
        """
        kept = sum(end <= words for _, end, _ in self.entities)  # those that are cut come last
        relations = None if self.relations is None else [one for one in self.relations if max(one[:2]) < kept]
        beyond = [region >= num_objects for region in self.regions[:kept]]
        return {
            "entity_spans": [[start, end] for start, end, _ in self.entities[:kept]],
            "relation_labels": None if relations is None else [list(one) for one in relations],
            "region_labels": [IGNORE if out else region for region, out in zip(self.regions, beyond, strict=False)],
            "num_truncated_entities": len(self.entities) - kept,
            "num_truncated_relations": len(self.relations or ()) - len(relations or ()),
            "num_regions_left_out": sum(beyond),
        }


def read_graph(
    ner_tags: Sequence[int | str],
    relations: object = None,
    regions: object = None,
    label2id: Mapping[str, int] | None = None,
    relation2id: Mapping[str, int] | None = None,
) -> RowGraph:
    """The graph of a row of data, as `I2SRMProcessor.encode_graph` takes it; raises `ValueError` as that does."""
    entities = find_entities(names_of_tags(ner_tags, label2id))
    pairs = None if relations is None else read_relations(relations, entities, relation2id)
    return RowGraph(entities, pairs, read_regions(regions, entities))


__all__ = ["RowGraph", "names_of_tags", "read_graph", "read_regions", "read_relations"]
