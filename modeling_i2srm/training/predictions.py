"""The predictions of a split: metrics, and a record for each row."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.trainer_utils import PredictionOutput

from ..data.dataset import longest_first
from ..support.atomic_files import replacing
from .tasks import Task
from .trainer import I2SRMTrainer


def predict(
    task: Task, trainer: I2SRMTrainer, split: Dataset, name: str, names: list[str]
) -> tuple[dict[str, float], list[dict]]:
    """Predict a split, longest first; return the metrics, and the records of its rows in their order.

    Args:
        name: of the split in the log.
        names: of the labels.
    """
    by_length, order = longest_first(split, trainer.args.length_column_name)
    output = in_order_of_data(trainer.predict(by_length, metric_key_prefix=name), order)
    return without_prefix(output.metrics or {}, f"{name}_"), task.prediction_records(split, output, names)


def predictions_name(mismatch: str | None = None) -> str:
    """The file of the predictions of the test split, or of it with wrong pictures."""
    return "predictions.jsonl" if mismatch is None else f"predictions-{mismatch.replace(':', '-')}.jsonl"


def write_predictions(trainer: I2SRMTrainer, records: list[dict], path: Path) -> None:
    if trainer.is_world_process_zero():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def in_order_of_data(output: PredictionOutput, order: list[int]) -> PredictionOutput:
    """The predictions for a split of `longest_first`, put back into the order the rows had before."""
    back = np.argsort(order)

    fields: dict[str, Any] = {"predictions": output.predictions, "label_ids": output.label_ids}
    for name, values in fields.items():
        whole = isinstance(values, tuple)
        fields[name] = tuple(value[back] for value in values) if whole else np.asarray(values)[back]
    return output._replace(**fields)


def without_prefix(metrics: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


__all__ = ["predict", "predictions_name", "without_prefix", "write_predictions"]
