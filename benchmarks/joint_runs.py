"""Shared by the benchmarks of the joint model: parallel runs, the graphs of both systems, and their scores.

Both systems answer the same posts, end to end. The joint model gives a graph in one pass. Of the two marker models the
entity model gives the spans, and the relation model is asked of all ordered pairs of them that some relation of the
training data allows; each pair has the best of the relations that its types allow, or none.
"""

import io
import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch
import transformers

from modeling_i2srm import (
    I2SRMDataCollator,
    I2SRMForJointExtraction,
    I2SRMForRelationClassification,
    I2SRMForTokenClassification,
    I2SRMProcessor,
)
from modeling_i2srm.checks import NO_RELATION
from modeling_i2srm.crf import find_entities
from modeling_i2srm.data.dataset import first_rows, load_splits
from modeling_i2srm.support.options import dict_to_argv, file_to_argv
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import TASKS
from modeling_i2srm.words import EntityPairError

BATCH = 64  # posts, or pairs, that are answered together
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()}
MINILM_BACKBONE = {  # of runs without pictures: small, and not used
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}


class Graph(NamedTuple):
    """Entities (first word, last word + 1, type) of a post, and relations (head, tail, label) by their positions."""

    entities: list[tuple[int, int, str]]
    relations: list[tuple[int, int, str]]


class Post(NamedTuple):
    """A post of a data set: its words, its gold graph, and the columns of its pictures."""

    tokens: list[str]
    gold: Graph
    pictures: dict


@dataclass(frozen=True)
class Job:
    """A run.

    Args:
        name: unique; a run whose record is there is not repeated.
        work: a function of a module, which another process can import; returns what is recorded.
        arguments: of the function.
        needs: names of the jobs that must have ended before.
    """

    name: str
    work: Callable[..., dict]
    arguments: dict
    needs: tuple[str, ...] = field(default=())


def limit_rows(rows: int | None) -> dict[str, int]:
    """The settings that cut each split to its first rows, for a trial of a benchmark; {} without a number."""
    return {f"max_{split}_samples": rows for split in ("train", "eval", "predict")} if rows else {}


def run_jobs(jobs: list[Job], output: Path, pool: Executor, workers: int) -> list[dict]:
    """Run the jobs that have no record yet, some beside each other, in their order, unless one waits for what it needs.

    Args:
        output: the file of the records, one JSON object a line; each is appended when its run ends.
        workers: most runs at a time.

    Returns:
        The records of all jobs that have ended without an error.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    ended = read_records(output).keys()
    waiting = [job for job in jobs if job.name not in ended]
    print(f"{len(jobs)} runs, {len(waiting)} left", flush=True)
    running: dict[Future, Job] = {}
    while waiting or running:
        for job in list(waiting):
            if len(running) < workers and set(job.needs) <= read_records(output).keys():
                waiting.remove(job)
                running[pool.submit(timed, job)] = job
        if not running:
            print(f"not run, since a run that they need failed: {', '.join(job.name for job in waiting)}", flush=True)
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job = running.pop(future)
            error = future.exception()
            record = {"name": job.name, **({"error": repr(error)} if error else future.result())}
            with open(output, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            shown = {name: record[name] for name in ("name", "error", "seconds") if name in record}
            scores = {name: value["f1"] for name, value in record.get("scores", {}).items()}
            print(json.dumps({**shown, **scores}), flush=True)
    records = read_records(output)
    return [records[job.name] for job in jobs if job.name in records]


def read_records(output: Path) -> dict[str, dict]:
    """The records of a file by name, without those of runs that failed."""
    if not output.exists():
        return {}
    records = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    return {record["name"]: record for record in records if "error" not in record}


def timed(job: Job) -> dict:
    """Run a job; return its result and its time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = job.work(**job.arguments)
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return {**result, **{name: round(value, 1) for name, value in seconds.items()}, "versions": VERSIONS}


def start_worker(threads: int) -> None:
    """Prepare a process of the pool."""
    torch.set_num_threads(threads)


