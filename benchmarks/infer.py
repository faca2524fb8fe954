"""Inference of ours against the published recipe (benchmarks/published_recipe.py), in turns in one process.

    python benchmarks/infer.py --task re --size base --threads 2 --steps 4
    python benchmarks/infer.py --task ner --size large --device cuda --batch_size 64 --sides recipe cached:bf16

Sides are those of benchmarks/train.py: recipe, ours, cached, eager, compiled, floor. Ours have batch-norm folded and
with bf16 the weights in bfloat16, as Extractor.from_pretrained(..., dtype="bfloat16") loads them; fp32 unless said.
A step is: the loader makes the batch without labels (the recipe's has them, and it computes its loss with them, as
published), forward without gradients, and the answers: the best relation, or Viterbi decoding of the tags, on all sides
ours. Texts of a batch are as long as length grouping makes them; the recipe's are padded to 80 tokens.

Prints a JSON dict: for each side the median seconds of a step, the part of it that the loader takes, samples a second
and how many times faster than the first side it is on the wall.
"""

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from published_recipe import LENGTH, PublishedRecipe, RecipeCollator  # noqa: E402
from stopwatch import in_turns  # noqa: E402
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

from modeling_i2srm import I2SRMDataCollator, I2SRMProcessor  # noqa: E402
from modeling_i2srm.support.batch_norm import fold_batch_norm  # noqa: E402

KINDS = ("recipe", "ours", "cached", "eager", "compiled", "floor")

parser = parser_of_sides(__doc__)


class Side:
    """One way to answer: a copy of the model and its loader."""

    def __init__(self, side: str, model: nn.Module, processor: I2SRMProcessor, task: str, device: str):
        kind, self.dtype = kind_and_dtype(side, KINDS)
        self.name, self.task, self.device = side, task, device
        self.load_seconds = []
        if kind == "floor":
            self.products = MatrixProducts(model.config, self.dtype, device, backward=False)
            return
        self.products = None
        self.head = copy.deepcopy(model).to(device).eval()
        self.model = self.head
        self.labelled = kind == "recipe"
        collators = {"recipe": RecipeCollator, "ours": I2SRMDataCollator}
        self.reads_pictures = kind in collators
        self.collator = collators.get(kind, CachedCollator)(processor)
        if kind == "recipe":
            self.model = PublishedRecipe(self.head).eval()
        else:
            fold_batch_norm(self.head.to(self.dtype))
        if kind == "eager":
            self.head.set_attn_implementation("eager")
        elif kind == "compiled":
            self.model = torch.compile(self.head)

    def step(self, posts: list[dict]) -> list:
        """The answers for a batch of posts."""
        if self.products is not None:
            return self.products(len(posts), max(len(post["input_ids"]) for post in posts))
        start = time.perf_counter()
        if not self.labelled:
            posts = [{name: value for name, value in post.items() if name != "labels"} for post in posts]
        batch = self.collator(without_features(posts) if self.reads_pictures else posts)
        self.load_seconds.append(time.perf_counter() - start)
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        bf16 = self.labelled and self.dtype == torch.bfloat16
        with torch.inference_mode(), torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=bf16):
            logits = self.model(**batch)["logits"]
        return logits.argmax(-1).tolist() if self.task == "re" else self.head.decode(logits, batch["word_mask"])


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, processor = build(arguments.task, arguments.size)
    batches = make_batches(arguments.task, model.config, arguments.batch_size, min(arguments.steps, 10))
    random_features(model, batches)
    sides = [Side(name, model, processor, arguments.task, arguments.device) for name in arguments.sides]
    steps = {side.name: lambda i, side=side: side.step(batches[i % len(batches)]) for side in sides}
    result = {name: value for name, value in vars(arguments).items() if name != "sides"}
    result |= {"recipe_tokens": LENGTH, "torch": torch.__version__}
    times = in_turns(steps, arguments.steps, arguments.device)
    first = times[arguments.sides[0]]["wall_seconds"]
    for side in sides:
        seconds = times[side.name]
        loading = np.median(side.load_seconds[1:]) if side.load_seconds else 0.0
        result[side.name] = {clock: round(value, 5) for clock, value in seconds.items()} | {
            "loader_share": round(loading / seconds["wall_seconds"], 4),
            "samples_per_second": round(arguments.batch_size / seconds["wall_seconds"], 2),
            "times_faster": round(first / seconds["wall_seconds"], 2),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
