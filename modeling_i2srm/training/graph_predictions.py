"""Tags and graphs as arrays that a Trainer can gather and pad, and back: what is predicted, and what is annotated."""

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch

from ..checks import IGNORE
from ..crf import entity_type, entity_types, find_entities
from ..joint_head import Graph, I2SRMJointOutput, pad_spans
from ..modeling_i2srm import I2SRMForTokenClassification
from ..modeling_joint import I2SRMForJointExtraction
from .metrics import TagPredictions

Graphs = list[dict[str, Any]]
NOT_ANNOTATED = (-1, -1, -1)  # in the place of the relations of a post


def pack(rows: Iterable[Sequence[Sequence[float]]], width: int, device: torch.device) -> torch.Tensor:
    """Lists of tuples as one tensor (B, N, width), padded with -100 along N, which is at least 1."""
    rows = [list(row) for row in rows]
    length = max(1, *map(len, rows)) if rows else 1
    padding = (float(IGNORE),) * width
    values = [[*row, *[padding] * (length - len(row))] for row in rows]
    return torch.tensor(values, dtype=torch.float, device=device)


def unpack(row: np.ndarray) -> list[list[float]]:
    """The tuples of a post (N, width), without the padding."""
    return [values for values in row.tolist() if values[0] != IGNORE]


@torch.no_grad()
def predict_tags(model: I2SRMForTokenClassification, logits: torch.Tensor, word_mask: torch.Tensor) -> TagPredictions:
    """The decoded tags of a batch, the probability of each, and at the first word of each entity that of the entity.

    Args:
        logits: (B, T, N).
        word_mask: (B, T), 1 on the first sub-token of each word.
    """
    names, decoded = model.config.label_names, model.decode(logits, word_mask)
    spans = [
        [(start, row[start:end]) for start, end, _ in find_entities([names[tag] for tag in row])] for row in decoded
    ]
    entities = torch.full(word_mask.shape, float(IGNORE), device=logits.device)
    for i, (row, values) in enumerate(zip(spans, model.span_scores(logits, word_mask, spans), strict=True)):
        places = word_mask[i].nonzero()[:, 0]
        for (start, _), value in zip(row, values, strict=True):
            entities[i, places[start]] = value
    return TagPredictions((*tag_arrays(model, logits, word_mask, decoded), entities))


