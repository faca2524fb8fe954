"""Many posts through the pipelines: one after the other, in threads that share them, and in processes of their own.

    python benchmarks/soak.py --posts 20000 --threads 2 --processes 2

Posts are made up: from one word to some hundreds (several windows), emoji, Arabic, words that look like special tokens;
one third without picture, the others with one of 1x1 to 1600x1200 pixels, JPEG, PNG or WebP, and up to three crops.
Each goes through the entity pipeline and, if it has two words, the relation pipeline, alone, as a server would do it.
The models are tiny and see pictures of --side pixels; large random weights make answers differ from post to post. Every
way of running has new processes, with one thread of torch a thread of ours, and every answer is compared with the one
that running one after the other gave.

Prints a JSON dict: for each way the posts per second, latencies in milliseconds, the answers that differ (exactly; by
more than 1e-5 in a score), and of each process the resident memory in MB, at the start and every --sample posts, with
the slope of a line through what follows the warm-up (the first fifth), in KB for 1,000 posts. Ends with 1 if an answer
is another one.
"""

import argparse
import io
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm
from transformers import BertTokenizer, pipeline

from modeling_i2srm import I2SRMConfig, I2SRMForRelationClassification, I2SRMForTokenClassification, I2SRMProcessor
from modeling_i2srm.processing_i2srm import resnet_image_processor
from modeling_i2srm.words import split_text

TASKS = {"ner": "multimodal-token-classification", "re": "multimodal-relation-classification"}
HEADS = {"ner": I2SRMForTokenClassification, "re": I2SRMForRelationClassification}
LABELS = {"ner": ["O", *(f"{b}-{t}" for t in ("PER", "LOC", "ORG") for b in "BI")], "re": ["None", "met", "in", "of"]}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789#@.,!?'-:/_سلامدنيا"
WORDS = (
    "Kobe lands in Paris with Jordan [SEP] </#> @ann #NWM7 http://t.co/x don't 3.5 🎉 👩‍👩‍👧 سلام دنيا , ! zzz".split()
)
SIZES = {
    (1, 1): 1,
    (1, 500): 1,
    (40, 30): 20,
    (224, 224): 20,
    (400, 300): 20,
    (640, 480): 10,
    (1600, 1200): 1,
}  # shares
KINDS = ("JPEG", "PNG", "WEBP")
TOLERANCE = 1e-5  # of scores
WARM_UP = 0.2  # of the posts

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--posts", type=int, default=20000)
parser.add_argument("--threads", type=int, default=2, help="that share the pipelines (default %(default)s)")
parser.add_argument("--processes", type=int, default=2, help="with pipelines of their own (default %(default)s)")
parser.add_argument("--sample", type=int, default=1000, help="posts between two looks at the memory")
parser.add_argument("--side", type=int, default=64, help="pixels, of pictures as the model sees them")
# How this script starts itself.
for name in ("--worker", "--answers"):
    parser.add_argument(name, help=argparse.SUPPRESS)
for name in ("--first", "--step"):
    parser.add_argument(name, type=int, help=argparse.SUPPRESS)


def save_models(folder: Path, side: int):
    """Save a model of either kind, with its processor."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    for task, model_class in HEADS.items():
        torch.manual_seed(0)
        tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(dict.fromkeys(pieces))})
        tokenizer.model_max_length = 128
        processor = I2SRMProcessor(resnet_image_processor(side), tokenizer)
        processor.add_entity_markers()
        text = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        text |= {"intermediate_size": 48, "vocab_size": len(tokenizer), "max_position_embeddings": 128}
        vision = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
        config = I2SRMConfig(
            text_config=text,
            vision_config={**vision, "layer_type": "basic"},
            prompt_hidden_size=20,
            id2label=dict(enumerate(LABELS[task])),
        )
        model = model_class(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "classifier" in name or "crf" in name or "visual_prompt" in name:
                    parameter.normal_(std=0.4)
                elif "text_encoder" in name and parameter.dim() == 2:
                    parameter.normal_(std=0.2)
        model.save_pretrained(folder / task)
        processor.save_pretrained(folder / task)


def make_pictures() -> list[bytes]:
    """The files of some pictures of all sizes."""
    files = []
    for number, (size, kind) in enumerate(itertools.product(SIZES, KINDS)):
        pixels = np.random.default_rng(number).integers(0, 256, (min(size[1], 60), min(size[0], 60), 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize(size).save(file, kind)
        files.append(file.getvalue())
    return files


def make_post(number: int, pictures: list[bytes]) -> dict:
    """A post, the same for the same number."""
    chosen = random.Random(number)
    length = 1 + int(chosen.expovariate(1 / 12)) + (200 if chosen.random() < 0.01 else 0)
    post = {"text": " ".join(chosen.choice(WORDS) for _ in range(length))}
    if chosen.random() < 2 / 3:
        shares = [share for share in SIZES.values() for _ in KINDS]
        post["image"] = chosen.choices(pictures, shares)[0]
        post["objects"] = chosen.choices(pictures[: 4 * len(KINDS)], k=chosen.choice((0, 0, 1, 2, 3)))
    return post


def answer(pipes: dict, post: dict) -> list:
    """What the pipelines say of a post; of relations, that of its first and its last word."""
    answers = [pipes["ner"](post)]
    words = split_text(post["text"])
    if len(words) > 1:
        head, tail = ((words[i].start, words[i].end) for i in (0, -1))
        answers.append(pipes["re"]({**post, "head": head, "tail": tail}, top_k=None, skip_long_pairs=True))
    return answers


def resident_memory() -> float:
    """The resident memory of this process, in MB (1e6 bytes)."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def work(arguments: argparse.Namespace):
    """Answer the posts --first, --first + --step ... in threads; write a line per answer; print the measurements."""
    torch.set_num_threads(1)
    pipes = {
        task: pipeline(name, model=f"{arguments.worker}/{task}", device="cpu", dtype=torch.float32)
        for task, name in TASKS.items()
    }
    pictures = make_pictures()
    numbers = range(arguments.first, arguments.posts, arguments.step)
    waiting, lock, latencies, memory, errors = iter(numbers), threading.Lock(), array("d"), [resident_memory()], []
    bar = tqdm(total=len(numbers), desc=f"{arguments.threads} thread(s)", unit=" posts", disable=arguments.first > 0)

    def run(file):
        while (number := next_number()) is not None and not errors:
            post = make_post(number, pictures)
            start = time.perf_counter()
            found = answer(pipes, post)
            seconds = time.perf_counter() - start
            file.write(json.dumps([number, found]) + "\n")
            with lock:
                latencies.append(seconds)
                bar.update()
                if len(latencies) % arguments.sample == 0:
                    memory.append(resident_memory())

    def next_number() -> int | None:
        with lock:
            return next(waiting, None)

    def run_or_tell(index: int):
        try:
            with open(f"{arguments.answers}.{index}", "w") as file:
                run(file)
        except Exception as error:
            errors.append(error)

    start = time.perf_counter()
    threads = [threading.Thread(target=run_or_tell, args=(index,)) for index in range(arguments.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bar.close()
    if errors:
        raise errors[0]
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "latencies": list(latencies), "memory": memory}))


