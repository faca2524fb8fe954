"""The ablation of AttnMixup and the CRF on all of Twitter-2015, Twitter-2017 and MNRE, text alone, on one GPU.

    python benchmarks/full_text_studies.py --data DATA --text_encoder MINILM --output_dir runs/full_text --jobs 12

DATA holds the Parquet folders twitter2015, twitter2017, mnre, mnre_crop_counts and mnre_shuffled_counts
(dataset_scripts/*.py and benchmarks/count_only_crops.py). The runs are those of examples/run_experiments.py, with the
same cache; several processes train beside each other, since one small encoder does not fill a GPU. The same command
resumes. Prints a line for each run, and appends it to runs.jsonl at once.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from modeling_i2srm.studies.run import Run, plan, read_run, run_study, train
from modeling_i2srm.support.options import dict_to_argv
from modeling_i2srm.training.tasks import MNER, MRE, TASKS

TEXT = ["full", "no AttnMixup", "attention only", "interpolation only", "plain text encoder"]
COMMON = {
    "vision_config": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [16, 32, 64, 128],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
    },
    "freeze_vision": False,
    "image_size": 32,
    "prompt_hidden_size": 128,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 128,
    "learning_rate": 1e-4,
    "fusion_learning_rate": 1e-3,
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
ENTITIES = {"max_length": 128, "head_learning_rate": 1e-2, "use_images": False}
RELATIONS = {"max_length": 80, "head_learning_rate": 1e-3, "num_objects": 4}
# data set, study, task, settings, arguments
STUDIES = [
    ("mnre_crop_counts", "seeds", MRE, None, RELATIONS),
    ("mnre", "ablation", MRE, TEXT, RELATIONS | {"use_images": False}),
    ("mnre_shuffled_counts", "seeds", MRE, None, RELATIONS),
    ("mnre_crop_counts", "seeds", MRE, None, RELATIONS | {"num_objects": 3}),
    ("twitter2017", "ablation", MNER, TEXT, ENTITIES),
    ("twitter2015", "ablation", MNER, TEXT, ENTITIES),
]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--output_dir", type=Path, default=Path("runs/full_text"))
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=12, help="runs beside each other")
parser.add_argument("--use_cpu", action="store_true")
parser.add_argument("--only_write", action="store_true", help="write tables of the runs that are there")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial")


def arguments_of(options: argparse.Namespace, dataset: str, settings: dict) -> list[str]:
    """The command line of the runs of a study."""
    own = {"dataset": str(options.data / dataset), "text_encoder": options.text_encoder}
    if options.rows:
        own |= {f"max_{split}_samples": options.rows for split in ("train", "eval", "predict")}
    return dict_to_argv(COMMON | settings | own | ({"use_cpu": True} if options.use_cpu else {}))


def one_run(task_name: str, run: Run, folder: Path) -> dict:
    """Train and evaluate in this process; return the test metrics and the seconds."""
    start = time.perf_counter()
    train(run, TASKS[task_name], folder, keep_models=False)
    results = read_run(folder)["results"]
    shown = results["multimodal" if "multimodal" in results else "text_only"]
    return {"seconds": round(time.perf_counter() - start, 1), "test": shown}


def main():
    options = parser.parse_args()
    jobs = {}
    studies = []
    for dataset, study, task, names, settings in STUDIES:
        argv = arguments_of(options, dataset, settings)
        output_dir = options.output_dir / ("capped" if settings.get("num_objects") == 3 else "")
        studies.append(partial(run_study, study, task, argv, options.seeds, output_dir, names, progress=False))
        for run in plan(study, task, argv, options.seeds, names):
            jobs.setdefault(run.key, (dataset, task, run, (output_dir / "cache") / run.key))
    # first seed first, so that a run that is stopped has whole studies
    todo = sorted((j for j in jobs.values() if read_run(j[3]) is None), key=lambda job: job[2].seed)
    print(f"{len(jobs)} runs, {len(todo)} left", flush=True)
    if not options.only_write:
        with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
            futures = {pool.submit(one_run, job[1].name, job[2], job[3]): job for job in todo}
            for future in as_completed(futures):
                dataset, _, run, _ = futures[future]
                line = {"dataset": dataset, "setting": run.setting.name, "seed": run.seed, "argv": run.argv}
                line |= {"error": repr(future.exception())} if future.exception() else future.result()
                print(json.dumps({name: line[name] for name in line if name != "argv"}), flush=True)
                with open(options.output_dir / "runs.jsonl", "a") as file:
                    file.write(json.dumps(line) + "\n")
    for write in studies:
        print(write(), flush=True)


if __name__ == "__main__":
    main()
