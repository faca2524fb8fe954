"""Training steps of ours against the published recipe (benchmarks/published_recipe.py), in turns in one process.

    python benchmarks/train.py --task re --size base --threads 2 --steps 4
    python benchmarks/train.py --task ner --size large --device cuda --batch_size 64 --sides cached:bf16 compiled:bf16

A side is a way to train, and a precision after a colon (fp32 unless said; bf16 is autocast):

* recipe: the published recipe;
* ours: the same pictures, decoded and computed without gradients, texts padded to the longest of the batch;
* cached: ours from the visual features of the pictures, computed once before the training;
* plain: cached without AttnMixup, the KL loss and the CRF;
* eager: cached with eager attention instead of SDPA;
* compiled: cached under torch.compile;
* fill: no training; the features of the pictures of a batch are computed and stored in a new cache on disk, in bfloat16
  (or for fill:fp32 in float32), once for a whole run;
* floor: the matrix products of the text encoder alone, forward and backward.

A step is: the loader makes the batch (JPEGs are decoded there, in the same process), forward, backward, and AdamW on
all parameters but a frozen backbone's: as torch makes it for the recipe, fused for the others, as transformers' Trainer
does. benchmarks/workload.py says what the posts are.

Prints a JSON dict: for each side the median seconds of a step (as they pass on the wall and as the process uses the
CPU; on a machine with other work only the latter says something, and only with one thread), the part of it that the
loader takes, samples a second on the wall, and the peak memory of a process that trains this side alone for two steps
(on a GPU what it allocates there); and how many times faster than the first side each one is on the wall. With fill
among the sides also how many times faster than the first side whole runs of 1 and 5 epochs of the cached sides are that
start with an empty cache, if no two posts share a picture.
"""

import copy
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from published_recipe import LENGTH, PublishedRecipe, RecipeCollator  # noqa: E402
from stopwatch import in_turns, own_peak_memory, run_alone  # noqa: E402
from workload import (  # noqa: E402
    CachedCollator,
    MatrixProducts,
    build,
    kind_and_dtype,
    make_batches,
    parser_of_sides,
    random_features,
    without_features,
)

from modeling_i2srm import I2SRMDataCollator, I2SRMProcessor, VisualFeatureCache, cache_pictures  # noqa: E402
from modeling_i2srm.support.allocator import keep_freed_memory  # noqa: E402

KINDS = ("recipe", "ours", "cached", "plain", "eager", "compiled", "fill", "floor")

parser = parser_of_sides(__doc__)
parser.add_argument("--return_freed_memory", action="store_true", help="to the system, which our runs prevent")
parser.add_argument("--only_memory", action="store_true", help="print the peak memory of the one side, nothing else")