def run_worker(folder: Path, arguments: argparse.Namespace, threads: int, first: int, step: int) -> subprocess.Popen:
    words = {"worker": folder, "answers": folder / f"answers-{threads}-{first}-{step}", "threads": threads}
    words |= {"first": first, "step": step, "posts": arguments.posts, "sample": max(arguments.sample // step, 1)}
    command = [sys.executable, __file__, *(str(word) for name, value in words.items() for word in (f"--{name}", value))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def read_answers(folder: Path, pattern: str) -> dict[int, list]:
    files = sorted(folder.glob(pattern))
    return dict(json.loads(line) for path in files for line in path.read_text().splitlines())


def same(found, expected) -> bool:
    """Whether two answers are the same but for `TOLERANCE` in numbers."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, float):
        return abs(found - expected) <= TOLERANCE
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    return found == expected


def slope(memory: list[float], sample: int) -> float:
    """KB that the memory grows in 1,000 posts, after the warm-up, by least squares."""
    settled = memory[max(int(WARM_UP * len(memory)), 1) :]
    if len(settled) < 2:
        return 0.0
    return statistics.linear_regression([i * sample / 1000 for i in range(len(settled))], settled).slope * 1000


def measure(folder: Path, arguments: argparse.Namespace, threads: int, processes: int, expected: dict) -> dict:
    """One way of running; without `expected`, the answers of this one are the expected ones, and are put there."""
    workers = [run_worker(folder, arguments, threads, first, processes) for first in range(processes)]
    printed = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise SystemExit(f"a process of {threads} thread(s) failed; its error stands above")
    parts = [json.loads(text) for text in printed]
    found = read_answers(folder, f"answers-{threads}-*-{processes}.*")
    expected.update({} if expected else found)
    latencies = np.array([seconds for part in parts for seconds in part["latencies"]]) * 1000
    return {
        "posts_per_second": round(arguments.posts / max(part["seconds"] for part in parts), 1),
        "p50_ms": round(float(np.percentile(latencies, 50)), 2),
        "p99_ms": round(float(np.percentile(latencies, 99)), 2),
        "max_ms": round(float(latencies.max()), 2),
        "answers": len(found),
        "differ_exactly": sum(found.get(number) != right for number, right in expected.items()),
        "wrong": sum(not same(found.get(number), right) for number, right in expected.items()),
        "memory_mb": [[round(value) for value in part["memory"]] for part in parts],
        "slope_kb_per_1000_posts": [round(slope(part["memory"], arguments.sample // processes)) for part in parts],
    }


def main():
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments)
    ways = {"one after the other": (1, 1), f"{arguments.threads} threads": (arguments.threads, 1)}
    ways[f"{arguments.processes} processes"] = (1, arguments.processes)
    with tempfile.TemporaryDirectory() as name:
        folder, expected = Path(name), {}
        save_models(folder, arguments.side)
        measured = {name: measure(folder, arguments, *way, expected) for name, way in ways.items()}
    print(json.dumps({"posts": arguments.posts, "distinct_answers": len(set(map(str, expected.values()))), **measured}))
    sys.exit(any(result["wrong"] or result["answers"] != arguments.posts for result in measured.values()))


if __name__ == "__main__":
    main()
