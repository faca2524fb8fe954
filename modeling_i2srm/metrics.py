"""Metrics, as `evaluate.Metric` subclasses that need no download."""

import datasets
import evaluate
import numpy as np
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from transformers import EvalPrediction

IGNORE = -100


class MNERMetric(evaluate.Metric):
    """Entity precision, recall and F1 from tag sequences, lenient and strict, overall (micro) and per type.

    lenient: seqeval's default, the field's convention; an I- without a B- starts an entity. strict: only B- starts one.

    Returns of `compute`: a flat dict of lenient_precision, lenient_recall, lenient_f1, strict_..., and the same a type,
    e.g. lenient_f1_PER, with the number of gold entities lenient_support_PER. Values between 0 and 1.

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


def tag_sequences(tag_ids, labels, names: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Predicted and gold tag names of each sentence from id arrays (N, T); positions labelled -100 are left out."""
    predicted, gold = [], []
    for tags, row in zip(np.asarray(tag_ids), np.asarray(labels), strict=True):
        words = row != IGNORE
        predicted.append([names[i] for i in tags[words]])
        gold.append([names[i] for i in row[words]])
    return predicted, gold


def mner_compute_metrics(names: list[str]):
    """The `compute_metrics` of an `I2SRMTrainer` for tags with these names."""
    metric = MNERMetric(keep_in_memory=True)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        tag_ids, _ = prediction.predictions
        predicted, gold = tag_sequences(tag_ids, prediction.label_ids, names)
        return metric.compute(predictions=predicted, references=gold)

    return compute_metrics


__all__ = ["MNERMetric", "mner_compute_metrics", "tag_sequences"]