class Side:
    """One way to train: a copy of the model, its optimizer and its loader."""

    def __init__(self, side: str, model: nn.Module, processor: I2SRMProcessor, device: str):
        self.name = side
        kind, self.dtype = kind_and_dtype(side, KINDS)
        self.device = device
        self.load_seconds = []
        if kind == "floor":
            self.products = MatrixProducts(model.config, self.dtype, device, backward=True)
            return
        self.products = None
        model = copy.deepcopy(model).to(device)
        self.filled = (processor, "float32" if side == "fill:fp32" else "bfloat16") if kind == "fill" else None
        collators = {"recipe": RecipeCollator, "ours": I2SRMDataCollator}
        self.reads_pictures = kind in collators
        self.collator = collators.get(kind, CachedCollator)(processor)
        self.model = model
        if kind == "recipe":
            self.model = PublishedRecipe(model).train()
        elif kind == "plain":
            for part in ("attn_mixup", "pair_attn_mixup", "semantic_loss", "pair_semantic_loss", "crf"):
                if hasattr(model, part):
                    setattr(model, part, None)
        elif kind == "eager":
            model.set_attn_implementation("eager")
        elif kind == "compiled":
            self.model = torch.compile(model)
        parameters = [p for name, p in model.named_parameters() if "vision_encoder" not in name]
        self.optimizer = torch.optim.AdamW(parameters, lr=3e-5, weight_decay=0.01, fused=kind != "recipe")

    def step(self, posts: list[dict]) -> None:
        """Train on a batch of posts."""
        if self.products is not None:
            self.products(len(posts), max(len(post["input_ids"]) for post in posts))
            return
        if self.filled is not None:
            self.fill(posts, *self.filled)
            return
        start = time.perf_counter()
        batch = self.collator(without_features(posts) if self.reads_pictures else posts)
        self.load_seconds.append(time.perf_counter() - start)
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        bf16 = self.dtype == torch.bfloat16
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=bf16):
            loss = self.model(**batch)["loss"]
        loss.backward()
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)  # also the backbone's gradients, which the optimizer does not know
        if not np.isfinite(float(loss.detach())):
            raise SystemExit(f"the loss of {self.name} is {float(loss)}")

    def fill(self, posts: list[dict], processor: I2SRMProcessor, dtype: str) -> None:
        """Store the features of the pictures of a batch in a new cache."""
        rows = Dataset.from_list([{name: post[name] for name in ("image", "objects")} for post in posts])
        base = self.model.model
        with tempfile.TemporaryDirectory() as folder:
            cache = VisualFeatureCache(folder, 4 * base.pooled_channels + base.last_channels, dtype)
            cache_pictures(cache, {"train": rows}, self.model, processor, progress=False)
            assert len(cache) == len(posts) * (1 + self.model.config.num_objects)


def whole_runs(seconds: dict[str, float], first: str) -> dict[str, dict[str, float]]:
    """How many times faster than the first side runs of the cached sides are that start with an empty cache.

    Args:
        seconds: of a step, by side; "fill" fills the cache.
    """
    return {
        name: {
            f"{epochs}_epochs": round(epochs * seconds[first] / (seconds["fill"] + epochs * step), 2)
            for epochs in (1, 5)
        }
        for name, step in seconds.items()
        if name.partition(":")[0] == "cached"
    }


def main():
    arguments = parser.parse_args()
    disable_progress_bars()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if not arguments.return_freed_memory:
        keep_freed_memory()
    model, processor = build(arguments.task, arguments.size)
    batches = make_batches(arguments.task, model.config, arguments.batch_size, min(arguments.steps, 10))
    random_features(model, batches)
    sides = [Side(name, model, processor, arguments.device) for name in arguments.sides]
    del model
    if arguments.only_memory:
        for i in range(2):
            sides[0].step(batches[i % len(batches)])
        print(json.dumps({"peak_megabytes": round(own_peak_memory(arguments.device), 1)}))
        return
    steps = {side.name: lambda i, side=side: side.step(batches[i % len(batches)]) for side in sides}
    result = {name: value for name, value in vars(arguments).items() if name not in ("sides", "only_memory")}
    result |= {"recipe_tokens": LENGTH, "torch": torch.__version__}
    result["mean_tokens"] = np.mean([max(len(post["input_ids"]) for post in batch) for batch in batches]).round(1)
    times = in_turns(steps, arguments.steps, arguments.device)
    loading = {side.name: np.median(side.load_seconds[1:]) if side.load_seconds else 0.0 for side in sides}
    del sides, steps
    settings = {name: getattr(arguments, name) for name in ("task", "size", "batch_size", "threads", "device")}
    first = times[arguments.sides[0]]["wall_seconds"]
    for name, seconds in times.items():
        result[name] = {clock: round(value, 5) for clock, value in seconds.items()} | {
            "loader_share": round(loading[name] / seconds["wall_seconds"], 4),
            "samples_per_second": round(arguments.batch_size / seconds["wall_seconds"], 2),
            "times_faster": round(first / seconds["wall_seconds"], 2),
            **run_alone(__file__, **settings, sides=name, steps=1, only_memory=()),
        }
    if "fill" in times:
        walls = {name: seconds["wall_seconds"] for name, seconds in times.items()}
        result["whole_runs_times_faster"] = whole_runs(walls, arguments.sides[0])
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
