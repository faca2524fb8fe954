"""Measure how the time and memory of an Extractor grow with the number of posts and with the size of a post.

    python benchmarks/post_growth.py --output docs/figures/post_growth.png

Axes: posts of a generator (made-up texts, the example model, a process for each point), the words of a text without
entities, the entities in a text of 150 words, and the crops of a post with a picture (a new model of the size "tiny",
JPEGs). One thread, one worker, batches of 8.

Prints a JSON dict: for each axis its points, each with the milliseconds of CPU time per post, for posts also the peak
memory in MB.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import pipeline

sys.path.insert(0, str(Path(__file__).parent))
from stopwatch import own_peak_memory, run_alone  # noqa: E402
from workload import build, jpeg  # noqa: E402

from modeling_i2srm import Extractor, example_model, example_posts  # noqa: E402
from modeling_i2srm.support.figure_style import new_figure, styled  # noqa: E402

AXES = {
    "posts": [1_000, 10_000, 100_000, 1_000_000],
    "words": [8, 32, 64, 128, 256, 512],
    "entities": [1, 5, 10, 20, 30],
    "crops": [0, 1, 2, 4, 6, 8],
}
TITLES = {"posts": "posts", "words": "words of a text", "entities": "entities found", "crops": "crops of a post"}
BATCH, LENGTH, REPEATS = 8, 150, 3

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
parser.add_argument("--largest", type=int, help="leave out larger points of the axis posts")
parser.add_argument("--point", type=int, help=argparse.SUPPRESS)
parser.add_argument("--output", type=Path, help="file of the figure")


def pieces() -> tuple[list[str], list[list[str]]]:
    """The words of the example posts that are in no entity, and the words of their entities."""
    plain, names = [], []
    for post in example_posts():
        spans = [(entity["start"], entity["end"]) for entity in post["entities"]]
        names += [post["tokens"][start:end] for start, end in spans]
        inside = {word for start, end in spans for word in range(start, end)}
        plain += [word for n, word in enumerate(post["tokens"]) if n not in inside]
    return plain, names


def stream(count: int) -> Iterator[dict]:
    """Made-up texts, 4 to 20 words long."""
    plain, names = pieces()
    generator = np.random.default_rng(0)
    for number in range(count):
        words = [plain[i] for i in generator.integers(len(plain), size=generator.integers(3, 18))]
        yield {"id": str(number), "tokens": words + names[number % len(names)]}


def measure_stream(count: int) -> dict[str, float]:
    """Extract from a stream of so many posts."""
    extractor, started = Extractor.from_pretrained(example_model(), device="cpu"), time.process_time()
    answered = sum(1 for _ in extractor(stream(count), batch_size=BATCH))
    assert answered == count
    return {"milliseconds": 1e3 * (time.process_time() - started) / count, "megabytes": own_peak_memory()}


def measure_posts(extractor: Extractor, posts: list[dict]) -> tuple[float, float]:
    """The median milliseconds of CPU time per post, and the entities found in one."""
    found, times = extractor(posts, batch_size=BATCH), []
    for _ in range(REPEATS):
        started = time.process_time()
        extractor(posts, batch_size=BATCH)
        times.append(1e3 * (time.process_time() - started) / len(posts))
    return statistics.median(times), sum(len(one.entities) for one in found) / len(found)


def measure_contents(axis: str) -> dict[str, dict[str, float]]:
    """The cost of posts along an axis of what is in them."""
    plain, names = pieces()
    if axis == "crops":
        model, processor = build("ner", "tiny", num_objects=max(AXES[axis]))
        extractor = Extractor(pipeline("multimodal-token-classification", model=model.eval(), processor=processor))
        generator = np.random.default_rng(0)
        image, crop = jpeg(generator, 600, 450), jpeg(generator, 160, 160)
    else:
        extractor = Extractor.from_pretrained(example_model(), device="cpu")
    points = {}
    for value in AXES[axis]:
        words = (plain * LENGTH)[: value if axis == "words" else LENGTH]
        post = {"tokens": words}
        if axis == "entities":
            marked = [[*names[n % len(names)], *plain[n % 7 : n % 7 + 2]] for n in range(value)]
            post = {"tokens": [word for one in marked for word in one] + words[sum(map(len, marked)) :]}
        elif axis == "crops":
            post = {"tokens": words[:16], "image": image, "objects": [crop] * value}
        milliseconds, found = measure_posts(extractor, [post] * 2 * BATCH)
        points[str(round(found) if axis == "entities" else value)] = {"milliseconds": milliseconds}
    return points


def draw(result: dict[str, dict], path: Path) -> None:
    """Draw the cost of a post along each axis."""
    figure, places = new_figure(8, 5.2, rows=2, columns=2)
    for axis, axes in zip(result, places, strict=False):
        points = result[axis]
        axes.plot([int(value) for value in points], [point["milliseconds"] for point in points.values()], "o-")
        axes.set(xlabel=TITLES[axis], ylabel="CPU ms per post")
        axes.set_ylim(0, 1.1 * max(point["milliseconds"] for point in points.values()))
        if axis == "posts":
            axes.set_xscale("log")
    figure.savefig(path)


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.point is not None:
        print(json.dumps(measure_stream(arguments.point)))
        return
    result = {}
    for axis in arguments.axes:
        if axis == "posts":
            counts = [count for count in AXES[axis] if count <= (arguments.largest or count)]
            result[axis] = {str(count): run_alone(__file__, point=count) for count in counts}
        else:
            result[axis] = measure_contents(axis)
    print(json.dumps(result, indent=2))
    if arguments.output:
        with styled():
            draw(result, arguments.output)


if __name__ == "__main__":
    main()
