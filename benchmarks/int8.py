"""What int8 does to a model on the CPU: F1, size and speed against float32 (docs/measured/results.md).

    python benchmarks/int8.py --checkpoint runs/quickstart --dataset data/visual_posts     # F1, size and speed
    python benchmarks/int8.py                                       # size and speed of BERT-base with ResNet-50

The linear layers of the text encoder are quantised: weights ahead, activations as they come. The vision backbone (it is
convolutional), prompts, gates and head stay in float32. `--library torch` is torch.ao.quantization, whose activations
share one scale in a batch; `--library torchao` (pip install torchao) gives every token its own.

Both models do the same work in turns in one process; times are medians over the rounds, as they pass on the wall and as
the process uses the CPU (on a machine with other work only the latter says something, and only with one thread). Prints
a JSON dict: "float32", "int8" (in them F1 of the test split in per cent, size in MB, seconds per batch from pictures
and from cached visual features) and "speedup".
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
import warnings

import numpy as np
import torch
from torch import nn

from modeling_i2srm import (
    I2SRMConfig,
    I2SRMDataCollator,
    I2SRMForTokenClassification,
    I2SRMProcessor,
    I2SRMTrainer,
    I2SRMTrainingArguments,
)
from modeling_i2srm.data.dataset import encode_split, load_splits
from modeling_i2srm.training.tasks import MNER, MRE

LENGTH, SIDE = 42, 224  # tokens a post and side of a picture of the model at base size
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--checkpoint", help="folder of a trained model; without one a new model of base size is timed")
parser.add_argument("--dataset", help="its data, a Parquet folder with a test split")
parser.add_argument("--library", choices=("torch", "torchao"), default="torch")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=15, help="timed rounds, after two that are not counted")
parser.add_argument("--batch_size", type=int, default=8, help="posts in a timed batch")
parser.add_argument("--batches", type=int, default=10, help="batches in a round, with a checkpoint")


def linear_layers(model: nn.Module) -> list[str]:
    """The names of the linear layers that are quantised: those of the text encoder."""
    return [name for name, module in model.named_modules() if type(module) is nn.Linear and "text_encoder" in name]


def quantised(model: nn.Module, library: str = "torch") -> nn.Module:
    """A copy in evaluation mode whose text encoder computes in int8; weights have a scale for each output channel."""
    model, names = copy.deepcopy(model).eval(), linear_layers(model)
    if library == "torchao":
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(model, Int8DynamicActivationInt8WeightConfig(), filter_fn=lambda _, name: name in names)
        return model
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deprecated", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*quantize_per_channel", category=UserWarning)
        return quantize_dynamic(model, dict.fromkeys(names, per_channel_dynamic_qconfig), inplace=True)


def megabytes(model: nn.Module) -> float:
    """The size of all weights and buffers, in units of 1e6 bytes."""

    def size(value) -> int:
        if isinstance(value, torch.Tensor):
            inner = value.__tensor_flatten__()[0] if hasattr(value, "__tensor_flatten__") else ()
            return sum(size(getattr(value, name)) for name in inner) or value.numel() * value.element_size()
        return sum(map(size, value)) if isinstance(value, (list, tuple)) else 0

    return sum(size(value) for value in model.state_dict().values()) / 1e6


def base_size(batch_size: int) -> tuple[nn.Module, list[dict]]:
    """A new model of BERT-base and ResNet-50, and one batch of posts with a picture and three crops each."""
    config = I2SRMConfig(text_config={"model_type": "bert"}, vision_config={"model_type": "resnet"}, num_labels=9)
    batch = {
        "input_ids": torch.randint(1000, config.text_config.vocab_size, (batch_size, LENGTH)),
        "attention_mask": torch.ones(batch_size, LENGTH, dtype=torch.long),
        "pixel_values": torch.randn(batch_size, 1 + config.num_objects, 3, SIDE, SIDE),
    }
    return I2SRMForTokenClassification(config).eval(), [batch]


def load(checkpoint: str) -> tuple[nn.Module, I2SRMProcessor, object]:
    """A trained model with its processor and task."""
    (architecture,) = I2SRMConfig.from_pretrained(checkpoint).architectures
    heads = {task.model_class.__name__: task for task in (MNER, MRE)}
    if architecture not in heads:
        raise SystemExit(f"{checkpoint} holds a {architecture}; expected one of {', '.join(heads)}")
    task = heads[architecture]
    return task.model_class.from_pretrained(checkpoint).eval(), I2SRMProcessor.from_pretrained(checkpoint), task


def predict(model, task, processor, rows, names, batch_size: int) -> tuple[float, np.ndarray]:
    """F1 of the task in per cent, and the predicted tags or relations as one array."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = I2SRMTrainingArguments(
            folder, per_device_eval_batch_size=batch_size, use_cpu=True, report_to="none", disable_tqdm=True
        )
        trainer = I2SRMTrainer(
            model, arguments, processing_class=processor, compute_metrics=task.compute_metrics(names)
        )
        output = trainer.predict(rows)
    if isinstance(output.predictions, tuple):
        tags, _ = output.predictions
        labels = tags[output.label_ids != -100]
    else:
        labels = output.predictions.argmax(-1)
    return 100 * output.metrics[f"test_{task.main_metrics[0]}"], labels


