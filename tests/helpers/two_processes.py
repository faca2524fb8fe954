"""Training with small models, alone or in two processes.

`main` trains some of `CASES` and writes its weights, its log and its predictions. Nothing is random but the draws of
AttnMixup. The weights are float64, so that little is rounded but the losses.
"""

import json
from pathlib import Path

import graph_rows
import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import save_file
from tiny import CHECKPOINTING, RELATIONS, tiny_config, tiny_processor
from tiny_rows import rows

from modeling_i2srm import (
    I2SRMDataCollator,
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMTrainer,
    I2SRMTrainingArguments,
)
from modeling_i2srm.training.run import end_processes

JOINT = 6  # rows of a step
SPOILED = "4"  # id of a row
OFF, GATHER = {"attn_mixup": False}, {"attn_mixup_gather": True}
# name: (task, rows, fields of the configuration, training arguments). 10 rows leave 4 for the last step, 14 leave 2:
# one process has none of them.
CASES = {
    "entities": ("entities", 14, OFF, {}),
    "entities in random order": ("entities", 10, OFF, {"train_sampling_strategy": "random"}),
    "entities, streamed": ("entities", 14, OFF, {"max_steps": 6}),
    "entities without a CRF": ("entities", 10, {**OFF, "use_crf": False}, {}),
    "entities, gathered": ("entities", 14, GATHER, {}),
    "entities, gathered and accumulated": ("entities", 10, GATHER, {"gradient_accumulation_steps": 2}),
    "entities without pictures": ("entities", 14, OFF, {CHECKPOINTING: True}),
    "entities, skipped steps": ("entities", 10, OFF, {"skip_non_finite_steps": 2}),
    "entities, 20 steps": ("entities", 14, GATHER, {"max_steps": 20}),
    "graphs": ("graphs", 10, {**OFF, "class_weights": [0.5, 1.0, 2.0]}, {}),
    "graphs, accumulated": (
        "graphs",
        14,
        {**OFF, "class_weights": [0.5, 1.0, 2.0]},
        {"gradient_accumulation_steps": 2},
    ),
    "relations": ("relations", 10, {**OFF, "class_weights": [0.5, 1.0, 2.0, 1.0, 1.0, 3.0]}, {}),
    "relations, gathered": ("relations", 14, GATHER, {}),
    "relations, attention alone, gathered": ("relations", 10, {**GATHER, "attn_mixup_interpolation": False}, {}),
}
SLOW = {  # of each of these the others have all parts, in another combination
    "entities in random order",
    "entities, gathered",
    "entities, gathered and accumulated",
    "entities without pictures",
    "graphs",
    "relations, attention alone, gathered",
}


def pairs(count: int) -> Dataset:
    """Posts with two entities each."""
    posts = []
    for i, row in enumerate(rows(count)):
        tokens = row["tokens"]
        ends = {"head": {"start": 0, "end": 1}, "tail": {"start": len(tokens) - 1, "end": len(tokens)}}
        posts.append({**row, **ends, "relation": i % len(RELATIONS)})
    return Dataset.from_list(posts).remove_columns("ner_tags")


TASKS = {
    "entities": (I2SRMForTokenClassification, rows),
    "relations": (I2SRMForRelationClassification, pairs),
    "graphs": (I2SRMForJointExtraction, graph_rows.graph_rows),
}


class SpoiledCollator(I2SRMDataCollator):
    """Gives one of the posts a picture that is not a number."""

    def __call__(self, rows: list) -> dict:
        batch = super().__call__(rows)
        for i, row in enumerate(rows):
            if row["id"] == SPOILED:
                batch["pixel_values"][i] = torch.nan
        return batch


def train(name: str, folder: Path, processes: int) -> tuple[dict, list[dict], np.ndarray, float]:
    """Train a case; its weights, its log, its predictions in the order of the data, and their loss."""
    task, count, settings, arguments = CASES[name]
    torch.manual_seed(0)
    processor = tiny_processor()
    text = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings = {"attn_mixup_dropout": 0.0, **settings}
    if task == "relations":
        processor.add_entity_markers()
        settings["id2label"] = dict(enumerate(RELATIONS))
    elif task == "graphs":
        settings |= {"id2label": dict(enumerate(graph_rows.TAGS)), "relation_labels": graph_rows.RELATIONS}
    text["vocab_size"] = len(processor.tokenizer)
    model_class, make_rows = TASKS[task]
    data = make_rows(count)
    data = data.to_iterable_dataset() if "streamed" in name else data
    arguments = {
        "per_device_train_batch_size": JOINT // processes,
        "per_device_eval_batch_size": 3 if processes > 1 else 4,  # their losses are the same nevertheless
        "num_train_epochs": 2,
        "learning_rate": 0.1 if task != "graphs" else 0.02,
        "optim": "sgd",  # Adam makes a step of full size of a gradient that is nothing but rounding
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        **arguments,
    }
    pictures = "without pictures" not in name
    collator = SpoiledCollator if "skipped" in name else I2SRMDataCollator
    trainer = I2SRMTrainer(
        model=model_class(tiny_config(text=text, **settings)).double(),
        args=I2SRMTrainingArguments(str(folder / "out"), **arguments),
        data_collator=collator(processor, use_images=pictures),
        train_dataset=data,
        processing_class=processor,
    )
    torch.rand(trainer.args.process_index)  # the generators of the processes are not in step
    trainer.train()
    weights = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    skipped = [(entry["step"], sorted(entry["rows"])) for entry in trainer.skipped_steps]
    assert len(skipped) == 2 * ("skipped" in name) and all(SPOILED in rows for _, rows in skipped), skipped
    trainer.data_collator = I2SRMDataCollator(processor, use_images=pictures)
    output = trainer.predict(data)
    predictions = output.predictions[1] if isinstance(output.predictions, tuple) else output.predictions
    return weights, log, predictions, output.metrics["test_loss"]


def evaluate_stream(folder: Path, processes: int) -> dict:
    """The metrics and the loss of 23 streamed rows, which are not a multiple of the joint batch."""
    torch.manual_seed(0)
    processor, data = tiny_processor(), rows(23)
    arguments = {"per_device_eval_batch_size": 4 // processes, "report_to": "none", "use_cpu": True}
    trainer = I2SRMTrainer(
        model=I2SRMForTokenClassification(tiny_config(text={"vocab_size": len(processor.tokenizer)})),
        args=I2SRMTrainingArguments(str(folder / "out"), **arguments, disable_tqdm=True),
        eval_dataset=data.to_iterable_dataset(),
        processing_class=processor,
        compute_metrics=lambda p: {"rows": len(p.label_ids), "tags": p.label_ids[p.label_ids != -100].tolist()},
    )
    first = trainer.evaluate()
    assert first["eval_tags"] == trainer.evaluate(data)["eval_tags"] == trainer.evaluate()["eval_tags"]
    return {name: first[f"eval_{name}"] for name in ("rows", "tags", "loss")}


def main(folder: Path, names: list[str]):
    """What each of the two processes does."""
    rank = int(torch.distributed.get_node_local_rank())
    for name in names:
        weights, log, predictions, loss = train(name, folder, processes=2)
        save_file(weights, folder / f"{name}-{rank}.safetensors")
        if rank == 0:
            (folder / f"{name}.json").write_text(json.dumps([log, loss]))
            np.save(folder / f"{name}.npy", predictions)
    stream = evaluate_stream(folder, processes=2)
    if rank == 0:
        (folder / "stream.json").write_text(json.dumps(stream))
    end_processes()
