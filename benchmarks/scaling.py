"""How time and memory grow with the batch, the text, the pictures of a post and the rows of a data set.

    python benchmarks/scaling.py --size base --threads 2 --output docs/figures/scaling.png

Four axes; each point is measured in a process of its own, which gives its peak memory, too:

* batch: a NER training step (as the side `cached` of benchmarks/train.py) of 1 to 128 posts of 42 sub-tokens;
* text: of 8 posts of 16 to 512 sub-tokens;
* pictures: of 8 posts of 42 sub-tokens with 0 to 8 pictures each, decoded and computed (as the side `ours`);
* rows: a data set of 1,000 to 100,000 posts of 4 to 35 words with a picture each, whose features are cached: the start
  of a run (encoding the texts; reading all pictures for their keys) and an epoch of its loader alone, in batches of 8.

A step is timed three times after one that is not counted, and the median taken. With one thread on the CPU the times
are those that the process uses the CPU, which other work disturbs less. Memory of a step is the peak of the process; of
a data set what the process holds itself (RssAnon), without the pages of mapped files, which the system may drop at any
time.

Prints a JSON dict with the points of each axis, and its growth: of each pair of neighbours the exponent e in
time = c * size^e; at most about 1 is linear or better. Draws them with --output.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from stopwatch import own_peak_memory, run_alone, synchronize  # noqa: E402
from train import Side  # noqa: E402
from workload import SIZES, build, jpeg, make_text, make_words, random_features  # noqa: E402

from modeling_i2srm import I2SRMDataCollator, I2SRMProcessor, VisualFeatureCache, cache_pictures  # noqa: E402
from modeling_i2srm.data.dataset import encode_split, train_tokenizer  # noqa: E402
from modeling_i2srm.data.feature_cache import read_picture  # noqa: E402
from modeling_i2srm.support.allocator import keep_freed_memory  # noqa: E402
from modeling_i2srm.support.figure_style import COLOURS, new_figure, styled  # noqa: E402
from modeling_i2srm.training.sampling import LengthGroupedSampler  # noqa: E402
from modeling_i2srm.training.tasks import MNER  # noqa: E402

AXES = {
    "batch": (1, 2, 4, 8, 16, 32, 64, 128),
    "text": (16, 32, 64, 128, 256, 512),
    "pictures": (0, 1, 2, 4, 8),
    "rows": (1_000, 10_000, 100_000),
}
TITLES = {
    "batch": "posts in a batch",
    "text": "sub-tokens in a text (8 posts)",
    "pictures": "pictures in a post (8 posts)",
    "rows": "rows of a data set (features cached)",
}
BATCH, TOKENS = 8, 42
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-MISC", "I-MISC"]
COLOUR = {"seconds": 0, "start_seconds": 0, "epoch_seconds": 5, "megabytes": 1}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", choices=SIZES, default="base")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--device", default="cpu")
parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
parser.add_argument("--largest", type=int, help="leave out larger points")
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--output", type=Path, help="PNG of the curves")
parser.add_argument("--point", type=int, help="measure this point of the one axis, nothing else")


def clock_of(arguments: argparse.Namespace) -> Callable[[], float]:
    """Tells the time: that of the CPU for one thread on a CPU, else that of the wall."""
    return time.process_time if arguments.threads == 1 and arguments.device == "cpu" else time.perf_counter


def measure_step(axis: str, value: int, arguments: argparse.Namespace) -> dict:
    """A training step at a point of the axes batch, text and pictures."""
    posts, tokens, pictures = (
        value if axis == name else default for name, default in (("batch", BATCH), ("text", TOKENS), ("pictures", 4))
    )
    model, processor = build("ner", arguments.size, num_objects=7 if axis == "pictures" else 3)
    generator = np.random.default_rng(0)
    batch = [make_text("ner", model.config, tokens, generator) for _ in range(posts)]
    if axis == "pictures":
        for post in batch:
            post["image"], *post["objects"] = [jpeg(generator, 600, 450) for _ in range(pictures)] or [None]
    else:
        random_features(model, [batch])
    side = Side(f"{'ours' if axis == 'pictures' else 'cached'}:{arguments.dtype}", model, processor, arguments.device)
    del model
    seconds, clock = [], clock_of(arguments)
    for _ in range(arguments.steps + 1):
        start = clock()
        side.step(batch)
        synchronize(arguments.device)
        seconds.append(clock() - start)
    return {"seconds": statistics.median(seconds[1:]), "megabytes": own_peak_memory(arguments.device)}


def measure_rows(count: int, arguments: argparse.Namespace) -> dict:
    """The start of a run with a data set of that many rows, and an epoch of its loader."""
    clock = clock_of(arguments)
    model, processor = build("ner", arguments.size)
    generator = np.random.default_rng(0)
    posts = make_words(min(count, 1000))
    picture = jpeg(generator, 160, 160)["bytes"]
    processor = I2SRMProcessor(processor.image_processor, train_tokenizer(posts, 4000, 128), num_objects=3)

    def rows():
        for i in range(count):  # what follows the end of a JPEG is not decoded, but makes it another file
            tokens = posts[i % len(posts)]
            image = {"bytes": picture + i.to_bytes(4, "big"), "path": None}
            yield {"tokens": tokens, "ner_tags": [0] * len(tokens), "image": image, "objects": []}

    features = Features(
        tokens=List(Value("string")),
        ner_tags=List(ClassLabel(names=TAGS)),
        image=Image(decode=False),
        objects=List(Image(decode=False)),
    )
    with tempfile.TemporaryDirectory() as folder:
        split = Dataset.from_generator(rows, features, cache_dir=folder)
        cache = VisualFeatureCache.for_model(folder, model, processor)
        for start in range(0, count, 512):
            keys = [
                read_picture(row["image"], processor)[0] for row in split.select(range(start, min(start + 512, count)))
            ]
            cache.add(keys, torch.rand(len(keys), cache.size))
        started = clock()
        split, _ = encode_split(MNER, split, processor, 128, "train")
        split = cache_pictures(cache, {"train": split}, model, processor, progress=False)["train"]
        loader = DataLoader(
            split,
            BATCH,
            sampler=LengthGroupedSampler(split["length"][:], BATCH, seed=1),
            collate_fn=I2SRMDataCollator(processor, feature_cache=cache),
        )
        middle = clock()
        assert sum(len(batch["visual_features"]) for batch in loader) == count
        return {
            "start_seconds": middle - started,
            "epoch_seconds": clock() - middle,
            "megabytes": own_memory(),
        }


def own_memory() -> float:
    """What this process holds in memory itself, without mapped files, in MB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6


