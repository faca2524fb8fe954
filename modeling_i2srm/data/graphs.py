"""Data sets of posts as graphs: their relations and regions are checked, and become pairs for the relation task."""

import logging
from collections import Counter
from collections.abc import Iterator

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, List, Value
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable

from ..checks import IGNORE, NO_RELATION, names_no_relation
from ..crf import find_entities
from ..graph_rows import read_graph
from .columns import LISTS, post_name

logger = logging.getLogger(__name__)

Triple = tuple[str, str, str]  # type of the head, relation, type of the tail


def graph_features(relation_names: list[str]) -> Features:
    """The columns relations and regions as `convert_graph_columns` gives them."""
    relation = {"head": Value("int32"), "tail": Value("int32"), "label": ClassLabel(names=relation_names)}
    return Features({"relations": List(relation), "regions": List(Value("int32"))})


def relation_names(features: Features, dataset: str) -> list[str]:
    """The names of the relations in a column "relations"; raises `ValueError` for another type of column."""
    column = features["relations"]
    fields = column.feature if isinstance(column, LISTS) else None
    if not isinstance(fields, dict) or not {"head", "tail", "label"} <= fields.keys():
        fields = {}
    if not isinstance(fields.get("label"), ClassLabel):
        raise ValueError(
            f"{dataset}: column 'relations' is {column}, expected a list of dicts with head, tail and a ClassLabel; "
            'e.g. dataset.cast_column("relations", List({"head": Value("int32"), "tail": Value("int32"), '
            '"label": ClassLabel(names=["None", "peer"])}))'
        )
    return list(fields["label"].names)


def convert_graph_columns(splits: DatasetDict, dataset: str) -> DatasetDict:
    """Check relations and regions, and convert them to one form; pictures are not written again.

    Args:
        splits: with ner_tags in BIO, relations and perhaps regions.
        dataset: the name of the data set, for messages.

    Returns:
        The splits with relations as dicts of head and tail, indices of entities, and label, of which the first is
        "None"; and with regions, `None` where an entity, a post or the data set has none annotated.

    Raises:
        ValueError: another type of column; a relation or a region that does not fit the entities of its row. It names
            the split, the row and the value.
    """
    converted = DatasetDict()
    for name, rows in splits.items():
        old = relation_names(rows.features, dataset)
        none = {NO_RELATION} if NO_RELATION in old else {label for label in old if names_no_relation(label)}
        new = [NO_RELATION, *(label for label in old if label not in none)]
        columns = [column for column in ("ner_tags", "relations", "regions") if column in rows.column_names]
        graphs = convert_rows(rows.select_columns(columns), old, new, f"{dataset}, split {name!r}", rows)
        kept = rows.remove_columns([column for column in ("relations", "regions") if column in rows.column_names])
        converted[name] = datasets.concatenate_datasets([kept, graphs], axis=1)
    return converted


def convert_rows(rows: Dataset, old: list[str], new: list[str], where: str, posts: Dataset) -> Dataset:
    """The columns relations and regions of `convert_graph_columns`.

    Args:
        rows: the columns that are read.
        old, new: the names of the relations before and after; those that are not among the new ones are no relation.
        where: of the rows, for messages.
        posts: all columns of the same rows.
    """
    label2id, objects = tag_ids(rows), count_objects(posts)
    relation2id = {label: i for i, label in enumerate(old)}
    ids = {i: new.index(label) if label in new else 0 for label, i in relation2id.items()}

    def convert(row: dict, number: int) -> dict:
        try:
            graph = read_graph(row["ner_tags"], row["relations"], row.get("regions"), label2id, relation2id)
            if unknown := [label for _, _, label in graph.relations or () if label not in ids]:
                raise ValueError(f"relations: {unknown[0]} is not an id: expected 0 to {len(old) - 1}")
            if objects is not None and any(region >= objects[number] for region in graph.regions):
                raise ValueError(f"regions={row['regions']}: the row has {objects[number]} objects, numbered from 0")
        except ValueError as error:
            raise ValueError(f"{where}, row {number}{post_name(posts, number)}: {error}") from None
        relations = [{"head": h, "tail": t, "label": ids[r]} for h, t, r in graph.relations or () if ids[r]]
        regions = [None if region == IGNORE else region for region in graph.regions]
        return {
            "relations": None if graph.relations is None else relations,
            "regions": regions if row.get("regions") is not None else None,
        }

    return rows.map(
        convert,
        with_indices=True,
        remove_columns=rows.column_names,
        features=graph_features(new),
        new_fingerprint=Hasher.hash([rows._fingerprint, "graphs", old, new]),
        desc="checking relations and regions",
    )


def count_objects(rows: Dataset) -> list[int] | None:
    """The number of objects of each row; `None` without such a column."""
    if "objects" not in rows.column_names:
        return None
    lengths = (pc.list_value_length(chunk).to_pylist() for chunk in rows.data.column("objects").chunks)
    return [length or 0 for chunk in lengths for length in chunk]