def seconds(models: dict[str, nn.Module], batches: list[dict], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds per batch of each clock and model; the models take turns, and who goes first alternates."""
    times = {clock: {name: [] for name in models} for clock in CLOCKS}
    with torch.inference_mode():
        for i in range(rounds + 2):
            for name in list(models)[:: 1 if i % 2 else -1]:
                started = {clock: read() for clock, read in CLOCKS.items()}
                for batch in batches:
                    models[name](**batch)
                for clock, read in CLOCKS.items():
                    times[clock][name].append((read() - started[clock]) / len(batches))
    return {clock: {name: statistics.median(t[2:]) for name, t in by_name.items()} for clock, by_name in times.items()}


def with_features(model, batch: dict) -> dict:
    """The batch with its visual features, as a cache gives them, instead of the pictures."""
    batch = dict(batch)
    with torch.inference_mode():
        features = model.model.get_visual_features(batch.pop("pixel_values"), batch.get("image_mask"))
    return {**batch, "visual_features": features}


def main():
    arguments = parser.parse_args()
    if bool(arguments.checkpoint) != bool(arguments.dataset):
        parser.error("--checkpoint and --dataset go together, e.g. runs/quickstart and data/visual_posts")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    if arguments.checkpoint:
        model, processor, task = load(arguments.checkpoint)
        split = load_splits(arguments.dataset, task.text_columns)["test"]
        names = task.label_names(split.features, arguments.dataset)
        rows, _ = encode_split(task, split, processor, processor.max_length, "test")
        collator = I2SRMDataCollator(processor)
        ends = range(arguments.batch_size, len(rows) + 1, arguments.batch_size)
        batches = [collator(list(rows.select(range(end - arguments.batch_size, end)))) for end in ends]
        batches = [{k: v for k, v in batch.items() if k != "labels"} for batch in batches[: arguments.batches]]
    else:
        model, batches = base_size(arguments.batch_size)
    models = {"float32": model, "int8": quantised(model, arguments.library)}
    result = {"library": arguments.library, "threads": arguments.threads, "layers": len(linear_layers(model))}
    result |= {name: {"megabytes": round(megabytes(models[name]), 2)} for name in models}
    if arguments.checkpoint:
        found = {}
        for name in models:
            for size in (64, 1):
                f1, found[name, size] = predict(models[name], task, processor, rows, names, size)
                result[name][f"f1_batch_{size}"] = round(f1, 2)
            changed = int((found[name, 1] != found[name, 64]).sum())
            result[name]["labels_that_depend_on_the_batch"] = changed
        result["int8"]["labels_changed"] = int((found["int8", 64] != found["float32", 64]).sum())
        result["labels"] = len(found["int8", 64])
    result["speedup"] = {}
    for what, inputs in (("pictures", batches), ("features", [with_features(model, batch) for batch in batches])):
        for clock, times in seconds(models, inputs, arguments.rounds).items():
            for name, value in times.items():
                result[name][f"{clock}_seconds_from_{what}"] = round(value, 5)
            result["speedup"][f"{clock}_from_{what}"] = round(times["float32"] / times["int8"], 2)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