def train(task: str, config: str | None, settings: dict, folder: str) -> dict:
    """Train and evaluate a model; what it prints is left out.

    Args:
        task: its name.
        config: a JSON file of settings.
        settings: others, which win.
        folder: of the model.

    Returns:
        The settings, and the metrics of the test and the validation split.
    """
    argv = [] if config is None else file_to_argv(config)
    argv += dict_to_argv({**settings, "output_dir": folder, "overwrite": True, "report_to": "none"})
    argv += ["--disable_tqdm", "true", "--compare_text_only", "false"]
    cpu = time.process_time()
    with redirect_stdout(io.StringIO()):
        results = run_task(TASKS[task], parse_arguments(argv, task))
    metrics = results["multimodal" if "multimodal" in results else "text_only"]
    blanked = {"pictures_blanked": results["pictures_blanked"]} if "pictures_blanked" in results else {}
    training = {"training_cpu_seconds": round(time.process_time() - cpu, 1), "truncation": results["truncation"]}
    return {"task": task, "settings": settings, "metrics": metrics, **blanked, **training}


def read_posts(dataset: str, split: str, rows: int | None = None) -> list[Post]:
    """The posts of a split of a data set with tags and, perhaps, relations."""
    data = first_rows(load_splits(dataset, ("tokens", "ner_tags"))[split], rows)
    tags = data.features["ner_tags"].feature.names
    labels = data.features["relations"].feature["label"].names if "relations" in data.features else []
    posts = []
    for row in data:
        entities = find_entities([tags[tag] for tag in row["ner_tags"]])
        relations = [(one["head"], one["tail"], labels[one["label"]]) for one in row.get("relations") or []]
        relations = [relation for relation in relations if relation[2] != NO_RELATION]
        pictures = {name: row[name] for name in ("image", "objects") if name in row}
        posts.append(Post(row["tokens"], Graph(entities, relations), pictures))
    return posts


def allowed_relations(posts: list[Post]) -> dict[tuple[str, str], set[str]]:
    """The relations of gold graphs by the types of head and tail."""
    allowed = defaultdict(set)
    for _, (entities, relations), _ in posts:
        for head, tail, label in relations:
            allowed[entities[head][2], entities[tail][2]].add(label)
    return dict(allowed)


def batches(rows: list[dict], processor: I2SRMProcessor, pictures: bool, device: str) -> Iterator[dict]:
    """The batches of encoded rows, on a device."""
    collator = I2SRMDataCollator(processor, use_images=pictures)
    for start in range(0, len(rows), BATCH):
        yield {name: value.to(device) for name, value in collator(rows[start : start + BATCH]).items()}


@torch.no_grad()
def joint_graphs(
    folder: str, posts: list[Post], device: str, pictures: bool, coherent: tuple[bool, ...] = (True,)
) -> list[list[Graph]]:
    """The graphs that a joint model finds, decoded from the same scores with and without coherence.

    Args:
        folder: of the model.
        pictures: whether it sees them.
        coherent: values of `config.coherent_decoding`.

    Returns:
        For each of these the graph of every post.
    """
    model = I2SRMForJointExtraction.from_pretrained(folder).to(device).eval()
    processor = I2SRMProcessor.from_pretrained(folder)
    rows = [{**processor.encode_tokens(post.tokens), **post.pictures} for post in posts]
    graphs = [[] for _ in coherent]
    for batch in batches(rows, processor, pictures, device):
        outputs = model(**batch)
        for value, found in zip(coherent, graphs, strict=True):
            model.config.coherent_decoding = value
            for graph in model.decode_graphs(outputs, batch["word_mask"]):
                entities = [(one.start, one.end, one.label) for one in graph.entities]
                found.append(Graph(entities, [(one.head, one.tail, one.label) for one in graph.relations]))
    return graphs


@torch.no_grad()
def entity_graphs(folder: str, posts: list[Post], device: str, pictures: bool) -> list[Graph]:
    """The entities that an entity model finds."""
    model = I2SRMForTokenClassification.from_pretrained(folder).to(device).eval()
    processor = I2SRMProcessor.from_pretrained(folder)
    rows = [{**processor.encode_tokens(post.tokens), **post.pictures} for post in posts]
    graphs = []
    for batch in batches(rows, processor, pictures, device):
        for tags in model.decode(model(**batch).logits, batch["word_mask"]):
            graphs.append(Graph(find_entities([model.config.id2label[tag] for tag in tags]), []))
    return graphs


