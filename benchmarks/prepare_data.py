"""How fast the data set scripts are, and how much memory they take.

    python benchmarks/prepare_data.py                       # texts of DATA_DIR and 10,000 generated JPEGs of 600x400
    python benchmarks/prepare_data.py --posts 2000 --num_proc 1 2 4

Each measurement runs in a process of its own, whose peak memory is read from the system.
Pictures are compared with the floor in the same run: decoding the same files one after the other with Pillow. In the
last lines the pictures that MNRE names are generated ones: its 15,485 rows share 9,201 pictures.
"""

import argparse
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from modeling_i2srm.prepare.mnre import read_rows

ROOT = Path(__file__).resolve().parents[1]

WORDS = "who else is watching the game tonight in Paris with Kobe and all of his friends from Lakers ?".split()

# Runs a script's builder and prints seconds, rows and the peak memory of the process.
MEASURE = """
import json, resource, time
from modeling_i2srm.prepare import {module} as module
from modeling_i2srm.prepare.builder import write_parquet
started = time.perf_counter()
builder = write_parquet(module.{name}, {output!r}, num_proc={num_proc}, data_dir={data_dir!r})
print(json.dumps({{
    "seconds": time.perf_counter() - started,
    "rows": sum(split.num_examples for split in builder.info.splits.values()),
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""


def measure(module: str, name: str, data_dir: Path, output: Path, num_proc: int = 1) -> dict:
    """Run a builder in a new process."""
    code = MEASURE.format(module=module, name=name, output=str(output), num_proc=num_proc, data_dir=str(data_dir))
    environment = {**os.environ, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    result = json.loads(done.stdout.splitlines()[-1])
    result["bytes"] = sum(path.stat().st_size for path in output.glob("data/*.parquet"))
    return result


def make_pictures(folder: Path, count: int, width: int = 600, height: int = 400) -> int:
    """Write JPEGs that look like photographs to a decoder (smooth noise); return their bytes."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    size = 0
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        (folder / f"{number}.jpg").write_bytes(file.getvalue())
        size += file.tell()
    return size


def write_texts(folder: Path, names: list[str]):
    """Write a training text in which the pictures occur in this order, and two posts for each other split."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for file, part in (("train", names), ("valid", names[:2]), ("test", names[:2])):
        posts = ["\n".join(f"{word}\tO" for word in rng.sample(WORDS, len(WORDS))) for _ in part]
        text = "".join(f"IMGID:{name}\n{post}\n\n" for name, post in zip(part, posts, strict=True))
        (folder / f"{file}.txt").write_text(text, encoding="utf-8")


def link_mnre_pictures(data_dir: Path, pictures: Path, folder: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give the pictures that MNRE names generated contents; return number and bytes over rows, and over files."""
    (folder / "pictures").mkdir(parents=True)
    contents = sorted(pictures.iterdir())
    named = {}
    for split in ("train", "val", "test"):
        text = next(data_dir.rglob(f"ours_{split}.txt"))
        (folder / text.name).symlink_to(text.resolve())
        for _, row in read_rows(text)[0]:
            named.setdefault(row["img_id"], []).append(row)
    sizes = []
    for content, (name, rows) in zip(contents, named.items(), strict=False):
        (folder / "pictures" / name).hardlink_to(content)
        sizes.append((len(rows), content.stat().st_size))
    over_rows = sum(count for count, _ in sizes), sum(count * size for count, size in sizes)
    return over_rows, (len(sizes), sum(size for _, size in sizes))


def decode_all(folder: Path) -> float:
    """Return the seconds that decoding every picture once takes in one thread."""
    started = time.perf_counter()
    for path in folder.iterdir():
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    return time.perf_counter() - started


def line(what: str, result: dict, floor: float | None = None) -> str:
    rate = result["rows"] / result["seconds"]
    text = f"{what:34} {result['rows']:7,} {result['seconds']:8.1f} {rate:9,.0f} {result['peak']:8.0f}"
    text += f" {result['bytes'] / 1e6:10.1f}"
    return text + ("" if floor is None else f" {result['seconds'] / floor:10.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_dir = Path(os.environ.get("I2SRM_DATA_DIR", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data_dir", type=Path, default=data_dir, help="raw files of the benchmarks (I2SRM_DATA_DIR)")
    parser.add_argument("--posts", type=int, default=10_000, help="generated posts with a picture each")
    parser.add_argument("--num_proc", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    header = ("", "rows", "seconds", "rows/s", "peak MB", "Parquet MB", "x decoding")
    print("{:34} {:>7} {:>8} {:>9} {:>8} {:>10} {:>10}".format(*header))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for module, name in (("twitter2015", "Twitter2015"), ("twitter2017", "Twitter2017"), ("mnre", "Mnre")):
            if args.data_dir.is_dir():
                print(line(f"{module}, real text", measure(module, name, args.data_dir, work / module)))
        size = make_pictures(work / "pictures", args.posts)
        names = [str(number) for number in range(args.posts)]
        for raw, order in (("tenth", names[: args.posts // 10]), ("all", names)):
            write_texts(work / raw / "twitter2015", order)
            (work / raw / "twitter2015_images").symlink_to(work / "pictures")
        floor = decode_all(work / "pictures")
        print(f"{args.posts:,} pictures: {size / 1e6:.1f} MB; decoding them all: {floor:.1f} s")
        for num_proc in args.num_proc:
            for raw, share in (("tenth", 0.1), ("all", 1)):
                result = measure("twitter2015", "Twitter2015", work / raw, work / f"out-{raw}", num_proc)
                print(line(f"{raw} of them, num_proc {num_proc}", result, floor * share))
        if args.data_dir.is_dir():
            rows, files = link_mnre_pictures(args.data_dir, work / "pictures", work / "mnre-raw")
            result = measure("mnre", "Mnre", work / "mnre-raw", work / "out-mnre", args.num_proc[-1])
            print(line(f"mnre with pictures, num_proc {args.num_proc[-1]}", result, floor * files[0] / args.posts))
            size = f"{rows[1] / 1e6:.1f} MB over rows, {files[1] / 1e6:.1f} MB over files"
            print(f"its pictures: {rows[0]:,} rows, {files[0]:,} files; {size}")
    print(f"this program itself: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
