import math
from pathlib import Path

import evaluate
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2
from transformers import EvalPrediction

from modeling_i2srm import MNERMetric, MREMetric, mner_compute_metrics, mre_compute_metrics
from modeling_i2srm.prepare.conll import read_conll
from modeling_i2srm.training.metrics import TagPredictions, classification_compute_metrics, tag_sequences

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")  # macro averages
metric = MNERMetric(keep_in_memory=True)


def compute(predicted: str, gold: str) -> dict:
    """Scores of sentences written as "B-PER I-PER / O"."""
    predictions, references = ([sentence.split() for sentence in text.split("/")] for text in (predicted, gold))
    return metric.compute(predictions=predictions, references=references)


def triple(scores: dict, mode: str, suffix: str = "") -> tuple:
    return tuple(round(scores[f"{mode}_{name}{suffix}"], 4) for name in ("precision", "recall", "f1"))


# predicted, gold, lenient and strict (precision, recall, F1), worked out by hand
@pytest.mark.parametrize(
    ("predicted", "gold", "lenient", "strict"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", (1, 1, 1), (1, 1, 1)),
        ("B-PER O O B-LOC", "B-PER I-PER O B-LOC", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # a part of an entity is wrong
        ("B-LOC I-LOC O O", "B-PER I-PER O B-LOC", (0, 0, 0), (0, 0, 0)),  # right place, wrong type
        ("O O O O", "B-PER I-PER O B-LOC", (0, 0, 0), (0, 0, 0)),
        ("B-PER B-LOC", "O O", (0, 0, 0), (0, 0, 0)),
        ("O O", "O O", (0, 0, 0), (0, 0, 0)),
        # An I- without a B- is an entity in the lenient mode only, in the prediction and in the gold tags.
        ("I-PER O B-LOC", "B-PER O B-LOC", (1, 1, 1), (1, 0.5, 0.6667)),
        ("B-PER O B-LOC", "I-PER O B-LOC", (1, 1, 1), (0.5, 1, 0.6667)),
        ("I-PER I-PER", "I-PER I-PER", (1, 1, 1), (0, 0, 0)),
        # A change of type within an entity.
        ("B-PER I-LOC", "B-PER B-LOC", (1, 1, 1), (1, 0.5, 0.6667)),
        # B- right after an entity starts another one.
        ("B-PER B-PER", "B-PER I-PER", (0, 0, 0), (0, 0, 0)),
        # Entities never reach over the end of a sentence; the order of sentences does not matter, their pairing does.
        ("O B-PER / I-PER O", "O B-PER / O O", (0.5, 1, 0.6667), (1, 1, 1)),
        ("B-PER / O", "O / B-PER", (0, 0, 0), (0, 0, 0)),
    ],
)
def test_hand_worked_scores(predicted, gold, lenient, strict):
    scores = compute(predicted, gold)
    assert triple(scores, "lenient") == lenient
    assert triple(scores, "strict") == strict
    assert {type(value) for value in scores.values()} == {float}


def test_scores_per_type_and_support():
    scores = compute("B-PER O B-PER O I-LOC B-ORG", "B-PER O O B-LOC B-LOC O")
    assert triple(scores, "lenient", "_PER") == triple(scores, "strict", "_PER") == (0.5, 1, 0.6667)
    assert triple(scores, "lenient", "_LOC") == (1, 0.5, 0.6667)
    assert triple(scores, "strict", "_LOC") == (0, 0, 0)
    assert triple(scores, "lenient", "_ORG") == (0, 0, 0)
    assert [scores[f"lenient_support_{name}"] for name in ("PER", "LOC", "ORG")] == [1, 2, 0]
    assert triple(scores, "lenient") == (0.5, 0.6667, 0.5714)  # micro: 2 of 4 predicted, 2 of 3 gold
    assert not any("avg" in name for name in scores)


sentences = st.lists(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=7), min_size=1)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(sentences)
@example([[]])
@example([[("I-PER", "B-PER")], [], [("I-LOC", "I-LOC"), ("B-LOC", "O")]])
def test_scores_are_those_of_seqeval_whatever_the_tags(pairs):
    predicted, gold = ([[pair[side] for pair in sentence] for sentence in pairs] for side in (0, 1))
    scores = metric.compute(predictions=predicted, references=gold)
    for mode, options in (("lenient", {}), ("strict", {"mode": "strict", "scheme": IOB2})):
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert scores[f"{mode}_{name}"] == pytest.approx(score(gold, predicted, zero_division=0, **options))
    assert not any(map(math.isnan, scores.values()))
    supports = sum(value for name, value in scores.items() if name.startswith("lenient_support"))
    assert supports == sum(len(get_entities(tags)) for tags in gold)


