"""Compare a GPU with the CPU: the answers are the same; and the speed of training, inference and pipelines.

    python benchmarks/gpu.py --output gpu.jsonl
    python benchmarks/gpu.py --device cpu --sizes tiny --batch_sizes 2 --steps 1 --no-compile

Needs no data and no pretrained weights: models are new, posts are those of benchmarks/workload.py. Five parts:

* agreement: logits of the same weights on the CPU in float32 and on the device, in float32 and bfloat16, with eager
  attention and SDPA.
* train: median seconds of a training step. Sides are those of benchmarks/train.py; bf16 unless said. "recipe" and
  "ours" decode pictures, "cached" reads features. The floor is the matrix products of the text encoder alone.
* infer: the same for answers; sides are those of benchmarks/infer.py.
* pipelines: posts per second of a text-only entity pipeline, beside transformers' pipeline of the same encoder.
* extractor: posts per second of an Extractor with a joint model, with three entities per post and all pictures, on the
  posts of benchmarks/joint_speed.py.

Prints a JSON line a figure, and writes them to --output: part, task, size, batch, side, samples_per_second,
milliseconds (of a step), loader_share, megabytes (peak that the device had allocated), times_floor, and the hours of
one epoch of Twitter-2015 (4,000 posts). A side that runs out of memory has "error" instead.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import BertForTokenClassification, TokenClassificationPipeline

sys.path.insert(0, str(Path(__file__).parent))
import infer  # noqa: E402
import train  # noqa: E402
from joint_speed import answer, fix_entities, make_pipeline, make_posts  # noqa: E402
from stopwatch import in_turns  # noqa: E402
from workload import LABELS, build, grouped_lengths, jpeg, make_text, make_words  # noqa: E402

from modeling_i2srm import Extractor  # noqa: E402
from modeling_i2srm.pipeline_i2srm import MultimodalTokenClassificationPipeline  # noqa: E402

SIDES = ("floor:bf16", "cached:bf16", "ours:bf16", "recipe:bf16")  # the last two decode pictures
ONCE = ("cached:fp32", "eager:bf16", "compiled:bf16")  # at the batch size next to 32
POSTS_OF_TWITTER2015 = 4000
POOL = 16  # posts whose pictures the others share

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", default="cuda")
parser.add_argument("--sizes", nargs="+", default=["minilm", "base", "large"])
parser.add_argument("--batch_sizes", nargs="+", type=int, default=[8, 32, 128, 256])
parser.add_argument("--largest_with_pictures", type=int, default=32, help="batch size up to which pictures are decoded")
parser.add_argument("--steps", type=int, default=6, help="timed steps of a side, after one that is not counted")
parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="also torch.compile")
parser.add_argument("--parts", nargs="+", default=["agreement", "train", "infer", "pipelines", "extractor"])
parser.add_argument("--output", type=Path)


def batches_of(task: str, model: nn.Module, batch_size: int, count: int, pictures: bool) -> list[list[dict]]:
    """Batches of posts with random features; with `pictures` also a few JPEGs that all posts share."""
    generator = np.random.default_rng(0)
    config, size = model.config, 4 * model.model.pooled_channels + model.model.last_channels
    features = torch.rand(POOL, 1 + config.num_objects, size)
    files = [[jpeg(generator, 600, 450), *(jpeg(generator, 160, 160) for _ in range(config.num_objects))]] * POOL
    made = []
    for lengths in grouped_lengths(task, batch_size, count, generator):
        posts = [make_text(task, config, length, generator) for length in lengths]
        for i, post in enumerate(posts):
            post["visual_features"] = features[i % POOL]
            if pictures:
                post["image"], *post["objects"] = files[i % POOL]
        made.append(posts)
    return [made[i] for i in generator.permutation(count)]


def peak(device: str) -> float | None:
    """Peak megabytes allocated on the device since the last call, which starts the count again."""
    if torch.device(device).type != "cuda":
        return None
    megabytes = torch.cuda.max_memory_allocated() / 1e6
    torch.cuda.reset_peak_memory_stats()
    return round(megabytes)


def time_side(make: Callable, batches: list[list[dict]], steps: int, device: str) -> dict:
    """The figures of one side: its median step, loader share and memory; or why it failed."""
    gc.collect()
    peak(device)
    try:
        side = make()
        seconds = in_turns({"side": lambda i: side.step(batches[i % len(batches)])}, steps, device)["side"]
    except torch.OutOfMemoryError as error:
        return {"error": str(error)[:100]}
    wall = seconds["wall_seconds"]
    loading = np.median(side.load_seconds[1:]) if side.load_seconds else 0.0
    return {
        "milliseconds": round(1000 * wall, 2),
        "samples_per_second": round(len(batches[0]) / wall, 1),
        "loader_share": round(loading / wall, 3),
        "megabytes": peak(device),
    }


def train_and_infer(arguments: argparse.Namespace, part: str) -> Iterator[dict]:
    """Figures of training steps or of answers, for all sizes, batch sizes and sides."""
    for size in arguments.sizes:
        model, processor = build("ner", size)
        model.to(arguments.device)
        for batch_size in arguments.batch_sizes:
            pictures = batch_size <= arguments.largest_with_pictures
            batches = batches_of("ner", model, batch_size, 3, pictures)
            sides = SIDES if pictures else SIDES[:2]
            if batch_size == min(arguments.batch_sizes, key=lambda count: abs(count - 32)):
                sides += ONCE[: 3 if arguments.compile else 2]
            floor = None
            for name in sides:
                about = {"part": part, "task": "ner", "size": size, "batch": batch_size, "side": name}
                make = partial((train if part == "train" else infer).Side, name, model, processor)
                make = partial(make, *([] if part == "train" else ["ner"]), arguments.device)
                figures = time_side(make, batches, arguments.steps, arguments.device)
                if name == "floor:bf16":
                    floor = figures.get("milliseconds")
                if floor and "milliseconds" in figures:
                    figures["times_floor"] = round(figures["milliseconds"] / floor, 2)
                if part == "train" and "samples_per_second" in figures:
                    figures["hours_of_an_epoch"] = round(POSTS_OF_TWITTER2015 / figures["samples_per_second"] / 3600, 5)
                torch.compiler.reset()
                yield about | figures


def agreement(arguments: argparse.Namespace) -> Iterator[dict]:
    """Compare logits and best labels on the device with those of the CPU in float32."""
    for task in LABELS:
        torch.manual_seed(0)
        model, processor = build(task, "tiny" if arguments.device == "cpu" else "minilm")
        model.eval()
        collator = train.CachedCollator(processor)
        batch = collator(batches_of(task, model, 16, 1, False)[0])
        batch.pop("labels")
        expected = model(**batch)["logits"].detach()
        device = torch.device(arguments.device)
        model.to(device)
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        for attention in ("sdpa", "eager"):
            model.set_attn_implementation(attention)
            for dtype in (torch.float32, torch.bfloat16):
                with torch.no_grad(), torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16):
                    logits = model(**moved)["logits"].float().cpu()
                yield {
                    "part": "agreement",
                    "task": task,
                    "side": f"{attention}:{str(dtype).removeprefix('torch.')}",
                    "largest_difference": float((logits - expected).abs().max()),
                    "same_best_label": round(float((logits.argmax(-1) == expected.argmax(-1)).float().mean()), 4),
                }


def pipelines(arguments: argparse.Namespace) -> Iterator[dict]:
    """Posts per second of a text-only entity pipeline of ours and of transformers, with the same encoder and posts."""
    for size in arguments.sizes:
        model, processor = build("ner", size)
        text = model.config.text_config
        tokenizer = processor.tokenizer
        words = make_words(1024 if arguments.device != "cpu" else 16)
        tokenizer.add_tokens(sorted({word for post in words for word in post}))
        model.model.text_encoder.resize_token_embeddings(len(tokenizer))
        text.vocab_size = len(tokenizer)
        text.num_labels = model.config.num_labels
        theirs = BertForTokenClassification(text)
        for batch_size in arguments.batch_sizes:
            for dtype in (torch.float32, torch.bfloat16):
                common = {"device": arguments.device, "batch_size": batch_size}
                sides = {
                    "ours": MultimodalTokenClassificationPipeline(
                        model=model.to(dtype).eval(), processor=processor, **common
                    ),
                    "transformers": TokenClassificationPipeline(
                        model=theirs.to(dtype).eval(), tokenizer=tokenizer, **common
                    ),
                }
                posts = {"ours": [{"tokens": post} for post in words], "transformers": [" ".join(p) for p in words]}
                for name, pipe in sides.items():
                    list(pipe(posts[name][: 2 * batch_size]))
                    start = time.perf_counter()
                    list(pipe(posts[name]))
                    yield {
                        "part": "pipelines",
                        "size": size,
                        "batch": batch_size,
                        "side": f"{name}:{str(dtype).removeprefix('torch.')}",
                        "posts_per_second": round(len(words) / (time.perf_counter() - start), 1),
                    }


def extractors(arguments: argparse.Namespace) -> Iterator[dict]:
    """Posts per second of an `Extractor` with a joint model, pictures in memory."""
    for size in arguments.sizes:
        pipe = make_pipeline("multimodal-joint-extraction", size, arguments.device)
        fix_entities(pipe.model, 3)
        for batch_size in (count for count in arguments.batch_sizes if count <= arguments.largest_with_pictures):
            posts = make_posts(batch_size, pipe.model.config.num_objects)
            for dtype in (torch.float32, torch.bfloat16):
                pipe.model.to(dtype)
                peak(arguments.device)
                side = partial(answer, Extractor(pipe), posts)
                seconds = in_turns({"joint": side}, arguments.steps, arguments.device)["joint"]["wall_seconds"]
                yield {
                    "part": "extractor",
                    "size": size,
                    "batch": batch_size,
                    "side": str(dtype).removeprefix("torch."),
                    "posts_per_second": round(batch_size / seconds, 1),
                    "megabytes": peak(arguments.device),
                }


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(min(torch.get_num_threads(), 8))
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    lines = [{"part": "about", "device": device, "torch": torch.__version__}]
    parts = {"agreement": agreement, "pipelines": pipelines, "extractor": extractors}
    for part in arguments.parts:
        make = parts.get(part, lambda arguments, part=part: train_and_infer(arguments, part))
        for line in make(arguments):
            lines.append(line)
            print(json.dumps(line), flush=True)
            if arguments.output:
                arguments.output.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
