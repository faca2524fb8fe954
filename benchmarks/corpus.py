"""How fast examples/extract.py is with one and with two processes, and whether its memory stays flat.

    python benchmarks/corpus.py --ner runs/quickstart_mner --re runs/quickstart_mre
    python benchmarks/corpus.py --ner runs/quickstart --posts 2000 --memory_posts 1000 5000
    python benchmarks/corpus.py --engines local ray --text --memory_posts        # the example model, texts alone

The posts are visual posts, with their pictures in Parquet files, or texts alone. One and two processes take turns
on the same posts, with each engine, and their results are compared byte by byte. For more posts than are made, the
same files are given again under other names. "seconds" and "posts/s" are the script's own: without starting and
loading in the local engine, with both in the engine ray. "in all" and CPU seconds are of everything, CPU seconds
without the workers of Ray; the peak memory is that of the largest process, read from the system, which is no worker
of Ray.
"""

import argparse
import filecmp
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from modeling_i2srm import example_model, example_posts
from modeling_i2srm.prepare.builder import write_parquet
from modeling_i2srm.prepare.visual_posts import VisualPosts

ROOT = Path(__file__).resolve().parents[1]
TWO = ["-m", "torch.distributed.run", "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", "--nproc_per_node"]


def make_posts(folder: Path, count: int, text: bool = False) -> list[Path]:
    """Write Parquet files of so many posts, or JSONL files of their words."""
    if text:
        draw, words = random.Random(0), sorted({word for post in example_posts() for word in post["tokens"]})
        path = folder / "posts.jsonl"
        folder.mkdir(parents=True)
        rows = ({"tokens": draw.choices(words, k=draw.randint(5, 25))} for _ in range(count))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return [path]
    write_parquet(VisualPosts, folder / "posts", train=1, validation=1, test=count)
    return sorted((folder / "posts").glob("data/test-*.parquet"))


def repeat(files: list[Path], folder: Path, times: int) -> list[Path]:
    """Give files more names."""
    folder.mkdir()
    links = [folder / f"{number}-{path.parts[-3]}-{path.name}" for number in range(times) for path in files]
    for link, path in zip(links, files * times, strict=True):
        link.hardlink_to(path)
    return links


def extract(inputs: list[Path], output: Path, processes: int, options: list[str], engine: str = "local") -> dict:
    """Run the script in new processes; return its summary with the wall time and the peak memory in MB."""
    launcher = [*TWO, str(processes)] if processes > 1 and engine == "local" else []
    if engine == "ray":
        options = [*options, "--engine", "ray", "--ray_workers", str(processes)]
    command = [sys.executable, *launcher, str(ROOT / "examples" / "extract.py"), "--input", *map(str, inputs)]
    command += ["--output", str(output), "--use_cpu", "true", "--disable_tqdm", "true", *options]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **os.environ, "PYTHONPATH": path}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)  # of the process and those it started
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    wall = time.perf_counter() - started
    measured = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}
    return {**json.loads((output / "summary.json").read_text()), **measured}


def line(what: str, run: dict) -> str:
    return (
        f"{what:26} {run['posts']:7,} {run['seconds']:9.1f} {run['posts_per_second']:8.1f} {run['wall']:8.1f} "
        f"{run['cpu']:8.1f} {run['peak']:8.0f} {run['entities']:9,} {run['relations']:10,} {run['errors']:7,}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ner", default=example_model(), help="model of the entities, or a joint one")
    parser.add_argument("--re", help="model of the relations")
    parser.add_argument("--posts", type=int, default=10_000, help="posts for one and two processes")
    parser.add_argument("--text", action="store_true", help="JSONL files of words alone, 5 to 25 a post")
    parser.add_argument("--engines", nargs="+", default=["local"], choices=("local", "ray"), help="that take turns")
    parser.add_argument("--repeats", type=int, default=2, help="how often one and two processes take turns")
    parser.add_argument("--memory_posts", type=int, nargs="*", default=[1000, 50_000], help="posts, for one process")
    parser.add_argument(
        "--options", nargs=argparse.REMAINDER, default=[], help="more options of extract.py, at the end"
    )
    args = parser.parse_args()
    options = ["--ner", args.ner, *(["--re", args.re] if args.re else []), *args.options]
    header = ("", "posts", "seconds", "posts/s", "in all s", "CPU s", "peak MB", "entities", "relations", "errors")
    print("{:26} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>10} {:>7}".format(*header))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        files = make_posts(work / "all", args.posts, args.text)
        for turn in range(args.repeats):
            first, speed = None, 0.0
            for engine in args.engines:
                for processes in (1, 2):
                    output = work / f"out-{turn}-{engine}-{processes}"
                    run = extract(files, output, processes, options, engine)
                    print(
                        line(f"{engine}, {processes} process{'es' * (processes > 1)}, turn {turn + 1}", run), flush=True
                    )
                    if first is None:
                        first, speed = output, run["posts_per_second"]
                        continue
                    names = [path.name for path in first.glob("*.jsonl")]
                    _, different, missing = filecmp.cmpfiles(first, output, names, shallow=False)
                    wrong = len(different) + len(missing)
                    said = f"{wrong} of {len(names)} files differ" if wrong else "the same results"
                    print(f"{run['posts_per_second'] / speed:.2f} times the posts per second of the first, {said}")
        for count in args.memory_posts:
            times, rest = divmod(count, args.posts)
            inputs = repeat(files, work / f"in-{count}", times) if times else []
            inputs += make_posts(work / f"rest-{count}", rest) if rest else []
            print(line("memory, 1 process", extract(inputs, work / f"out-{count}", 1, options)), flush=True)


if __name__ == "__main__":
    main()
