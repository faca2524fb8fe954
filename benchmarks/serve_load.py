"""Load on the server: latencies, posts per second, and wrong answers, with 1, 8 and 32 clients.

    make quickstart
    python benchmarks/serve_load.py --model runs/quickstart --dataset data/visual_posts

Each client sends one post after the other, each with its picture and crops as data: URIs, over a connection that it
keeps. The server is another process; it notes which posts came together. Then an `Extractor` answers each of these
batches again: an answer that is not the same, byte by byte, is wrong. Another comparison is with each post alone: the
entities, the objects that show them and the relations have to be the same, and scores may differ by rounding.

Prints a JSON list: for each number of clients, and for a server that takes each post alone (--max_batch 1), posts per
second, the median and the 99th percentile of the latency in milliseconds, the mean number of posts per batch, the wrong
answers, the answers that differ from the post alone in more than rounding, and the largest difference of a score.
Just before, an `Extractor` answers posts one by one, for its posts per second. Milliseconds of the processor per post,
of the server and of the `Extractor`, depend less on what else the machine does.
"""

import argparse
import base64
import http.client
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import torch
from datasets import load_dataset

from modeling_i2srm import Extractor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="runs/quickstart", help="joint checkpoint (default %(default)s)")
parser.add_argument("--dataset", default="data/visual_posts", help="whose test posts are sent (default %(default)s)")
parser.add_argument("--posts", type=int, default=200, help="different posts (default %(default)s)")
parser.add_argument("--requests", type=int, default=20000, help="in all (default %(default)s)")
parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="at the same time (default %(default)s)")
parser.add_argument("--max_batch", type=int, nargs="+", default=[8, 1], help="of the server (default %(default)s)")
parser.add_argument("--serve", help=argparse.SUPPRESS)  # how this script starts the server: the file of the batches


def serve(model: str, batches: str, max_batch: int) -> None:
    """Run a server that writes its port and the ids of each batch, a line each, to a file."""
    import uvicorn

    from modeling_i2srm.inference.server import Limits, make_app

    torch.set_num_threads(1)
    extractor = Extractor.from_pretrained(model, device="cpu")
    extract = extractor.extract
    server = uvicorn.Server(
        uvicorn.Config(make_app(extractor, Limits(max_batch=max_batch)), port=0, log_level="error", access_log=False)
    )
    with open(batches, "w", buffering=1) as file:

        def note(posts):
            file.write(json.dumps([post.id for post in posts]) + "\n")
            return extract(posts)

        def tell():
            while not server.started:
                time.sleep(0.05)
            file.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")

        extractor.extract = note
        threading.Thread(target=tell, daemon=True).start()
        server.run()


def encode(picture) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def read_posts(dataset: str, number: int) -> list[dict]:
    rows = load_dataset(dataset, split=f"test[:{number}]")
    return [
        {
            "tokens": row["tokens"],
            "image": row["image"] and encode(row["image"]),
            "objects": [*map(encode, row["objects"])],
        }
        for row in rows
    ]