def tag_arrays(
    model: I2SRMForTokenClassification, logits: torch.Tensor, word_mask: torch.Tensor, rows: list[list[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tags of the words of each post and their probabilities, both (B, T), -100 where there is not a word."""
    tags = torch.full(word_mask.shape, IGNORE, device=logits.device)
    scores = torch.full(word_mask.shape, float(IGNORE), device=logits.device)
    for i, (row, marginals) in enumerate(zip(rows, model.marginals(logits, word_mask), strict=True)):
        path = torch.tensor(row, dtype=torch.long, device=logits.device)
        tags[i, word_mask[i]] = path
        scores[i, word_mask[i]] = marginals[: len(path)].gather(1, path[:, None])[:, 0]
    return tags, scores


@torch.no_grad()
def predict_graphs(model: I2SRMForJointExtraction, outputs: I2SRMJointOutput, inputs: dict) -> TagPredictions:
    """What a joint model predicts of a batch.

    Args:
        outputs: of the call with `inputs`, for the entities that are annotated.

    Returns:
        Tag ids and their scores (B, T), with the types of the graph; the graph, decoded from the logits: entities
        (B, E, 6) of first word, last word + 1, type id, score, region and its score, and relations (B, P, 4) of head,
        tail, label id and score; and for the annotated entities: relations (B, P, 3), relations (B, P, 3) of those that
        the annotated types allow, and regions (B, E, 1). All are padded with -100.
    """
    logits, word_mask = outputs["logits"], inputs["word_mask"].bool()
    device, names = logits.device, model.config.label_names
    decoded = model.decode(logits, word_mask)
    spans = [[(start, end) for start, end, _ in find_entities([names[tag] for tag in row])] for row in decoded]
    entity_spans = pad_spans(spans, device)
    relation_logits, region_logits = model.score_spans(outputs, word_mask, entity_spans)
    scored = {"entity_spans": entity_spans, "relation_logits": relation_logits, "region_logits": region_logits}
    graphs = model.decode_graphs(I2SRMJointOutput(**{**outputs, **scored}), word_mask)
    typed = [with_types(row, graph, names) for row, graph in zip(decoded, graphs, strict=True)]
    tags, scores = tag_arrays(model, logits, word_mask, typed)
    kinds, relations = entity_types(names), model.config.relation_labels or []
    entities = [
        [(e.start, e.end, kinds.index(e.label), e.score, e.region, e.region_score) for e in graph.entities]
        for graph in graphs
    ]
    triples = [[(r.head, r.tail, relations.index(r.label), r.score) for r in graph.relations] for graph in graphs]
    gold = (
        pack(rows, width, device) for rows, width in zip(predict_gold(model, outputs, inputs), (3, 3, 1), strict=True)
    )
    return TagPredictions((tags, scores, pack(entities, 6, device), pack(triples, 4, device), *gold))


def with_types(tags: list[int], graph: Graph, names: list[str]) -> list[int]:
    """Tags of words with the types that the graph gives to the entities; their letters B and I stay."""
    ids, path = {name: i for i, name in enumerate(names)}, list(tags)
    for entity in graph.entities:
        for word in range(entity.start, entity.end):
            letter = names[path[word]][:2]
            path[word] = ids.get(f"{letter}{entity.label}", path[word])
    return path


def predict_gold(model: I2SRMForJointExtraction, outputs: I2SRMJointOutput, inputs: dict) -> tuple[list, list, list]:
    """The relations and regions that a model gives to the annotated entities, as `predict_graphs` packs them."""
    free: list[list[tuple[int, ...]]] = [[] for _ in inputs["word_mask"]]
    typed, regions = [list(row) for row in free], [list(row) for row in free]
    if inputs.get("labels") is None:
        return free, typed, regions
    names, relation_names = model.config.label_names, model.config.relation_labels or []
    triples = model.config.relation_types
    allowed = None if triples is None else {tuple(triple) for triple in triples}
    scores, region_logits = outputs["relation_logits"].float().cpu().numpy(), outputs["region_logits"]
    places = region_logits.argmax(-1).tolist()
    for i, row in enumerate(outputs["entity_spans"].tolist()):
        words = inputs["labels"][i][inputs["word_mask"][i].bool()].tolist()
        tags = [words[start] for start, _ in row if start >= 0]
        if IGNORE in tags:  # a row that fills up the last batch of several processes; its predictions are dropped
            continue
        kinds = [entity_type(names[tag]) for tag in tags]
        for head, tail in permutations(range(len(kinds)), 2):
            of_pair = scores[i, head, tail]
            ids = [
                r
                for r, name in enumerate(relation_names)
                if not r or allowed is None or (kinds[head], name, kinds[tail]) in allowed
            ]
            best, best_of_types = int(of_pair.argmax()), ids[int(of_pair[ids].argmax())]
            free[i] += [(head, tail, best)] if best else []
            typed[i] += [(head, tail, best_of_types)] if best_of_types else []
        none = region_logits.shape[-1] - 1
        regions[i] = [(-1 if place == none else place,) for place in places[i][: len(kinds)]]
    return free, typed, regions


def pack_labels(inputs: dict, entity_spans: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is annotated in a batch: tags (B, T), entities (B, E, 3) of first word, last word + 1 and region, and
    relations (B, P, 3) of head, tail and label id; padded with -100.

    A post of two or more entities none of whose pairs is annotated has `NOT_ANNOTATED` in the place of its relations.

    Args:
        entity_spans: (B, E, 2) of the annotated entities.
    """
    labels, (batch, count, _) = inputs["labels"], entity_spans.shape
    all_pairs = inputs.get("relation_labels", labels.new_full((batch, count, count), IGNORE))
    all_regions = inputs.get("region_labels", labels.new_full((batch, count), IGNORE)).tolist()
    entities, relations = [], []
    for row, pairs, regions in zip(entity_spans.tolist(), all_pairs, all_regions, strict=True):
        size = sum(start >= 0 for start, _ in row)
        entities.append([(*span, region) for span, region in zip(row[:size], regions, strict=False)])
        related = [(head, tail, int(pairs[head, tail])) for head, tail in (pairs > 0).nonzero().tolist()]
        annotated = size < 2 or bool((pairs != IGNORE).any())
        relations.append(related if annotated else [NOT_ANNOTATED])
    device = labels.device
    return labels, pack(entities, 3, device), pack(relations, 3, device)


def read_predictions(predictions: Iterable[np.ndarray], names: list[str], relation_names: list[str]) -> Graphs:
    """The predicted graph of each post from the arrays of `predict_graphs`.

    Returns:
        Dicts with tags (names, one per word), entities (start, end, label, score, region, region_score) and relations
        (head, tail, label, score); and on_gold with relations, typed_relations and regions of the annotated entities.
    """
    kinds = entity_types(names)
    tags, _, entities, relations, free, typed, regions = (np.asarray(values) for values in predictions)
    graphs = []
    for i, row in enumerate(tags):
        graphs.append(
            {
                "tags": [names[tag] for tag in row[row != IGNORE]],
                "entities": [
                    {
                        "start": int(start),
                        "end": int(end),
                        "label": kinds[int(kind)],
                        "score": round(score, 4),
                        "region": int(region),
                        "region_score": round(region_score, 4),
                    }
                    for start, end, kind, score, region, region_score in unpack(entities[i])
                ],
                "relations": [
                    {**relation_of(values, relation_names), "score": round(values[3], 4)}
                    for values in unpack(relations[i])
                ],
                "on_gold": {
                    "relations": [relation_of(values, relation_names) for values in unpack(free[i])],
                    "typed_relations": [relation_of(values, relation_names) for values in unpack(typed[i])],
                    "regions": [int(region) for (region,) in unpack(regions[i])],
                },
            }
        )
    return graphs


def read_labels(
    labels: Iterable[np.ndarray], predictions: Iterable[np.ndarray], names: list[str], relation_names: list[str]
) -> Graphs:
    """The annotated graph of each post from the arrays of `pack_labels`.

    Args:
        predictions: of the same posts; their tags say where words are.

    Returns:
        Dicts with tags (names, one per word, `None` without one), entities (start, end, label, region, `None` where not
        annotated) and relations (head, tail, label), `None` where not annotated.
    """
    tags, entities, relations = (np.asarray(values) for values in labels)
    graphs = []
    for i, predicted in enumerate(next(iter(predictions))):
        words = [None if tag == IGNORE else names[tag] for tag in tags[i][predicted != IGNORE]]
        triples = unpack(relations[i])
        graphs.append(
            {
                "tags": words,
                "entities": [
                    {
                        "start": int(start),
                        "end": int(end),
                        "label": entity_type(words[int(start)] or "O"),
                        "region": None if region == IGNORE else int(region),
                    }
                    for start, end, region in entities[i].tolist()
                    if start != IGNORE
                ],
                "relations": None
                if tuple(NOT_ANNOTATED) in map(tuple, triples)
                else [relation_of(values, relation_names) for values in triples],
            }
        )
    return graphs


def relation_of(values: Sequence[float], relation_names: list[str]) -> dict:
    """A relation as a dict of head, tail and label."""
    return {"head": int(values[0]), "tail": int(values[1]), "label": relation_names[int(values[2])]}


__all__ = ["pack_labels", "predict_graphs", "predict_tags", "read_labels", "read_predictions"]
