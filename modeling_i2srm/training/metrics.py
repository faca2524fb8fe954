"""Metrics, as `evaluate.Metric` subclasses that need no download."""

from collections.abc import Callable

import datasets
import evaluate
import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from sklearn.metrics import precision_recall_fscore_support
from transformers import EvalPrediction

from ..checks import IGNORE, NO_RELATION, no_relation_labels

ComputeMetrics = Callable[[EvalPrediction], dict[str, float]]


class TagPredictions(tuple):
    """What an `I2SRMTrainer` predicts of words: (tag ids, their scores, scores of the entities), each (N, T).

    Where there is not a word it is -100. The score of an entity stands at its first word, other words have -100.

    The tags are decoded already. As an array it is (N, T, labels), 1 at the decoded tag, so that a `compute_metrics`
    which takes logits, with `np.argmax(predictions, axis=2)`, gets the decoded tags too.

    >>> predictions = TagPredictions((np.array([[1, 0, -100]]), np.array([[0.9, 0.8, -100.0]])))
    >>> np.argmax(predictions, axis=2).tolist(), np.asarray(predictions).shape
    ([[1, 0, 0]], (1, 3, 2))
    """

    def argmax(self, axis: int | None = None, out: None = None, *, dim: int | None = None) -> np.ndarray | torch.Tensor:
        """The decoded tags (N, T), 0 where there is not a word; raises `ValueError` for an axis but the last one."""
        axis = dim if axis is None else axis
        if axis not in (2, -1):
            raise ValueError(
                f"argmax over axis {axis} of predicted tags (N, T, labels): use np.argmax(predictions, axis=2)"
            )
        return self[0].clip(min=0)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        tags = np.asarray(self.argmax(-1))
        return np.eye(tags.max(initial=0) + 1, dtype=dtype or np.float32)[tags]


class MNERMetric(evaluate.Metric):
    """Entity precision, recall and F1 from tag sequences, lenient and strict, overall (micro) and per type.

    lenient: seqeval's default, the field's convention; an I- without a B- starts an entity. strict: only B- starts one.

    Returns of `compute`: a flat dict of `lenient_precision`, `lenient_recall`, `lenient_f1`, the same with `strict_`,
    and the same a type, e.g. `lenient_f1_PER`, with the number of gold entities `lenient_support_PER`. Values between 0
    and 1.

    Example:

    >>> metric = MNERMetric(keep_in_memory=True)
    >>> scores = metric.compute(predictions=[["B-PER", "O", "I-LOC"]], references=[["B-PER", "O", "B-LOC"]])
    >>> scores["lenient_f1"], round(scores["strict_f1"], 3)
    (1.0, 0.667)
    """

    def _info(self):
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions, references: one list of BIO tags a sentence",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references):
        scores = {}
        for mode, options in (("lenient", {}), ("strict", {"mode": "strict", "scheme": IOB2})):
            report = classification_report(references, predictions, output_dict=True, zero_division=0, **options)
            overall = report.pop("micro avg")
            for name in ("precision", "recall", "f1"):
                scores[f"{mode}_{name}"] = float(overall[_REPORT_NAMES.get(name, name)])
            for entity_type, values in report.items():
                if entity_type in ("macro avg", "weighted avg"):
                    continue
                for name in ("precision", "recall", "f1", "support"):
                    scores[f"{mode}_{name}_{entity_type}"] = float(values[_REPORT_NAMES.get(name, name)])
        return scores


_REPORT_NAMES = {"f1": "f1-score"}