def send(port: int, posts: list[dict], requests: int, clients: int) -> tuple[dict[str, str], list[float], float]:
    """Send requests from so many threads; answers by id, latencies in seconds, and the seconds of it all."""
    numbers, answers, latencies = count(), {}, []

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while (number := next(numbers)) < requests:
            body = json.dumps({"id": str(number), **posts[number % len(posts)]})
            started = time.perf_counter()
            connection.request("POST", "/extract", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read().decode()
            latencies.append(time.perf_counter() - started)
            answers[str(number)] = answer if response.status == 200 else f"{response.status} {answer}"

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, latencies, time.perf_counter() - started


def compare(one: dict, other: dict) -> float:
    """The largest difference of a score of two answers; infinite where anything else differs."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((compare(one[name], other[name]) for name in one if name != "id"), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max((compare(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    return 0.0 if one == other else float("inf")


def check(
    extractor: Extractor, posts: list[dict], alone: list[dict], answers: dict[str, str], batches: list[list[str]]
) -> dict:
    """Answer the batches again, and compare also with the answers to each post alone."""
    wrong, known = 0, dict[tuple[int, ...], list]()
    for batch in batches:
        numbers = tuple(int(name) % len(posts) for name in batch)
        if numbers not in known:
            known[numbers] = extractor([posts[number] for number in numbers], batch_size=len(numbers))
        for name, answer in zip(batch, known[numbers], strict=True):
            wrong += answers.get(name) != replace(answer, id=name).to_json()
    missing = len(answers) - len({name for batch in batches for name in batch} & answers.keys())
    differences = []
    for name, answer in answers.items():
        expected = alone[int(name) % len(posts)]
        differences.append(compare(json.loads(answer), expected) if answer[0] == "{" else float("inf"))
    finite = [one for one in differences if one < 1e-3]
    return {
        "requests": len(answers),
        "wrong": wrong + missing,
        "other_than_alone": len(differences) - len(finite),
        "largest_score_difference": max(finite, default=0.0),
    }


@contextmanager
def server(model: str, max_batch: int) -> Iterator[tuple[int, psutil.Process, Callable[[], list[str]]]]:
    """A server in a process of its own: its port, the process, and a function that reads the batches until now."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "batches.txt")
        command = [sys.executable, __file__, "--serve", str(notes), "--model", model, "--max_batch", str(max_batch)]
        process = subprocess.Popen(command)
        try:
            while not (notes.exists() and notes.read_text().endswith("\n")):
                if process.poll() is not None:
                    raise RuntimeError("the server did not start")
                time.sleep(0.05)
            yield int(notes.read_text()), psutil.Process(process.pid), lambda: notes.read_text().splitlines()[1:]
        finally:
            process.terminate()
            process.wait()


def time_extractor(extractor: Extractor, posts: list[dict]) -> dict:
    """Posts per second of an `Extractor` that gets them one by one, and milliseconds of the processor per post."""
    started, used = time.perf_counter(), time.process_time()
    for post in posts:
        extractor(post)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    return {
        "extractor_posts_per_second": round(len(posts) / seconds, 1),
        "extractor_cpu_ms": round(1000 * used / len(posts), 1),
    }


def cpu_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def measure(
    extractor: Extractor, model: str, posts: list[dict], share: int, clients: list[int], max_batch: int
) -> list[dict]:
    """Rows of the result, of one server, with answers and batches."""
    rows = []
    with server(model, max_batch) as (port, process, read_batches):
        send(port, posts, 20, 1)  # warms up
        for number in clients:
            one_by_one = time_extractor(extractor, posts[:100])
            before, used = len(read_batches()), cpu_seconds(process)
            answers, latencies, seconds = send(port, posts, share, number)
            used = cpu_seconds(process) - used
            batches = [json.loads(line) for line in read_batches()[before:]]
            p50, p99 = np.percentile(np.array(latencies) * 1000, [50, 99])
            rows.append(
                {
                    "clients": number,
                    "max_batch": max_batch,
                    "posts_per_second": round(share / seconds, 1),
                    "p50_ms": round(float(p50), 1),
                    "p99_ms": round(float(p99), 1),
                    "posts_per_batch": round(share / len(batches), 2),
                    "cpu_ms": round(1000 * used / share, 1),
                    **one_by_one,
                    "answers": answers,
                    "batches": batches,
                }
            )
    return rows


def main() -> None:
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.model, arguments.serve, arguments.max_batch[0])
    torch.set_num_threads(1)
    posts = read_posts(arguments.dataset, arguments.posts)
    extractor = Extractor.from_pretrained(arguments.model, device="cpu")
    alone = [extractor(post).to_dict() for post in posts]
    share = arguments.requests // (len(arguments.max_batch) * len(arguments.clients))
    rows = []
    for most in arguments.max_batch:
        for row in measure(extractor, arguments.model, posts, share, arguments.clients, most):
            rows.append(row | check(extractor, posts, alone, row.pop("answers"), row.pop("batches")))
    print(json.dumps(rows, indent=1))
    sys.exit(any(row["wrong"] for row in rows))


if __name__ == "__main__":
    main()
