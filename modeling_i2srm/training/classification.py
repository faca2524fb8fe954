"""Classification of posts as a `Task` of the training scripts: one label a post, e.g. its sentiment."""

from functools import partial

import numpy as np
from datasets import ClassLabel, Features

from ..modeling_i2srm import I2SRMForSequenceClassification
from .metrics import classification_compute_metrics
from .report import draw_confusion
from .run import Task


def label_names(features: Features, dataset: str) -> list[str]:
    """The labels of a data set; raises `ValueError` for anything but a ClassLabel of two or more."""
    label = features["label"]
    if not isinstance(label, ClassLabel):
        raise ValueError(
            f"{dataset}: column 'label' is {label}, expected a ClassLabel; e.g. dataset.class_encode_column(\"label\")"
        )
    if len(label.names) < 2:
        raise ValueError(f"{dataset}: the labels are {label.names}, expected two or more")
    return list(label.names)


def encode(processor, row: dict, max_length: int, pieces=None) -> dict:
    return processor.encode_post(row["tokens"], row["label"], max_length=max_length, pieces=pieces)


def label_records(split, output, names: list[str], columns: tuple[str, ...], label: str) -> list[dict]:
    """A dict a row: id, the columns, gold and predicted label, its score, and the score of each label.

    Args:
        split: the data set.
        output: what the trainer predicted, logits (N, num_labels).
        label: the column of the gold labels.
    """
    logits = np.asarray(output.predictions, dtype=np.float64)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    ids = split["id"] if "id" in split.column_names else [str(i) for i in range(len(split))]
    records = []
    for row_id, *values, gold, row in zip(ids, *(split[name] for name in (*columns, label)), scores, strict=True):
        best = int(row.argmax())
        records.append(
            {
                "id": row_id,
                **dict(zip(columns, values, strict=True)),
                "gold": names[gold],
                "predicted": names[best],
                "score": round(float(row[best]), 4),
                "scores": {name: round(float(score), 4) for name, score in zip(names, row, strict=True)},
            }
        )
    return records


def prediction_records(split, output, names: list[str]) -> list[dict]:
    """A dict a post: id, tokens, gold and predicted label, its score, and the score of each label."""
    return label_records(split, output, names, ("tokens",), "label")


def describe(record: dict) -> str:
    """The label of a post, in a line of words."""
    return f"{record['predicted']} ({record['score']:.2f}; gold: {record['gold']})"


CLASSIFICATION = Task(
    name="classification",
    model_class=I2SRMForSequenceClassification,
    text_columns=("tokens", "label"),
    label_names=label_names,
    encode=encode,
    lost_labels=lambda row, words_lost, names: 0,  # a post keeps its label
    compute_metrics=classification_compute_metrics,
    prediction_records=prediction_records,
    describe=describe,
    main_metrics=("macro_f1", "accuracy"),
    type_metrics=("f1",),
    plain_text=True,
    draw=partial(draw_confusion, labels="labels", rows="posts"),
)

__all__ = ["CLASSIFICATION", "label_records"]
