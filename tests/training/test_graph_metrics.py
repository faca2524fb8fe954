"""Metrics of graphs against brute force on random small graphs, and what is left out where it is not annotated."""

import numpy as np
import pytest

from modeling_i2srm.training.graph_metrics import JointMetric

TYPES, LABELS = ["PER", "LOC"], ["peer", "lives_in"]
FIELDS = {
    "triple": ("start", "end", "label"),
    "untyped_triple": ("start", "end"),
    "quintuple": ("start", "end", "label", "region"),
}


def tags_of(entities: list[dict], words: int) -> list[str]:
    tags = ["O"] * words
    for entity in entities:
        for word in range(entity["start"], entity["end"]):
            tags[word] = f"{'B' if word == entity['start'] else 'I'}-{entity['label']}"
    return tags


def random_graph(generator: np.random.Generator, words: int) -> dict:
    """Entities of one or two words, and a relation between some of them."""
    entities, start = [], 0
    while start < words:
        end = min(start + int(generator.integers(1, 3)), words)
        if generator.random() < 0.6:
            region = int(generator.integers(-1, 2))
            entities.append({"start": start, "end": end, "label": str(generator.choice(TYPES)), "region": region})
        start = end + int(generator.integers(0, 2))
    return {"tags": tags_of(entities, words), "entities": entities, "relations": random_relations(generator, entities)}


def random_relations(generator: np.random.Generator, entities: list[dict]) -> list[dict]:
    return [
        {"head": head, "tail": tail, "label": str(generator.choice(LABELS))}
        for head in range(len(entities))
        for tail in range(len(entities))
        if head != tail and generator.random() < 0.4
    ]


def near(generator: np.random.Generator, graph: dict) -> dict:
    """A graph like another one: each entity and relation may be changed or left out."""
    entities, numbers = [], {}
    for number, entity in enumerate(graph["entities"]):
        if generator.random() < 0.85:
            numbers[number] = len(entities)
            changes = {"label": str(generator.choice(TYPES))} if generator.random() < 0.2 else {}
            changes |= {"region": int(generator.integers(-1, 2))} if generator.random() < 0.2 else {}
            entities.append({**entity, **changes})
    relations = [
        {"head": numbers[one["head"]], "tail": numbers[one["tail"]], "label": str(generator.choice(LABELS))}
        for one in graph["relations"]
        if {one["head"], one["tail"]} <= numbers.keys() and generator.random() < 0.9
    ]
    return {"tags": tags_of(entities, len(graph["tags"])), "entities": entities, "relations": relations}


@pytest.fixture(params=range(4))
def posts(request) -> tuple[list[dict], list[dict], list[dict]]:
    """Predicted graphs, gold graphs, and what is predicted of the gold entities."""
    generator = np.random.default_rng(request.param)
    gold = [random_graph(generator, int(generator.integers(1, 8))) for _ in range(30)]
    predicted = [near(generator, graph) for graph in gold]
    on_gold = [
        {
            "relations": [one for one in graph["relations"] if generator.random() < 0.7],
            "typed_relations": random_relations(generator, graph["entities"]),
            "regions": [int(generator.integers(-1, 2)) for _ in graph["entities"]],
        }
        for graph in gold
    ]
    return predicted, gold, on_gold


def f1_by_hand(right: int, predicted: int, gold: int) -> tuple[float, float, float]:
    precision, recall = right / predicted if predicted else 0.0, right / gold if gold else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0


def assert_scores(scores: dict, name: str, right: int, predicted: int, gold: int):
    found = [scores[f"{name}_{kind}"] for kind in ("precision", "recall", "f1")]
    assert found == pytest.approx(f1_by_hand(right, predicted, gold))


def same_relation(one: dict, graph: dict, other: dict, other_graph: dict, fields: tuple) -> bool:
    """Whether two relations have one label, and heads and tails that agree in these fields."""
    ends = [(graph["entities"][one[end]], other_graph["entities"][other[end]]) for end in ("head", "tail")]
    return one["label"] == other["label"] and all(a[field] == b[field] for a, b in ends for field in fields)


