"""Metrics of posts as graphs: entities, relations, regions, and all of them together."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from transformers import EvalPrediction

from .graph_predictions import Graphs, read_labels, read_predictions
from .metrics import ComputeMetrics, MNERMetric

SPAN, TYPED = ("start", "end"), ("start", "end", "label")
GROUNDED = (*TYPED, "region")


class JointMetric:
    """Precision, recall and F1 of entities, relations, triples and regions of posts, micro over all posts.

    It has `compute` as an `evaluate.Metric` has; only it takes graphs as dicts, not through Arrow.

    A graph is a dict of tags (BIO names, one per word), entities (dicts of start and end in words, label, region) and
    relations (dicts of head and tail, positions of entities, and label; only pairs that are related). Among the gold
    graphs relations is `None` where they are not annotated, and region is `None` where that is not. Predicted graphs
    have none of these `None`.

    `compute` takes predictions and references, one graph per post, and `on_gold`: for each post a dict of what is
    predicted for its gold entities. The keys are relations (the best label of each pair), typed_relations (the best
    label that the gold types allow) and regions (one per gold entity).

    It returns a flat dict of values between 0 and 1. Each F1 has its precision and recall, e.g. triple_precision.
    Scores of labels that the data does not have are left out:

    - lenient_f1, strict_f1, and those of each type: as of `MNERMetric`;
    - triple_f1: spans and types of both entities, and the label. Each label has triple_f1_LABEL, and
      triple_support_LABEL, the number of its gold triples;
    - untyped_triple_f1: spans of both entities, and the label;
    - relation_f1: head, tail and label between gold entities, without their types; typed_relation_f1: with them;
    - region_accuracy: the share of right regions among the gold entities with an annotated region;
      region_accuracy_pointed: the same among those that an object shows;
    - grounded_f1: span, type and region of entities, where "no region" is a region, too (as in GMNER);
    - quintuple_f1: spans, types and regions of both entities, and the label.

    Relations are scored in the posts where they are annotated; grounded entities and quintuples in those where each
    gold entity has its region annotated.

    Example:

    >>> entities = [{"start": i, "end": i + 1, "label": "PER", "region": i - 1} for i in range(2)]
    >>> relations = [{"head": 0, "tail": 1, "label": "peer"}]
    >>> gold = {"tags": ["B-PER", "B-PER"], "entities": entities, "relations": relations}
    >>> scores = JointMetric().compute(predictions=[{**gold, "relations": []}], references=[gold])
    >>> scores["strict_f1"], scores["grounded_f1"], scores["triple_f1"]
    (1.0, 1.0, 0.0)
    """

    def compute(
        self, *, predictions: Graphs, references: Graphs, on_gold: list[dict] | None = None
    ) -> dict[str, float]:
        """The scores of predicted graphs, see the class."""
        seen: list[Any] = [None] * len(references) if on_gold is None else on_gold
        posts = list(zip(predictions, references, seen, strict=True))
        scores = MNERMetric(keep_in_memory=True).compute(
            predictions=[post["tags"] for post in predictions], references=[post["tags"] for post in references]
        )
        # A post of one entity has no pair, which does not say that relations are annotated.
        has_relations = any(gold["relations"] is not None and len(gold["entities"]) > 1 for _, gold, _ in posts)
        related = [post for post in posts if has_relations and post[1]["relations"] is not None]
        has_regions = any(entity["region"] is not None for _, gold, _ in posts for entity in gold["entities"])
        grounded = [
            post
            for post in posts
            if has_regions and all(entity["region"] is not None for entity in post[1]["entities"])
        ]
        if related:
            scores |= score_sets("triple", ((triples(p, TYPED), triples(g, TYPED)) for p, g, _ in related))
            scores |= score_labels(related)
            scores |= score_sets("untyped_triple", ((triples(p, SPAN), triples(g, SPAN)) for p, g, _ in related))
        if related and on_gold is not None:
            for name, kind in (("relation", "relations"), ("typed_relation", "typed_relations")):
                scores |= score_sets(name, ((links(o[kind]), links(g["relations"])) for _, g, o in related))
        if has_regions and on_gold is not None:
            scores |= score_regions(posts)
        if grounded:
            both = ((entities(p, GROUNDED), entities(g, GROUNDED)) for p, g, _ in grounded)
            scores |= score_sets("grounded", both)
            whole = [post for post in grounded if has_relations and post[1]["relations"] is not None]
            if whole:
                scores |= score_sets("quintuple", ((triples(p, GROUNDED), triples(g, GROUNDED)) for p, g, _ in whole))
        return scores


def entities(graph: dict, fields: Sequence[str]) -> set[tuple]:
    """The entities of a graph by these fields."""
    return {tuple(entity[field] for field in fields) for entity in graph["entities"]}


def triples(graph: dict, fields: Sequence[str], label: str | None = None) -> set[tuple]:
    """The relations of a graph, with head and tail by these fields; only those with a label, where one is named."""
    ends = [tuple(entity[field] for field in fields) for entity in graph["entities"]]
    return {
        (ends[relation["head"]], ends[relation["tail"]], relation["label"])
        for relation in graph["relations"]
        if label in (None, relation["label"])
    }


def links(relations: list[dict]) -> set[tuple]:
    """Relations between numbered entities."""
    return {(relation["head"], relation["tail"], relation["label"]) for relation in relations}


def score_sets(name: str, pairs: Iterable[tuple[set, set]]) -> dict[str, float]:
    """Micro precision, recall and F1 of predicted and gold sets, one of each a post, called `name`_precision ..."""
    correct = predicted = gold = 0
    for found, expected in pairs:
        correct += len(found & expected)
        predicted += len(found)
        gold += len(expected)
    f1 = 2 * correct / max(predicted + gold, 1)
    return {
        f"{name}_precision": correct / max(predicted, 1),
        f"{name}_recall": correct / max(gold, 1),
        f"{name}_f1": f1,
    }


def score_labels(posts: list[tuple]) -> dict[str, float]:
    """Precision, recall, F1 and support of the strict triples of each label that is gold or predicted."""
    scores: dict[str, float] = {}
    for label in sorted({relation["label"] for post in posts for graph in post[:2] for relation in graph["relations"]}):
        sets = [(triples(p, TYPED, label), triples(g, TYPED, label)) for p, g, _ in posts]
        scores |= {f"{name}_{label}": value for name, value in score_sets("triple", sets).items()}
        scores[f"triple_support_{label}"] = float(sum(len(expected) for _, expected in sets))
    return scores


def score_regions(posts: list[tuple]) -> dict[str, float]:
    """The accuracy of the regions of gold entities: of all that are annotated, and of those that an object shows."""
    pairs = [
        (region, entity["region"])
        for _, gold, predicted in posts
        for region, entity in zip(predicted["regions"], gold["entities"], strict=True)
        if entity["region"] is not None
    ]
    right = [region == expected for region, expected in pairs]
    pointed = [region == expected for region, expected in pairs if expected >= 0]
    scores = {"region_accuracy": float(np.mean(right))}
    return scores | ({"region_accuracy_pointed": float(np.mean(pointed))} if pointed else {})


def joint_compute_metrics(names: list[str], relation_names: list[str]) -> ComputeMetrics:
    """The `compute_metrics` of an `I2SRMTrainer` for a joint model with these tags and relations."""
    metric = JointMetric()

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        predicted = read_predictions(prediction.predictions, names, relation_names)
        gold = read_labels(prediction.label_ids, prediction.predictions, names, relation_names)
        on_gold = [graph["on_gold"] for graph in predicted]
        return metric.compute(predictions=plain(predicted, gold), references=plain(gold, gold), on_gold=on_gold)

    return compute_metrics


def plain(graphs: Graphs, gold: Graphs) -> Graphs:
    """Graphs with what `JointMetric` takes; words that have no gold tag have none here."""
    return [
        {
            "tags": [tag for tag, known in zip(graph["tags"], reference["tags"], strict=True) if known is not None],
            "entities": [{field: entity[field] for field in GROUNDED} for entity in graph["entities"]],
            "relations": graph["relations"]
            and [{field: relation[field] for field in ("head", "tail", "label")} for relation in graph["relations"]],
        }
        for graph, reference in zip(graphs, gold, strict=True)
    ]


__all__ = ["JointMetric", "joint_compute_metrics"]
