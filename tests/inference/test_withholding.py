"""Extractors with a coverage: what they keep, what they withhold, and how it is written."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import SENTENCES, assert_same, tiny_pipeline

from modeling_i2srm.inference.corpus import CorpusArguments, extract_corpus
from modeling_i2srm.inference.explanation import explain
from modeling_i2srm.inference.extraction import Extraction, Extractor
from modeling_i2srm.inference.html import notes
from modeling_i2srm.training.abstention import coverage_interval, fit_abstention

WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})


def random_posts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 7)) for _ in range(count)]


def as_records(extractions: list[Extraction]) -> list[dict]:
    """Predictions of a joint model, all of them right."""
    records = []
    for values in (one.to_dict() for one in extractions):
        entities = [{name: one[name] for name in ("start", "end", "label")} for one in values["entities"]]
        records.append({**values, "gold": {"entities": entities, "relations": values["relations"]}})
    return records


@pytest.fixture(scope="module")
def calibrated():
    """A joint pipeline with score limits from random posts, all of whose answers count as right."""
    pipe = tiny_pipeline("joint")
    held_out = Extractor(pipe)(random_posts(80, seed=0), batch_size=80)
    pipe.model.config.abstention = fit_abstention(as_records(held_out))
    return pipe


def test_the_share_that_is_kept_is_in_its_interval(calibrated):
    posts = random_posts(80, seed=1)
    extractions, every = (Extractor(calibrated, **c)(posts, 80) for c in ({"coverage": 0.9}, {}))
    limits = calibrated.model.config.abstention
    kept, total = (sum(len(one.entities) for one in some) for some in (extractions, every))
    low, high = coverage_interval(limits["entities"]["count"], total, 90)
    assert total > 150 and low <= kept / total <= high
    for one, full in zip(extractions, every, strict=True):
        ordered = one.entities + one.withheld.entities
        assert sorted(ordered, key=lambda e: e.start) == full.entities  # nothing is lost
        triples = {(ordered[r.head], r.label, ordered[r.tail], r.score) for r in one.relations + one.withheld.relations}
        assert triples == {(full.entities[r.head], r.label, full.entities[r.tail], r.score) for r in full.relations}
        for relation in one.relations:
            assert max(relation.head, relation.tail) < len(one.entities)
            assert round(relation.score, 4) >= limits["relations"]["limits"]["0.9"]
    assert sum(len(one.withheld.relations) for one in extractions) > 5


def unsure(extractor: Extractor) -> tuple[str, Extraction]:
    """The first post of which an entity and a relation are withheld and others kept."""
    posts = random_posts(20, seed=1)
    for post, one in zip(posts, extractor(posts), strict=True):
        if one.entities and one.withheld.entities and one.withheld.relations:
            return post, one
    raise AssertionError("no such post")


def test_what_is_withheld_is_written_read_and_explained(calibrated):
    extractor = Extractor(calibrated, coverage=0.8)
    post, one = unsure(extractor)
    values = json.loads(one.to_json())
    assert len(values["withheld"]["entities"]) == len(one.withheld.entities)
    assert values["withheld"]["entities"][0].keys() >= {"start", "end", "label", "score", "region"}
    assert Extraction.from_dict(values) == one and Extraction.from_dict(values).to_dict() == values
    assert "withheld" not in one.to_earlier_dict() and "withheld" not in Extractor(calibrated)(post).to_dict()
    tokens = extractor({"tokens": post.split()}).to_dict()
    assert max(entity["end"] for entity in tokens["withheld"]["entities"]) <= 7
    count = len(one.withheld.entities) + len(one.withheld.relations)
    assert notes(one) == [f"entities and relations that are not sure, withheld: {count}"]
    explanation = explain(extractor, post)
    assert_same(explanation.extraction.to_dict(), one.to_dict())
    assert len(explanation.entities) == len(one.entities) and len(explanation.relations) == len(one.relations)
    assert len(explanation.extraction.withheld.entities) == len(one.withheld.entities)


def test_a_corpus_lists_and_counts_what_is_withheld(calibrated, tmp_path):
    extractor = Extractor(calibrated, coverage=0.8)
    posts = random_posts(8, seed=2)
    (tmp_path / "posts.jsonl").write_text("\n".join(json.dumps({"text": post}) for post in posts))
    settings = {"input": [str(tmp_path / "posts.jsonl")], "output": str(tmp_path / "out"), "ner": "unused"}
    settings |= {"use_cpu": True, "disable_tqdm": True, "output_format": "parquet", "coverage": 0.8}
    summary = extract_corpus(CorpusArguments(**settings), extractor)
    expected = extractor(posts)
    for name in ("entities", "relations"):
        assert summary[f"{name}_withheld"] == sum(len(getattr(one.withheld, name)) for one in expected) > 0
        assert summary[name] == sum(len(getattr(one, name)) for one in expected)
    [part] = (tmp_path / "out").glob("part-*.jsonl")
    rows = [json.loads(line)["withheld"] for line in part.read_text().splitlines()]
    assert [len(row["entities"]) for row in rows] == [len(one.withheld.entities) for one in expected]
    table = pq.read_table(tmp_path / "out" / "answers.parquet").column("withheld").to_pylist()
    assert [len(row["relations"]) for row in table] == [len(row["relations"]) for row in rows]
    with pytest.raises(ValueError, match="--coverage 0.8 there, None here"):
        extract_corpus(CorpusArguments(**{**settings, "coverage": None}), Extractor(calibrated))


def test_two_models_withhold_by_their_own_limits():
    ner, relate = tiny_pipeline("entities"), tiny_pipeline("relations")
    posts = random_posts(6, seed=3)
    every = Extractor(ner, relate)(posts)
    scores = sorted(entity.score for one in every for entity in one.entities)
    limits = {"entities": scores[len(scores) // 2], "relations": 0.5}
    for pipe, kind in ((ner, "entities"), (relate, "relations")):
        pipe.model.config.abstention = {kind: {"count": 99, "limits": {"0.99": round(limits[kind], 4)}}}
    extractor = Extractor(ner, relate, coverage=0.9)
    for one, full in zip(extractor(posts), every, strict=True):
        kept = [entity for entity in full.entities if round(entity.score, 4) >= extractor.limits["entities"]]
        assert [replace(e, score=0) for e in one.entities] == [replace(e, score=0) for e in kept]
        assert all(relation.score >= 0.49995 for relation in one.relations)
        assert all(relation.score < 0.49995 for relation in one.withheld.relations)  # asked of kept entities alone
        assert len(one.entities) + len(one.withheld.entities) == len(full.entities)
    with pytest.raises(ValueError, match="no score limits of relations"):
        Extractor(ner, tiny_pipeline("relations"), coverage=0.9)
    assert Extractor(ner, coverage=0.9)(SENTENCES[0]).withheld.relations == []


def test_the_server_withholds_too(calibrated, tmp_path):
    pytest.importorskip("fastapi", reason="the server needs fastapi: pip install '.[serve]'")
    from fastapi.testclient import TestClient

    from modeling_i2srm.cli.serve import ServeArguments, load_extractor
    from modeling_i2srm.inference.server import make_app

    calibrated.save_pretrained(tmp_path)
    arguments = ServeArguments(ner=str(tmp_path), coverage=0.9, device="cpu")
    extractor = load_extractor(arguments)
    posts = [{"text": text} for text in random_posts(10, seed=1)]
    with TestClient(make_app(extractor, arguments)) as client:
        answers = [client.post("/extract", json=post).json() for post in posts]
    assert answers == [extractor(post).to_dict() for post in posts]
    assert sum(len(answer["withheld"]["entities"]) for answer in answers) > 0