def test_is_an_evaluate_metric_that_takes_sentences_in_batches():
    assert isinstance(metric, evaluate.Metric)
    parts = MNERMetric(keep_in_memory=True)
    parts.add(prediction=["B-PER", "O"], reference=["B-PER", "O"])
    parts.add_batch(predictions=[["O"], ["I-LOC"]], references=[["B-PER"], ["B-LOC"]])
    assert parts.compute() == compute("B-PER O / O / I-LOC", "B-PER O / B-PER / B-LOC")
    with pytest.raises(ValueError, match="inconsistent"):
        compute("O", "O O")


def test_only_words_with_a_label_are_scored():
    labels = np.array([[-100, 1, -100, 2, 0, -100], [-100, 3, -100, -100, -100, -100], [-100] * 6])
    tag_ids = np.array([[-100, 1, 4, 2, 3, 4], [2, 4, 1, 1, -100, -100], [-100] * 6])
    assert tag_sequences(tag_ids, labels, TAGS) == (
        [["B-PER", "I-PER", "B-LOC"], ["I-LOC"], []],
        [["B-PER", "I-PER", "O"], ["B-LOC"], []],
    )
    scores = mner_compute_metrics(TAGS)(EvalPrediction((tag_ids, np.full(labels.shape, np.nan)), labels))
    assert scores == compute("B-PER I-PER B-LOC / I-LOC", "B-PER I-PER O / B-LOC")
    assert triple(scores, "lenient") == (0.6667, 1, 0.8)
    with pytest.raises(ValueError, match="zip"):
        tag_sequences(tag_ids, labels[:2], TAGS)


@pytest.mark.parametrize(("name", "strict", "lenient"), [("2015", 5072, 5207), ("2017", 1351, None)])
def test_entities_of_the_real_test_sets(shared_data: Path, name, strict, lenient):
    gold = [list(post.tags) for post in read_conll(shared_data / f"NER_data/twitter{name}/test.txt").posts]
    scores = metric.compute(predictions=gold, references=gold)
    assert scores["lenient_f1"] == scores["strict_f1"] == 1
    count = {m: sum(v for k, v in scores.items() if k.startswith(f"{m}_support")) for m in ("lenient", "strict")}
    assert count == {"lenient": lenient or strict, "strict": strict}


RELATIONS = ["None", "peer", "couple", "parent"]
mre_metric = MREMetric(keep_in_memory=True)


def relations(predicted: str, gold: str) -> dict:
    return mre_metric.compute(predictions=predicted.split(), references=gold.split())