def tag_sequences(tag_ids: ArrayLike, labels: ArrayLike, names: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Predicted and gold tag names of each sentence from id arrays (N, T); positions labelled -100 are left out."""
    predicted, gold = [], []
    for tags, row in zip(np.asarray(tag_ids), np.asarray(labels), strict=True):
        words = row != IGNORE
        predicted.append([names[i] for i in tags[words]])
        gold.append([names[i] for i in row[words]])
    return predicted, gold


def mner_compute_metrics(names: list[str]) -> ComputeMetrics:
    """The `compute_metrics` of an `I2SRMTrainer` for tags with these names."""
    metric = MNERMetric(keep_in_memory=True)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        tag_ids = prediction.predictions[0]  # the second array holds their scores
        predicted, gold = tag_sequences(tag_ids, prediction.label_ids, names)
        return metric.compute(predictions=predicted, references=gold)

    return compute_metrics


class MREMetric(evaluate.Metric):
    """Accuracy over all pairs, and precision, recall and F1 of the relations, "None" left out: micro, macro, each.

    Other names of "None", such as no_relation and NA, are recognised (`checks.no_relation_labels`); `compute` takes
    `none_label="rest"` for a name that is not. Micro-F1 without "None" is the field's metric. Macro is the mean over
    the relations that occur among the gold ones.

    Returns of `compute`: a flat dict of `accuracy`, `micro_precision`, `micro_recall`, `micro_f1`, `macro_precision`,
    `macro_recall`, `macro_f1`, and for each relation that is gold or predicted e.g. `f1_/per/per/peer`, with its number
    of gold pairs `support_/per/per/peer`. Values between 0 and 1.

    Example:

    >>> metric = MREMetric(keep_in_memory=True)
    >>> scores = metric.compute(predictions=["peer", "None", "peer"], references=["peer", "peer", "None"])
    >>> scores["micro_f1"], round(scores["accuracy"], 3)
    (0.5, 0.333)
    """

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions, references: the name of one relation a pair",
            features=datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")}),
        )

    def _compute(self, predictions, references, none_label=None):
        none = {none_label} if none_label is not None else no_relation_labels({*references, *predictions})
        both = ([NO_RELATION if name in none else name for name in names] for names in (references, predictions))
        gold, predicted = both
        scores = {"accuracy": float(np.mean([a == b for a, b in zip(predicted, gold, strict=True)]))}
        relations = sorted({*gold, *predicted} - {NO_RELATION})
        names = ("precision", "recall", "f1")
        if not relations:
            return scores | {f"{kind}_{name}": 0.0 for kind in ("micro", "macro") for name in names}
        options = {"labels": relations, "zero_division": 0}
        micro = precision_recall_fscore_support(gold, predicted, average="micro", **options)
        each = precision_recall_fscore_support(gold, predicted, average=None, **options)
        occurs = each[3] > 0
        for name, over_all, values in zip(names, micro, each, strict=False):
            scores[f"micro_{name}"] = float(over_all)
            scores[f"macro_{name}"] = float(values[occurs].mean()) if occurs.any() else 0.0
        for name, values in zip((*names, "support"), each, strict=True):
            scores |= {f"{name}_{relation}": float(v) for relation, v in zip(relations, values, strict=True)}
        return scores


class ClassificationMetric(evaluate.Metric):
    """Accuracy, and precision, recall and F1 of the labels of posts: macro, and of each label.

    Macro is the mean over the labels that are gold or predicted, as scikit-learn's.

    Returns of `compute`: a flat dict of accuracy, macro_precision, macro_recall, macro_f1, and for each such label e.g.
    f1_happy with its number of gold posts support_happy. Values between 0 and 1.

    Example:

    >>> metric = ClassificationMetric(keep_in_memory=True)
    >>> scores = metric.compute(predictions=["happy", "sad", "happy"], references=["happy", "sad", "sad"])
    >>> round(scores["accuracy"], 3), round(scores["macro_f1"], 3)
    (0.667, 0.667)
    """

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions, references: the name of one label per post",
            features=datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")}),
        )

    def _compute(self, predictions, references):
        gold, predicted = list(references), list(predictions)
        scores = {"accuracy": float(np.mean([a == b for a, b in zip(predicted, gold, strict=True)]))}
        labels = sorted({*gold, *predicted})
        each = precision_recall_fscore_support(gold, predicted, labels=labels, average=None, zero_division=0)
        for name, values in zip(("precision", "recall", "f1", "support"), each, strict=True):
            if name != "support":
                scores[f"macro_{name}"] = float(values.mean())
            scores |= {f"{name}_{label}": float(value) for label, value in zip(labels, values, strict=True)}
        return scores


def mre_compute_metrics(names: list[str]) -> ComputeMetrics:
    """The `compute_metrics` of an `I2SRMTrainer` for relations, of which one may be no relation."""
    none = no_relation_labels(names)
    plain = [NO_RELATION if name in none else name for name in names]
    # Not what occurs in the rows decides which label is no relation.
    return compute_best_labels(MREMetric(keep_in_memory=True), plain, none_label=NO_RELATION)


def classification_compute_metrics(names: list[str]) -> ComputeMetrics:
    """The `compute_metrics` of an `I2SRMTrainer` for labels of posts with these names."""
    return compute_best_labels(ClassificationMetric(keep_in_memory=True), names)


def compute_best_labels(metric: evaluate.Metric, names: list[str], **options: str) -> ComputeMetrics:
    """A `compute_metrics` that gives a metric the names of the best and of the gold labels, and options."""

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        predicted, gold = np.asarray(prediction.predictions).argmax(-1), prediction.label_ids
        labels = {"predictions": [names[i] for i in predicted], "references": [names[i] for i in gold]}
        return metric.compute(**labels, **options)

    return compute_metrics


__all__ = [
    "ClassificationMetric",
    "MNERMetric",
    "MREMetric",
    "TagPredictions",
    "classification_compute_metrics",
    "mner_compute_metrics",
    "mre_compute_metrics",
    "tag_sequences",
]
