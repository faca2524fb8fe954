"""The made-up world in one pass: the joint model against the two marker models, and which of its parts matter.

    python dataset_scripts/visual_posts.py --output_dir data/visual_posts
    python benchmarks/joint_world.py --output runs/joint_world --jobs 2

Three parts, each of which can be run alone with --parts:

  trials     settings for the joint model, and as many for each of the two marker models, with one seed, scored on the
             validation split: strict triple F1 of the joint model, strict F1 of the entity model, micro-F1 of the
             relation model
  final      the best setting of each with further seeds on the test split; both systems are scored end to end
  ablations  the joint model with a part changed, with the same seeds

Settings are overrides of examples/configs/quickstart.json, quickstart_mner.json and quickstart_mre.json. A line for
each run is appended to runs.jsonl in --output when it ends; the same command resumes. Models go to --work.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import permutations
from multiprocessing import get_context
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
from joint_runs import (  # noqa: E402
    Job,
    allowed_relations,
    entity_graphs,
    joint_graphs,
    limit_rows,
    read_posts,
    read_records,
    related_graphs,
    run_jobs,
    score_graphs,
    start_worker,
    stop_on_error,
    summarize,
    train,
)

from modeling_i2srm import I2SRMConfig, I2SRMForJointExtraction, I2SRMProcessor  # noqa: E402
from modeling_i2srm.checks import IGNORE  # noqa: E402
from modeling_i2srm.crf import entity_type  # noqa: E402
from modeling_i2srm.data.dataset import load_splits  # noqa: E402
from modeling_i2srm.training.presets import read_config  # noqa: E402

CONFIGS = Path(__file__).resolve().parent.parent / "examples/configs"
FILES = {"joint": "quickstart.json", "mner": "quickstart_mner.json", "mre": "quickstart_mre.json"}
SLOW, MIDDLE, FAST = ({"learning_rate": rate, "fusion_learning_rate": 1.5 * rate} for rate in (1e-3, 2e-3, 3e-3))
SMALL_BATCHES = {"per_device_train_batch_size": 16, "learning_rate": 7e-4, "vision_learning_rate": 4e-3}
SEEING = {"vision_learning_rate": 1.2e-2}
# As many for each model.
TRIALS = {
    "joint": [{}, SEEING, {"image_size": 32}, SLOW, FAST],
    "mner": [{}, SMALL_BATCHES, MIDDLE, {**MIDDLE, **SEEING}, FAST],
    "mre": [{}, {"num_train_epochs": 6}, SLOW, MIDDLE, {"per_device_train_batch_size": 16}],
}
ABLATIONS = {  # "negatives" is not a setting: which pairs without a relation are in the loss, by default all
    "no attention to the pictures": {"crop_attention": False},
    "types as input": {"entity_type_embeddings": True},
    "negatives: half of them, drawn for each batch": {"negatives": "half"},
    "negatives: only of types that are related": {"negatives": "typed"},
    "no region loss": {"region_loss_weight": 0.0},
    "names stay": {"name_swapping": 0.0},
    "twelve epochs": {"num_train_epochs": 12},
    "no AttnMixup": {"attn_mixup": False},
    "AttnMixup on words": {"attn_mixup": True},
    "AttnMixup on words and pairs": {"attn_mixup": True, "attn_mixup_pairs": True},
    "no KL": {"semantic_loss_weight": 0.0},
    "KL": {"semantic_loss_weight": 1.0},
}
TRIAL_SEED = 11  # none of those of the final runs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--dataset", default="data/visual_posts")
parser.add_argument("--output", type=Path, default=Path("runs/joint_world"))
parser.add_argument("--work", type=Path, help="folder of the models (default: models in --output)")
parser.add_argument("--parts", nargs="+", choices=("trials", "final", "ablations"), default=["trials", "final"])
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=2, help="runs beside each other")
parser.add_argument("--threads", type=int, default=1, help="of each run")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
parser.add_argument("--configs", type=Path, default=CONFIGS, help="folder of the three files of settings")
parser.add_argument("--epochs", type=float, help="of all models, for a trial of the benchmark")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial of the benchmark")


def leave_out_negatives(row: dict, rule: str, typed: set[tuple[str, str]], names: list[str], draw: Random) -> dict:
    """An encoded post of whose pairs without a relation some are stored as not annotated.

    Args:
        rule: "half" leaves out every second one, drawn at random; "typed" those of types that are not related.
        typed: types of head and tail that are related.
        names: of the tags.
    """
    tags = [names[tag] for tag, first in zip(row["labels"], row["word_mask"], strict=True) if first]
    types = [entity_type(tags[start]) for start, _ in row["entity_spans"]]
    known = {(head, tail) for head, tail, _ in row["relation_labels"]}
    left_out = [
        [head, tail, IGNORE]
        for head, tail in permutations(range(len(types)), 2)
        if (head, tail) not in known
        and (draw.random() < 0.5 if rule == "half" else (types[head], types[tail]) not in typed)
    ]
    return {**row, "relation_labels": [*row["relation_labels"], *left_out]}


@contextmanager
def fewer_negatives(rule: str | None, dataset: str) -> Iterator[None]:
    """Train in this block with `leave_out_negatives` in all batches, where there is a rule."""
    if rule is None:
        yield
        return
    train_rows = load_splits(dataset, ("tokens", "ner_tags", "relations"))["train"]
    names, typed = train_rows.features["ner_tags"].feature.names, set(allowed_relations(read_posts(dataset, "train")))
    pad, draw = I2SRMProcessor.pad, Random(0)

    def pad_fewer(self: I2SRMProcessor, rows: list[dict], multiple: int | None = None) -> dict:
        return pad(self, [leave_out_negatives(row, rule, typed, names, draw) for row in rows], multiple)

    I2SRMProcessor.pad = pad_fewer
    try:
        yield
    finally:
        I2SRMProcessor.pad = pad


def run_model(task: str, config: str, settings: dict, folder: str, split: str, rows: int | None) -> dict:
    """Train a model and, unless it is a relation model, score it: the joint one with and without coherent decoding."""
    kept = {name: value for name, value in settings.items() if name != "negatives"}
    with fewer_negatives(settings.get("negatives"), settings["dataset"]):
        record = {**train(task, config, kept, folder), "settings": settings}
    if task == "mre":
        return record
    posts, device = read_posts(settings["dataset"], split, rows), "cpu" if settings["use_cpu"] else "cuda"
    if task == "mner":
        return {**record, "scores": score_graphs(posts, entity_graphs(folder, posts, device, pictures=True))}
    coherent, incoherent = joint_graphs(folder, posts, device, pictures=True, coherent=(True, False))
    return {**record, "scores": score_graphs(posts, coherent), "incoherent": score_graphs(posts, incoherent)}


def run_two_models(dataset: str, ner: str, mre: str, device: str, rows: int | None) -> dict:
    """Score two trained models on the test posts, end to end, and the relation model on gold entities."""
    posts, allowed = read_posts(dataset, "test", rows), allowed_relations(read_posts(dataset, "train"))
    graphs, too_long = related_graphs(mre, posts, entity_graphs(ner, posts, device, True), allowed, device, True)
    gold, _ = related_graphs(mre, posts, [post.gold for post in posts], allowed, device, True)
    scores = {"scores": score_graphs(posts, graphs), "gold_entities": score_graphs(posts, gold)}
    return {**scores, "pairs_too_long": too_long}


def model_job(
    options: argparse.Namespace, name: str, task: str, overrides: dict, seed: int, split: str, start: Job | None = None
) -> Job:
    """The run of a model with some settings changed; a relation model starts from the entity model of another run."""
    if start is not None:
        overrides = {"model_name_or_path": start.arguments["folder"], **overrides}
    settings = {"dataset": options.dataset, **overrides, "seed": seed, "use_cpu": options.device == "cpu"}
    if options.epochs:
        settings["num_train_epochs"] = options.epochs
    settings |= limit_rows(options.rows)
    folder = str((options.work or options.output / "models") / name)
    arguments = {"task": task, "config": str(options.configs / FILES[task]), "settings": settings, "folder": folder}
    needs = () if start is None else (start.name,)
    return Job(name, run_model, {**arguments, "split": split, "rows": options.rows}, needs)


def trial_jobs(options: argparse.Namespace) -> list[Job]:
    """The trials of all models; those of the relation model start from the first entity model."""
    jobs: dict[str, Job] = {}
    for task, trials in TRIALS.items():
        start = jobs["trial/mner/0"] if task == "mre" else None
        for number, overrides in enumerate(trials):
            name = f"trial/{task}/{number}"
            jobs[name] = model_job(options, name, task, overrides, TRIAL_SEED, "validation", start)
    return list(jobs.values())


def trial_score(record: dict) -> float:
    """The score on the validation split by which trials are compared."""
    if record["task"] == "joint":
        return record["scores"]["triple"]["f1"]
    return record["metrics"]["validation"]["strict_f1" if record["task"] == "mner" else "micro_f1"]


def choose(output: Path) -> dict[str, dict]:
    """The overrides of the best trial of each model; those of its file where it has no trials."""
    chosen = {}
    records = read_records(output)
    for task, trials in TRIALS.items():
        scores = {n: trial_score(records[name]) for n in range(len(trials)) if (name := f"trial/{task}/{n}") in records}
        chosen[task] = trials[max(scores, key=scores.__getitem__)] if scores else {}
        print(f"{task}: {chosen[task] or 'the settings of the file'}, of {scores}", flush=True)
    return chosen


def final_jobs(options: argparse.Namespace, chosen: dict[str, dict]) -> list[Job]:
    """The runs of both systems with the chosen settings."""
    models: dict[tuple[str, int], Job] = {}
    for task in ("joint", "mner", "mre"):
        for seed in options.seeds:
            start = models["mner", seed] if task == "mre" else None
            name = f"final/{task}/seed{seed}"
            models[task, seed] = model_job(options, name, task, chosen[task], seed, "test", start)
    jobs = list(models.values())
    for seed in options.seeds:
        ner, mre = models["mner", seed], models["mre", seed]
        arguments = {"dataset": options.dataset, "ner": ner.arguments["folder"], "mre": mre.arguments["folder"]}
        arguments |= {"device": options.device, "rows": options.rows}
        jobs.append(Job(f"final/two models/seed{seed}", run_two_models, arguments, (mre.name, ner.name)))
    return jobs


def ablation_jobs(options: argparse.Namespace, chosen: dict[str, dict]) -> list[Job]:
    """The runs of the joint model with a part changed; those that the chosen settings have already are left out."""
    defaults = {name: getattr(I2SRMConfig, name, None) for overrides in ABLATIONS.values() for name in overrides}
    defaults["semantic_loss_weight"] = I2SRMForJointExtraction.default_semantic_loss_weight
    settings = read_config(options.configs / FILES["joint"], "joint")
    settings = {**defaults, **settings, **chosen["joint"]}
    return [
        model_job(options, f"ablation/{name}/seed{seed}", "joint", {**chosen["joint"], **overrides}, seed, "test")
        for seed in options.seeds
        for name, overrides in ABLATIONS.items()
        if any(settings[field] != value for field, value in overrides.items())
    ]


def main() -> None:
    options = parser.parse_args()
    output = options.output / "runs.jsonl"
    records: list[dict] = []
    jobs: list[Job] = []
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker, (options.threads,)) as pool:
        if "trials" in options.parts:
            jobs = trial_jobs(options)
            records = run_jobs(jobs, output, pool, options.jobs)
            stop_on_error(records, jobs)
        chosen = choose(output)
        rest = final_jobs(options, chosen) if "final" in options.parts else []
        rest += ablation_jobs(options, chosen) if "ablations" in options.parts else []
        records = run_jobs(rest, output, pool, options.jobs)
    named = [{**record, "system": record["name"].rpartition("/")[0]} for record in records]
    names = {
        f"{kind} F1": lambda record, kind=kind: record.get("scores", {}).get(kind, {}).get("f1")
        for kind in ("entity", "triple", "untyped_triple")
    }
    names["triple F1 without coherence"] = lambda record: record.get("incoherent", {}).get("triple", {}).get("f1")
    names["region accuracy"] = lambda record: record.get("metrics", {}).get("region_accuracy")
    names["training, CPU seconds"] = lambda record: record.get("training_cpu_seconds")
    print(summarize(named, names))
    stop_on_error(records, rest)


if __name__ == "__main__":
    main()
