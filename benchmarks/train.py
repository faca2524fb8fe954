"""A training step of ours against the published recipe (benchmarks/published_recipe.py) on the CPU.

    python benchmarks/train.py --size base --task ner --threads 1 --steps 5

Three sides train copies of one new model, in turns in one process, and who goes first alternates:

* recipe: the published recipe;
* ours: the same pictures, decoded and computed without gradients, texts padded to the longest of the batch;
* cached: ours from the visual features of the pictures, computed once before the training.

A step is: the loader makes the batch (JPEGs are decoded there, in the same process), forward, backward, and AdamW on
all parameters but the backbone's, on every side. Posts are made up: texts of 12 to 40 random sub-tokens, a main picture
of 500x400 and crops of 160x160 pixels. With bf16 all sides run under autocast.

Prints a JSON dict: for each side the median seconds of a step (as they pass on the wall and as the process uses the
CPU; on a machine with other work only the latter says something, and only with one thread), samples a second on the
wall, and the peak memory of a process that trains this side alone for two steps; how many times faster than the recipe
ours is; and the seconds that the features of a post cost once, for the cache.
"""

import argparse
import copy
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import BertTokenizer

sys.path.insert(0, str(Path(__file__).parent))
from published_recipe import LENGTH, PublishedRecipe, RecipeCollator  # noqa: E402

from modeling_i2srm import (  # noqa: E402
    I2SRMConfig,
    I2SRMDataCollator,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMProcessor,
)
from modeling_i2srm.processing_i2srm import resnet_image_processor  # noqa: E402

SIDES = ("recipe", "ours", "cached")
LABELS = {"ner": 9, "re": 23}
SMALL_VISION = {"model_type": "resnet", "depths": [1, 1, 1, 1], "layer_type": "basic", "embedding_size": 8}
# name: (text encoder, vision backbone, width of the projector, side of the pictures)
SIZES = {
    "base": ({}, {"model_type": "resnet"}, 800, 224),
    "width128": (
        {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256},
        {**SMALL_VISION, "hidden_sizes": [16, 32, 64, 128]},
        128,
        40,
    ),
    "tiny": (
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
        {**SMALL_VISION, "hidden_sizes": [8, 16, 24, 32]},
        20,
        32,
    ),
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # texts are made of ids, the tokenizer only pads them

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", choices=LABELS, default="ner")
parser.add_argument("--size", choices=SIZES, default="base")
parser.add_argument("--batch_size", type=int, default=8)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
parser.add_argument("--steps", type=int, default=10, help="timed steps of a side, after one that is not counted")
parser.add_argument("--only", choices=SIDES, help="train one side and print the peak memory of the process alone")


def build(task: str, size: str) -> tuple[nn.Module, I2SRMProcessor]:
    """A new model of a size in training mode, and a processor for it."""
    text, vision, width, side = SIZES[size]
    config = I2SRMConfig(
        text_config={"model_type": "bert", **text},
        vision_config=vision,
        prompt_hidden_size=width,
        num_labels=LABELS[task],
    )
    head = I2SRMForTokenClassification if task == "ner" else I2SRMForRelationClassification
    tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)})
    processor = I2SRMProcessor(resnet_image_processor(side), tokenizer, num_objects=config.num_objects)
    return head(config).train(), processor


def jpeg(generator: np.random.Generator, width: int, height: int) -> dict:
    """A JPEG of smooth random colours."""
    colours = generator.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return {"bytes": file.getvalue(), "path": None}


def make_posts(task: str, config: I2SRMConfig, count: int) -> list[dict]:
    """Encoded posts with all their pictures as JPEGs."""
    generator = np.random.default_rng(0)
    posts = []
    for _ in range(count):
        length = int(generator.integers(12, 41))
        ids = generator.integers(len(VOCABULARY), config.text_config.vocab_size, length - 2).tolist()
        post = {"input_ids": [2, *ids, 3], "attention_mask": [1] * length, "token_type_ids": [0] * length}
        if task == "ner":  # four sub-tokens of five begin a word
            first = [0, 1, *(generator.random(length - 3) < 0.8).astype(int).tolist(), 0]
            tags = generator.integers(0, config.num_labels, length).tolist()
            post["word_mask"] = first
            post["labels"] = [tag if is_first else -100 for tag, is_first in zip(tags, first, strict=True)]
        else:
            head = int(generator.integers(2, length - 8))
            post["head_mask"] = [int(head <= i < head + 2) for i in range(length)]
            post["tail_mask"] = [int(head + 4 <= i < head + 5) for i in range(length)]
            post["labels"] = int(generator.integers(0, config.num_labels))
        post["image"] = jpeg(generator, 500, 400)
        post["objects"] = [jpeg(generator, 160, 160) for _ in range(config.num_objects)]
        posts.append(post)
    return posts


