"""Multimodal relation extraction as a `Task` of the training scripts."""

from datasets import ClassLabel, Features

from ..configuration_i2srm import NO_RELATION
from ..modeling_i2srm import I2SRMForRelationClassification
from .classification import label_records
from .metrics import mre_compute_metrics
from .report import draw_confusion
from .run import Task


def label_names(features: Features, dataset: str) -> list[str]:
    """The relations of a data set, None first; raises `ValueError` for anything else."""
    label = features["relation"]
    if not isinstance(label, ClassLabel):
        raise ValueError(
            f"{dataset}: column 'relation' is {label}, expected a ClassLabel; e.g. "
            'dataset.class_encode_column("relation"), or cast_column with ClassLabel(names=["None", "peer"])'
        )
    if label.names[0] != NO_RELATION:
        raise ValueError(
            f"{dataset}: the relations are {label.names}; expected {NO_RELATION!r}, for no relation, first: it is left "
            'out of the F1, e.g. ["None", "/per/per/peer"]'
        )
    return list(label.names)


def encode(processor, row: dict, max_length: int, pieces=None) -> dict:
    labels = row["head"], row["tail"], row["relation"]
    return processor.encode_pair(row["tokens"], *labels, max_length=max_length, pieces=pieces)


def prediction_records(split, output, names: list[str]) -> list[dict]:
    """A dict a pair: id, tokens, head, tail, gold and predicted relation, its score, and the score of each relation."""
    return label_records(split, output, names, ("tokens", "head", "tail"), "relation")


def describe(record: dict) -> str | None:
    """A pair that was found to be related, in a line of words."""
    if record["predicted"] == NO_RELATION:
        return None
    head, tail = (" ".join(record["tokens"][record[e]["start"] : record[e]["end"]]) for e in ("head", "tail"))
    return f"{head}, {tail}: {record['predicted']} ({record['score']:.2f}; gold: {record['gold']})"


MRE = Task(
    name="mre",
    model_class=I2SRMForRelationClassification,
    text_columns=("tokens", "head", "tail", "relation"),
    label_names=label_names,
    encode=encode,
    lost_labels=lambda row, words_lost, names: 0,  # a window holds both entities
    compute_metrics=mre_compute_metrics,
    prediction_records=prediction_records,
    describe=describe,
    main_metrics=("micro_f1", "micro_precision", "micro_recall", "macro_f1", "accuracy"),
    type_metrics=("f1",),
    entity_markers=True,
    draw=draw_confusion,
)

__all__ = ["MRE"]