# predicted, gold, accuracy, micro and macro (precision, recall, F1), worked out by hand
@pytest.mark.parametrize(
    ("predicted", "gold", "accuracy", "micro", "macro"),
    [
        ("peer None couple", "peer None couple", 1, (1, 1, 1), (1, 1, 1)),
        ("None None", "None None", 1, (0, 0, 0), (0, 0, 0)),  # there is nothing to find
        ("None None", "peer couple", 0, (0, 0, 0), (0, 0, 0)),
        ("peer peer", "None None", 0, (0, 0, 0), (0, 0, 0)),
        ("peer None peer", "peer peer None", 1 / 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("peer couple", "couple peer", 0, (0, 0, 0), (0, 0, 0)),
        ("peer None", "peer couple", 1 / 2, (1, 1 / 2, 2 / 3), (1 / 2, 1 / 2, 1 / 2)),  # couple counts, and is 0
        # peer 2 of 3 right, 2 of 2 found; couple 1 of 1, 1 of 2; parent is predicted and never gold.
        (
            "peer peer peer couple parent None",
            "peer peer None couple couple None",
            4 / 6,
            (3 / 5, 3 / 4, 2 / 3),
            (5 / 6, 3 / 4, (4 / 5 + 2 / 3) / 2),
        ),
    ],
)
def test_hand_worked_relation_scores(predicted, gold, accuracy, micro, macro):
    scores = relations(predicted, gold)
    assert scores["accuracy"] == pytest.approx(accuracy)
    for kind, expected in (("micro", micro), ("macro", macro)):
        assert [scores[f"{kind}_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
    assert {type(value) for value in scores.values()} == {float}


def test_relation_scores_of_each_relation():
    scores = relations("peer peer couple None", "peer None couple couple")
    assert (scores["precision_peer"], scores["recall_peer"], scores["support_peer"]) == (0.5, 1, 1)
    assert scores["f1_couple"] == pytest.approx(2 / 3) and scores["support_couple"] == 2
    assert not [name for name in scores if name.endswith(("_None", "_parent"))]


@given(pairs=st.lists(st.tuples(*[st.sampled_from(RELATIONS)] * 2), min_size=1, max_size=30))
@settings(deadline=None, derandomize=True)
def test_relation_micro_scores_are_those_of_a_plain_count(pairs):
    scores = mre_metric.compute(predictions=[p for p, _ in pairs], references=[g for _, g in pairs])
    hits = sum(p == g != "None" for p, g in pairs)
    found, there = sum(p != "None" for p, _ in pairs), sum(g != "None" for _, g in pairs)
    assert scores["micro_precision"] == pytest.approx(hits / found if found else 0)
    assert scores["micro_recall"] == pytest.approx(hits / there if there else 0)
    assert scores["micro_f1"] == pytest.approx(2 * hits / (found + there) if found + there else 0)


def test_relations_are_taken_from_logits():
    logits = np.array([[0.1, 3.0, 0.2, 0.0], [5.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.1, 2.0]])
    named = [{"None": "no_relation"}.get(name, name) for name in RELATIONS]
    answers = EvalPrediction(predictions=logits, label_ids=np.array([1, 0, 2]))
    assert mre_compute_metrics(named)(answers) == mre_compute_metrics(RELATIONS)(answers)
    scores = mre_compute_metrics(RELATIONS)(EvalPrediction(predictions=logits, label_ids=np.array([1, 0, 2])))
    assert scores == relations("peer None parent", "peer None couple")


def test_what_occurs_does_not_decide_which_label_is_no_relation():
    names = ["None", "Other", "peer"]
    one_hot = np.eye(3)
    scores = mre_compute_metrics(names)(EvalPrediction(predictions=one_hot[[1, 1, 2]], label_ids=np.array([1, 1, 1])))
    assert scores["micro_f1"] == pytest.approx(2 / 3) and "f1_Other" in scores


@pytest.mark.parametrize(
    ("make", "predictions"),
    [
        (mner_compute_metrics, (np.array([[1, 0]]), None)),
        (mre_compute_metrics, np.eye(2)),
        (classification_compute_metrics, np.eye(2)),
    ],
)
def test_scores_are_computed_in_memory(tmp_path, monkeypatch, make, predictions):
    """Evaluation writes no file: a home that is read-only or shared by several runs will do."""
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)
    labels = np.array([[1, 0]]) if make is mner_compute_metrics else np.array([0, 1])
    assert 1.0 in make(["O", "B-PER"])(EvalPrediction(predictions, labels)).values()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_predicted_tags_are_read_like_logits():
    predictions = TagPredictions((np.array([[1, 0, -100], [3, -100, -100]]), np.zeros((2, 3))))
    expected = [[1, 0, 0], [3, 0, 0]]
    for found in (predictions.argmax(2), predictions.argmax(-1), predictions.argmax(dim=-1), np.argmax(predictions, 2)):
        assert found.tolist() == expected
    for axis in (None, 0, 1, 3):
        with pytest.raises(ValueError, match=f"argmax over axis {axis} of predicted tags"):
            predictions.argmax(axis)
    array = np.asarray(predictions)
    assert array.dtype == np.float32 and np.array_equal(array, np.eye(4, dtype=np.float32)[expected])
    assert np.asarray(predictions, dtype=np.int64).dtype == np.int64
    assert np.asarray(TagPredictions((np.zeros((0, 2), dtype=int),))).shape == (0, 2, 1)