@pytest.mark.parametrize("name", FIELDS)
def test_triples(posts, name):
    predicted, gold, on_gold = posts
    scores = JointMetric().compute(predictions=predicted, references=gold, on_gold=on_gold)
    right = {label: 0 for label in LABELS}
    for found, expected in zip(predicted, gold, strict=True):
        for one in found["relations"]:
            right[one["label"]] += any(
                same_relation(one, found, other, expected, FIELDS[name]) for other in expected["relations"]
            )
    counts = [[one["label"] for graph in graphs for one in graph["relations"]] for graphs in (predicted, gold)]
    assert_scores(scores, name, sum(right.values()), *map(len, counts))
    if name == "triple":
        for label in LABELS:
            by_hand = f1_by_hand(right[label], *(count.count(label) for count in counts))
            assert scores[f"triple_f1_{label}"] == pytest.approx(by_hand[2])
            assert scores[f"triple_support_{label}"] == counts[1].count(label)


@pytest.mark.parametrize("name", ["relation", "typed_relation"])
def test_relations_of_gold_entities(posts, name):
    predicted, gold, on_gold = posts
    scores = JointMetric().compute(predictions=predicted, references=gold, on_gold=on_gold)
    found = [post[f"{name}s"] for post in on_gold]
    right = sum(one in graph["relations"] for relations, graph in zip(found, gold, strict=True) for one in relations)
    assert_scores(scores, name, right, sum(map(len, found)), sum(len(graph["relations"]) for graph in gold))


def test_regions_and_grounded_entities(posts):
    predicted, gold, on_gold = posts
    scores = JointMetric().compute(predictions=predicted, references=gold, on_gold=on_gold)
    entities = [entity for graph in gold for entity in graph["entities"]]
    regions = [region for post in on_gold for region in post["regions"]]
    right = [entity["region"] == region for entity, region in zip(entities, regions, strict=True)]
    pointed = [is_right for is_right, entity in zip(right, entities, strict=True) if entity["region"] != -1]
    assert scores["region_accuracy"] == pytest.approx(sum(right) / len(right))
    assert scores["region_accuracy_pointed"] == pytest.approx(sum(pointed) / len(pointed))
    found = [entity for graph in predicted for entity in graph["entities"]]
    both = sum(
        one in graph["entities"] for post, graph in zip(predicted, gold, strict=True) for one in post["entities"]
    )
    assert_scores(scores, "grounded", both, len(found), len(entities))


def test_entities(posts):
    """Each entity of these graphs begins with B-, so that lenient and strict scores are the same."""
    predicted, gold, _ = posts
    scores = JointMetric().compute(predictions=predicted, references=gold)
    typed = [
        [[(entity["start"], entity["end"], entity["label"]) for entity in graph["entities"]] for graph in graphs]
        for graphs in (predicted, gold)
    ]
    right = sum(entity in expected for found, expected in zip(*typed, strict=True) for entity in found)
    for name in ("lenient", "strict"):
        assert_scores(scores, name, right, *(sum(map(len, graphs)) for graphs in typed))
    assert not {"relation_f1", "region_accuracy"} & scores.keys()  # nothing is said of the gold entities


def entity(start: int, label: str = "PER", region: int | None = -1) -> dict:
    return {"start": start, "end": start + 1, "label": label, "region": region}


def graph(*entities: dict, relations: list | None = ()) -> dict:
    relations = None if relations is None else [{"head": h, "tail": t, "label": label} for h, t, label in relations]
    return {"tags": tags_of(entities, 3), "entities": list(entities), "relations": relations}


def test_what_is_not_annotated_is_left_out():
    gold = graph(entity(0), entity(1, region=None), relations=None)
    predicted = graph(entity(0), entity(1), relations=[(0, 1, "peer")])
    on_gold = {"relations": [], "typed_relations": [], "regions": [-1, 0]}
    scores = JointMetric().compute(predictions=[predicted], references=[gold], on_gold=[on_gold])
    assert scores["strict_f1"] == scores["region_accuracy"] == 1
    left_out = ("triple_f1", "relation_f1", "grounded_f1", "quintuple_f1", "region_accuracy_pointed")
    assert [name for name in left_out if name in scores] == []
    both = graph(entity(0), entity(1), relations=[(0, 1, "peer")])
    seen = {"relations": [], "typed_relations": [], "regions": [-1, -1]}
    scores = JointMetric().compute(predictions=[predicted, both], references=[gold, both], on_gold=[on_gold, seen])
    assert scores["triple_precision"] == scores["quintuple_f1"] == scores["grounded_f1"] == 1
    assert scores["relation_f1"] == 0 and scores["region_accuracy"] == 1


def test_entities_without_an_object_are_grounded_where_none_is_predicted():
    gold, wrong = graph(entity(0), entity(1, region=1)), graph(entity(0, region=0), entity(1, region=1))
    scores = JointMetric().compute(predictions=[wrong], references=[gold])
    assert scores["grounded_f1"] == 0.5 and scores["strict_f1"] == 1