@torch.no_grad()
def related_graphs(
    folder: str,
    posts: list[Post],
    graphs: list[Graph],
    allowed: dict[tuple[str, str], set[str]],
    device: str,
    pictures: bool,
) -> tuple[list[Graph], int]:
    """Add the relations that a relation model finds between the entities of graphs.

    Args:
        folder: of the relation model.
        allowed: the relations by types of head and tail; pairs of other types are not asked of.

    Returns:
        The graphs, and the number of pairs that are too far apart for the longest input.
    """
    model = I2SRMForRelationClassification.from_pretrained(folder).to(device).eval()
    processor = I2SRMProcessor.from_pretrained(folder)
    names = list(model.config.id2label.values())
    rows, pairs, possible, too_long = [], [], [], 0
    for number, (post, graph) in enumerate(zip(posts, graphs, strict=True)):
        for head, first in enumerate(graph.entities):
            for tail, second in enumerate(graph.entities):
                labels = allowed.get((first[2], second[2]))
                if head == tail or not labels:
                    continue
                try:
                    row = processor.encode_pair(post.tokens, first[:2], second[:2])
                except EntityPairError:
                    too_long += 1
                    continue
                rows.append({**row, **post.pictures})
                pairs.append((number, head, tail))
                possible.append([name == NO_RELATION or name in labels for name in names])
    relations = [[] for _ in posts]
    scores = [model(**batch).logits for batch in batches(rows, processor, pictures, device)]
    if scores:
        impossible = ~torch.tensor(possible, device=device)
        best = torch.cat(scores).masked_fill(impossible, -torch.inf).argmax(-1).tolist()
        for (number, head, tail), label in zip(pairs, best, strict=True):
            if names[label] != NO_RELATION:
                relations[number].append((head, tail, names[label]))
    return [Graph(graph.entities, found) for graph, found in zip(graphs, relations, strict=True)], too_long


def score_graphs(posts: list[Post], graphs: list[Graph], lost: tuple[int, int] = (0, 0)) -> dict[str, dict]:
    """Precision, recall and F1 over all posts of entities, and of triples with and without the types of their entities.

    Args:
        lost: gold entities and relations that the rows do not hold; they count as missed.

    Returns:
        "entity": spans and types; "triple": both spans and types and the label; "untyped_triple": without the types.
        Each with precision, recall, f1, and the numbers of gold, found and right ones.
    """
    counts = {name: [0, 0, 0] for name in ("entity", "triple", "untyped_triple")}
    for post, graph in zip(posts, graphs, strict=True):
        for name in counts:
            gold, found = items(post.gold, name), items(graph, name)
            for place, number in enumerate((len(gold), len(found), len(gold & found))):
                counts[name][place] += number
    counts["entity"][0] += lost[0]
    for name in ("triple", "untyped_triple"):
        counts[name][0] += lost[1]
    return {name: rates(*numbers) for name, numbers in counts.items()}


def items(graph: Graph, kind: str) -> set:
    """The entities of a graph, or its triples by the spans (and types) of head and tail, for a comparison."""
    if kind == "entity":
        return set(graph.entities)
    size = 3 if kind == "triple" else 2
    entities = [entity[:size] for entity in graph.entities]
    return {(entities[head], entities[tail], label) for head, tail, label in graph.relations}


def rates(gold: int, found: int, right: int) -> dict:
    """Precision, recall and F1, 0 where they have no denominator, and the numbers."""
    values = {"precision": right / max(found, 1), "recall": right / max(gold, 1)}
    values["f1"] = 2 * right / max(gold + found, 1)
    return {**{name: round(value, 5) for name, value in values.items()}, "gold": gold, "found": found, "right": right}


def summarize(records: list[dict], names: dict[str, Callable[[dict], float | None]]) -> str:
    """A line for each system: the mean of its seeds and, of several, the standard deviation."""
    groups = defaultdict(list)
    for record in records:
        if "system" in record:
            groups[record["system"]].append(record)
    lines = []
    for system, members in groups.items():
        cells = []
        for name, read in names.items():
            values = [value for record in members if (value := read(record)) is not None]
            if values:
                spread = f" +- {stdev(values):.4f}" if len(values) > 1 else ""
                cells.append(f"{name} {mean(values):.4f}{spread}")
        lines.append(f"{system} ({len(members)} seeds): {', '.join(cells)}")
    return "\n".join(lines)


def stop_on_error(records: list[dict], jobs: list[Job]) -> None:
    """End the process with status 1 if a run has no record."""
    if len(records) < len(jobs):
        sys.exit(f"{len(jobs) - len(records)} of {len(jobs)} runs have no result; the same command resumes")