def growth(points: dict[int, dict]) -> dict[str, list[float]]:
    """Of each pair of neighbours the exponent by which each measure grows."""
    pairs = [(a, b) for a, b in zip(points, list(points)[1:], strict=False) if a > 0]
    names = next(iter(points.values()))
    return {
        name: [
            round(math.log(max(points[b][name], 1e-9) / max(points[a][name], 1e-9)) / math.log(b / a), 2)
            for a, b in pairs
        ]
        for name in names
    }


def draw(result: dict[str, dict], path: Path) -> None:
    """Draw time and memory along each axis."""
    figure, places = new_figure(8.5, 3.1 * len(result), rows=len(result), columns=2)
    for axis, panels in zip(result, zip(places[::2], places[1::2], strict=True), strict=True):
        points = result[axis]["points"]

        def values(name: str, points=points) -> list[float]:
            return [point[name] for point in points.values()]

        titles = ("Time", "Memory") if axis == "rows" else ("Time of a training step", "Peak memory")
        for axes, unit, title in zip(panels, ("seconds", "MB"), titles, strict=True):
            names = [name for name in next(iter(points.values())) if ("seconds" in name) == (unit == "seconds")]
            for name in names:
                label = (
                    name.removesuffix("_seconds")
                    .replace("start", "start of a run")
                    .replace("epoch", "epoch of the loader")
                )
                axes.plot(list(points), values(name), "o-", color=COLOURS[COLOUR[name]], label=label)
            axes.set(
                xlabel=TITLES[axis],
                ylabel=unit,
                title=title,
                xlim=(0, None),
                ylim=(0, (1.08 + 0.3 * (len(names) > 1)) * max(max(values(name)) for name in names)),
            )
            if len(names) > 1:
                axes.legend()
    figure.savefig(path)


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    if arguments.point is not None:
        (axis,) = arguments.axes
        measured = (
            measure_rows(arguments.point, arguments)
            if axis == "rows"
            else measure_step(axis, arguments.point, arguments)
        )
        print(json.dumps(measured))
        return
    settings = {name: getattr(arguments, name) for name in ("size", "threads", "device", "dtype", "steps")}
    result = {}
    for axis in arguments.axes:
        values = [value for value in AXES[axis] if arguments.largest is None or value <= arguments.largest]
        points = {value: run_alone(__file__, **settings, axes=axis, point=value) for value in values}
        result[axis] = {"points": points, "growth": growth(points)}
    print(json.dumps({**settings, **result}, indent=2))
    if arguments.output:
        with styled():
            draw(result, arguments.output)


if __name__ == "__main__":
    main()