def tag_ids(rows: Dataset) -> dict[str, int]:
    """The ids of the tags of a split by their names."""
    return {name: i for i, name in enumerate(rows.features["ner_tags"].feature.names)}


def entities_of(rows: Dataset) -> Iterator[list[tuple[int, int, str]]]:
    """The entities of each row: first word, last word + 1, type."""
    names = rows.features["ner_tags"].feature.names
    for tags in rows.select_columns(["ner_tags"]).to_dict()["ner_tags"]:
        yield find_entities([names[tag] for tag in tags])


def triples_of(rows: Dataset) -> Counter[Triple]:
    """How often each triple of head type, relation and tail type occurs in a split of `convert_graph_columns`."""
    names, triples = rows.features["relations"].feature["label"].names, Counter[Triple]()
    for entities, relations in zip(entities_of(rows), rows["relations"][:], strict=True):
        for relation in relations or ():
            head, tail = (entities[relation[end]][2] for end in ("head", "tail"))
            triples[head, names[relation["label"]], tail] += 1
    return triples


def pair_labels(rows: Dataset) -> list[int]:
    """The relation ids of all ordered pairs of entities of the posts whose relations are annotated."""
    labels: list[int] = []
    for entities, relations in zip(entities_of(rows), rows["relations"][:], strict=True):
        if relations is not None:
            related = [relation["label"] for relation in relations]
            labels += related + [0] * (len(entities) * (len(entities) - 1) - len(related))
    return labels


def pair_splits(splits: DatasetDict, dataset: str) -> DatasetDict:
    """Rows of the relation task: a row per ordered pair of entities whose types some relation of the data has.

    Args:
        splits: of `convert_graph_columns`. The types are those of head and tail of the relations in the training
            split, or in all splits if there is none. A pair with an annotated relation is kept whatever its types;
            posts whose relations are not annotated are left out.
        dataset: the name of the data set, for messages.

    Returns:
        The splits with id (of the post, with the numbers of both entities), tokens, head, tail and relation, and with
        the pictures of the posts, whose bytes are shared.
    """
    known = [splits["train"]] if "train" in splits else list(splits.values())
    types = {(head, tail) for rows in known for head, _, tail in triples_of(rows)}
    pairs = DatasetDict()
    for name, rows in splits.items():
        pairs[name], other = pairs_of(rows, types)
        left_out = rows.data.column("relations").null_count
        logger.info(
            f"{dataset}: split {name!r}: {len(pairs[name])} ordered pairs of the entities of {len(rows)} posts"
            + (f", {other} of them related, of types that are not related in training" if other else "")
            + (f"; {left_out} posts without annotated relations are left out" if left_out else "")
        )
    return pairs


def pairs_of(rows: Dataset, types: set[tuple[str, str]]) -> tuple[Dataset, int]:
    """The pairs of a split, as of `pair_splits`, and the number of those that are related though of other types."""
    counts, other = [0] * len(rows), 0
    columns: dict[str, list] = {"id": [], "head": [], "tail": [], "relation": []}
    names = rows["id"][:] if "id" in rows.column_names else range(len(rows))
    for row, (entities, relations) in enumerate(zip(entities_of(rows), rows["relations"][:], strict=True)):
        labels = {(relation["head"], relation["tail"]): relation["label"] for relation in relations or ()}
        count = 0 if relations is None else len(entities)
        for head, tail in ((i, j) for i in range(count) for j in range(count) if i != j):
            label, allowed = labels.get((head, tail), 0), (entities[head][2], entities[tail][2]) in types
            if not allowed and not label:
                continue
            other += not allowed
            counts[row] += 1
            columns["id"].append(f"{names[row]}-{head}-{tail}")
            columns["relation"].append(label)
            for end, (start, stop, _) in (("head", entities[head]), ("tail", entities[tail])):
                columns[end].append({"start": start, "end": stop})
    shared = [column for column in ("tokens", "image", "objects") if column in rows.column_names]
    span = {"start": Value("int32"), "end": Value("int32")}
    features = Features({"id": Value("string"), "head": span, "tail": span})
    features |= {"relation": rows.features["relations"].feature["label"]}
    table = pa.table(columns, schema=Features(features).arrow_schema)
    for column in shared:
        table = table.append_column(column, repeat(rows.data.column(column), counts))
    features |= {column: rows.features[column] for column in shared}
    fingerprint = Hasher.hash([rows._fingerprint, "pairs", sorted(types)])
    return Dataset(InMemoryTable(table), DatasetInfo(features=Features(features)), fingerprint=fingerprint), other


def repeat(column: pa.ChunkedArray, counts: list[int]) -> pa.ChunkedArray:
    """A column with each value as often as its count says; the bytes are those of the column, and not copied."""
    values = (chunk.slice(i, 1) for chunk in column.chunks for i in range(len(chunk)))
    chunks = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
    return pa.chunked_array(chunks, column.type)


__all__ = [
    "convert_graph_columns",
    "graph_features",
    "pair_labels",
    "pair_splits",
    "relation_names",
    "triples_of",
]