class CachedCollator:
    """Encoded posts with their visual features -> a batch."""

    def __init__(self, processor: I2SRMProcessor):
        self.collator = I2SRMDataCollator(processor, use_images=False)

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        return {**self.collator(rows), "visual_features": torch.stack([row["visual_features"] for row in rows])}


def add_features(model: nn.Module, processor: I2SRMProcessor, posts: list[dict]) -> float:
    """Compute each post's visual features, as a cache holds them, and return the seconds a post."""
    collator = I2SRMDataCollator(processor)
    start = time.perf_counter()
    with torch.no_grad():
        for post in posts:
            post["visual_features"] = model.model.get_visual_features(collator([post])["pixel_values"])[0]
    return (time.perf_counter() - start) / len(posts)


class Side:
    """One way to train: a copy of the model, its optimizer and its loader."""

    def __init__(self, name: str, model: nn.Module, processor: I2SRMProcessor, dtype: str):
        model = copy.deepcopy(model)
        self.name, self.autocast = name, dtype == "bf16"
        self.model = PublishedRecipe(model).train() if name == "recipe" else model
        collators = {"recipe": RecipeCollator, "ours": I2SRMDataCollator, "cached": CachedCollator}
        self.collator = collators[name](processor)
        parameters = [p for parameter, p in model.named_parameters() if "vision_encoder" not in parameter]
        self.optimizer = torch.optim.AdamW(parameters, lr=3e-5, weight_decay=0.01)

    def step(self, posts: list[dict]) -> float:
        """Train on a batch of posts and return the loss."""
        batch = self.collator(posts)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.model(**batch)["loss"]
        loss.backward()
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)  # also the backbone's gradients, which the optimizer does not know
        return float(loss.detach())


def own_peak_memory() -> float:
    """The peak memory of this process in MB (1e6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its getrusage starts from the peak of the process that started this one
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def peak_memory(arguments: argparse.Namespace, side: str) -> float:
    """The peak memory in MB of a process that trains one side alone for two steps."""
    settings = ("task", "size", "batch_size", "threads", "dtype")
    given = [word for name in settings for word in (f"--{name}", str(getattr(arguments, name)))]
    command = [sys.executable, __file__, *given, "--only", side, "--steps", "1"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["peak_megabytes"]


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, processor = build(arguments.task, arguments.size)
    size, rounds = arguments.batch_size, arguments.steps + 1
    posts = make_posts(arguments.task, model.config, size * min(rounds, 4))
    if arguments.only:
        features = 4 * model.model.pooled_channels + model.model.last_channels
        for post in posts:  # their values do not matter for the memory, and computing them would need some
            post["visual_features"] = torch.randn(1 + model.config.num_objects, features)
    else:
        cache_seconds = add_features(model, processor, posts)
    sides = [Side(name, model, processor, arguments.dtype) for name in SIDES if arguments.only in (None, name)]
    del model
    times = {side.name: ([], []) for side in sides}
    for i in range(rounds):
        start = i * size % len(posts)
        for side in sides[:: 1 if i % 2 else -1]:
            wall, cpu = time.perf_counter(), time.process_time()
            loss = side.step(posts[start : start + size])
            times[side.name][0].append(time.perf_counter() - wall)
            times[side.name][1].append(time.process_time() - cpu)
            if not np.isfinite(loss):
                raise SystemExit(f"the loss of {side.name} is {loss} in step {i}")
    if arguments.only:
        print(json.dumps({"peak_megabytes": round(own_peak_memory(), 1)}))
        return
    del sides
    names = ("task", "size", "batch_size", "threads", "dtype", "steps")
    result = {name: getattr(arguments, name) for name in names} | {"recipe_tokens": LENGTH}
    medians = {name: [statistics.median(clock[1:]) for clock in clocks] for name, clocks in times.items()}
    for name, (wall, cpu) in medians.items():
        result[name] = {
            "wall_seconds": round(wall, 5),
            "cpu_seconds": round(cpu, 5),
            "samples_per_second": round(size / wall, 2),
            "peak_megabytes": peak_memory(arguments, name),
        }
    result["times_faster_than_recipe"] = {
        name: {clock: round(medians["recipe"][i] / medians[name][i], 2) for i, clock in enumerate(("wall", "cpu"))}
        for name in ("ours", "cached")
    }
    result["cache_seconds_per_post"] = round(cache_seconds, 5)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
