"""Tests whether one model is better than another on the same posts: paired bootstrap and randomisation of the F1."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from seqeval.metrics.sequence_labeling import get_entities

from ..checks import no_relation_labels

RESAMPLES = 2000
BATCH_NUMBERS = 4_000_000  # counts in memory at a time


class Comparison(NamedTuple):
    """A difference of F1, the 95 % interval of a paired bootstrap, and the p of an approximate randomisation test."""

    difference: float
    low: float
    high: float
    p: float


def post_counts(records: Sequence[dict]) -> np.ndarray:
    """Count, for each post, the labels that are predicted and right, predicted, and gold: (posts, 3).

    Args:
        records: lines of predictions.jsonl, in which gold and predicted are lists of tags (entities, counted
            leniently), relations between head and tail ("None", or another name of it, is not counted), or labels of
            posts (all are counted, so that the F1 is the accuracy).
    """
    counts = np.zeros((len(records), 3))
    none: set[str] = set()
    if records and "head" in records[0]:  # a label of a post may be called negative
        names = {record[name] for record in records for name in ("gold", "predicted")}
        none = no_relation_labels(names | set(records[0].get("scores", ())))
    for row, record in zip(counts, records, strict=True):
        gold, predicted = (labels(record[name], none) for name in ("gold", "predicted"))
        row[:] = len(gold & predicted), len(predicted), len(gold)
    return counts


def labels(answer: str | list[str], none: set[str]) -> set:
    """The entities or the relation in a prediction or its gold."""
    if isinstance(answer, str):
        return {answer} - none
    return set(get_entities(answer))


def f1(counts: np.ndarray) -> np.ndarray:
    """The micro-F1 of summed counts (..., 3), between 0 and 1; 0 where nothing is predicted or gold."""
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    return 2 * right / np.maximum(predicted + gold, 1)


def compare(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], resamples: int = RESAMPLES) -> Comparison:
    """Compare the F1 of two models, each trained with the same seeds, on the same posts.

    The F1 is the mean over the seeds. Posts are drawn, or swapped between the models, with all their seeds: both tests
    estimate the variation over samples of posts, not over seeds.

    Args:
        ours, theirs: for each seed the `post_counts` of a model, the seeds in the same order.
        resamples: of the bootstrap and of the randomisation; if there are fewer ways to swap, all are tried.

    Raises:
        ValueError: the two differ in the number of seeds or posts.

    Example:

    >>> one = np.array([[1, 1, 1]] * 6 + [[0, 1, 1]] * 4)
    >>> compare([one], [one]).p
    1.0
    """
    first, second = np.stack(ours, 1), np.stack(theirs, 1)  # (posts, seeds, 3)
    if first.shape != second.shape:
        raise ValueError(
            f"{first.shape[0]} posts with {first.shape[1]} seeds against {second.shape[0]} with {second.shape[1]}: "
            "compare predictions of the same posts and seeds"
        )
    posts = len(first)
    both = np.concatenate([first, second])
    options = {
        "vectorized": True,
        "n_resamples": resamples,
        "batch": max(BATCH_NUMBERS // both.size, 1),
        "random_state": np.random.default_rng(0),
    }

    def mean_f1(rows: np.ndarray) -> np.ndarray:
        return f1(both[rows.astype(int)].sum(-3)).mean(-1)

    def difference_of(rows: np.ndarray, axis: int = -1) -> np.ndarray:
        return mean_f1(rows) - mean_f1(rows + posts)

    def difference_between(one: np.ndarray, other: np.ndarray, axis: int = -1) -> np.ndarray:
        return mean_f1(one) - mean_f1(other)

    rows = np.arange(posts)
    difference = float(difference_of(rows))
    if (first == second).all():  # scipy would warn of an interval of no width
        return Comparison(difference, 0.0, 0.0, 1.0)
    interval = stats.bootstrap((rows,), difference_of, method="percentile", **options).confidence_interval
    test = stats.permutation_test((rows, rows + posts), difference_between, permutation_type="samples", **options)
    return Comparison(difference, float(interval.low), float(interval.high), float(test.pvalue))


def adjusted(ps: Sequence[float]) -> list[float]:
    """p values after the correction of Benjamini and Hochberg for multiple tests."""
    return [float(p) for p in stats.false_discovery_control(list(ps))] if len(ps) else []


__all__ = ["Comparison", "adjusted", "compare", "f1", "post_counts"]
