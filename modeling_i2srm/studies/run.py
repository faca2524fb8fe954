"""Runs studies: each setting with each seed once; results are cached by all settings that they depend on."""

import dataclasses
import gc
import hashlib
import io
import json
import logging
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from torch import distributed
from tqdm.auto import tqdm

from ..configuration_i2srm import I2SRMConfig
from ..support.atomic_files import placing, replacing, write_json
from ..support.faults import Interrupted
from ..support.options import dict_to_argv, read_settings
from ..support.processes import from_first, in_process_group
from ..training.arguments import Arguments, parse_arguments
from ..training.checkpoints import find_checkpoints, remove
from ..training.fusion_movement import NEW_FUSION_RATE
from ..training.run import run_task, setup_logging
from ..training.tasks import Task
from ..version import __version__
from .report import describe, draw_study, study_table, summarize
from .settings import STUDIES, Setting

logger = logging.getLogger(__name__)

FOLDERS = ("dataset", "model_name_or_path", "text_encoder", "vision_encoder")  # their contents count, not their paths
# Arguments that do not change results, such as output paths, logging and speed.
INCIDENTAL = {
    "cache_visual_features",
    "compare_text_only",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "disable_tqdm",
    "do_eval",
    "do_predict",
    "do_train",
    "hub_model_id",
    "image_dir",
    "local_rank",
    "log_level",
    "log_level_replica",
    "logging_first_step",
    "logging_steps",
    "logging_strategy",
    "output_dir",
    "overwrite",
    "report_to",
    "resume_from_checkpoint",
    "run_name",
    "save_total_limit",
}
ALWAYS = {
    "do_train": True,
    "do_eval": True,
    "do_predict": True,
    "compare_text_only": False,
    "overwrite": False,
    "push_to_hub": False,
    "resume_from_checkpoint": "last",
}


class Run(NamedTuple):
    """A setting with a seed: its command line, all that its result depends on, and a hash of that as a folder name."""

    setting: Setting
    seed: int
    argv: list[str]
    decisive: dict
    key: str


def plan(study: str, task: Task, argv: list[str], seeds: list[int], names: list[str] | None = None) -> list[Run]:
    """Plan the runs of a study, each setting with all seeds, and validate all arguments.

    Args:
        study: one of `STUDIES`.
        argv: arguments of the training scripts, [settings.json] [--name value ...]; a setting overrides them.
        names: of the settings, as for `Study.choose`.

    Raises:
        ValueError: an unknown study, setting or value; settings that train the same model, e.g. "full" and
            "attention only" where AttnMixup is off.
    """
    if study not in STUDIES:
        raise ValueError(f"no study {study!r}; they are {', '.join(STUDIES)}")
    argv = read_settings(argv)
    runs = []
    for setting in STUDIES[study].choose(names):
        for seed in seeds:
            overrides = {"output_dir": "-", **setting.overrides, **ALWAYS, "seed": seed}
            words = [*argv, *dict_to_argv(overrides)]
            try:
                decisive = decisive_settings(task, parse_arguments(words, task.name))
            except ValueError as error:
                raise ValueError(f"setting {setting.name!r}: {error}") from error
            text = json.dumps(decisive, sort_keys=True, default=str)
            key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
            runs.append(Run(setting, seed, words, decisive, key))
    check_different(study, runs)
    return runs


def check_different(study: str, runs: list[Run]) -> None:
    """Raise a `ValueError` if settings train the same model.

    In a study of one argument some values may, e.g. the default; all of them may not.
    """
    groups: dict[str, list[str]] = {}
    for run in runs:
        if run.seed == runs[0].seed:
            groups.setdefault(run.key, []).append(run.setting.name)
    same = [names for names in groups.values() if len(names) > 1]
    if not same or (STUDIES[study].argument and len(groups) > 1):
        return
    equal = "; ".join(" = ".join(map(repr, names)) for names in same)
    off = any(run.decisive.get("attn_mixup") is False for run in runs if run.setting.reference is None)
    hint = "AttnMixup is off in these settings; turn it on, --attn_mixup true, or choose" if off else "Choose"
    names = " ".join(repr(names[0]) for names in groups.values())
    raise ValueError(f"study {study!r}: settings that train the same model: {equal}. {hint} others: --settings {names}")


@cache
def default_arguments(use_cpu: bool) -> Arguments:
    """Default arguments for a device, which must be that of the run: the first parsed arguments choose the backend."""
    return parse_arguments(["--dataset", "-", "--output_dir", "-", "--use_cpu", str(use_cpu)])


def decisive_settings(task: Task, arguments: Arguments) -> dict:
    """All that the result of a run depends on: non-default settings, contents of folders, version, processes."""
    decisive = {"task": task.name, "version": __version__, "processes": arguments.training.world_size}
    config_defaults = {f.name: f.default for f in dataclasses.fields(I2SRMConfig)}
    head: Any = task.model_class
    config_defaults["semantic_loss_weight"] = head.default_semantic_loss_weight
    if arguments.training.use_cpu:
        decisive["use_cpu"] = True
    defaults = default_arguments(arguments.training.use_cpu)
    for group, default in zip(arguments, defaults, strict=True):
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            standard = getattr(default, field.name)
            if group is arguments.config and value == config_defaults[field.name]:
                continue
            if field.init and field.name not in INCIDENTAL and value != standard:
                decisive[field.name] = value
    new_fusion = not arguments.model.model_name_or_path and arguments.training.fusion_learning_rate is None
    if new_fusion and arguments.training.learning_rate < NEW_FUSION_RATE:  # a default that was another once
        decisive["fusion_learning_rate"] = NEW_FUSION_RATE
    if arguments.cache.cache_visual_features is None:
        decisive.pop("visual_cache_dtype", None)
    elif arguments.model.use_images:
        decisive["cached_features"] = arguments.cache.visual_cache_dtype
    if arguments.config.attn_mixup is False:  # its settings change nothing
        for name in [name for name in decisive if name.startswith(("attn_mixup_", "mixup_"))]:
            del decisive[name]
    for name in FOLDERS:
        if name in decisive:
            decisive[name] = identity(decisive[name], name == "dataset")
    return decisive


@cache
def identity(path: str, is_data: bool) -> str:
    """A digest of the files of a folder, independent of its path; for a data set on the Hub, of its revision."""
    if not Path(path).is_dir():
        return f"{path}@{datasets.load_dataset_builder(path).hash}" if is_data else path
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(Path(path).rglob("*.parquet" if is_data else "*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}".encode())
            with open(file, "rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def run_study(
    study: str,
    task: Task,
    argv: list[str],
    seeds: list[int],
    output_dir: Path,
    names: list[str] | None = None,
    command: str = "",
    keep_models: bool = False,
    progress: bool = True,
) -> Path:
    """Run what has not been run yet, and write table and figure; every process of a group calls this.

    Each run is cached in output_dir/cache under a hash of all that its result depends on, so studies share runs. A
    study that was killed resumes with the unfinished run, from its last checkpoint.

    Args:
        study, task, argv, seeds, names: as for `plan`.
        command: the command line, for the table.
        keep_models: keep the weights and checkpoints of finished runs, which are deleted otherwise.
        progress: show a bar, in the first process.

    Returns:
        The folder output_dir/STUDY-DATASET with runs.jsonl (one line per setting and seed: study, task, setting,
        series, x, reference, overrides, seed, key, folder, decisive, seconds, and results as in results.json),
        table.json (of `summarize`), table.md and figure.png.

    Raises:
        ValueError: as for `plan`; also for settings that do not fit this model or data.
        Interrupted: after a signal; the same command resumes the study.
    """
    runs = plan(study, task, argv, seeds, names)
    first_run = parse_arguments(runs[0].argv, task.name)
    setup_logging(first_run.training)
    folder = Path(output_dir) / f"{study}-{Path(first_run.data.dataset).name}"
    stored = Path(output_dir) / "cache"
    todo = from_first(sorted({run.key for run in runs if read_run(stored / run.key) is None}))
    first = not in_process_group() or distributed.get_rank() == 0
    logger.info(f"{study}: {len(runs)} runs, {len({run.key for run in runs})} different, {len(todo)} left to do")
    bar = tqdm(total=len(todo), desc=study, unit="run", disable=not (progress and first))
    for run in runs:
        if run.key in todo:
            todo.remove(run.key)
            bar.set_postfix_str(f"{run.setting.name}, seed {run.seed}")
            train(run, task, stored / run.key, keep_models)
            bar.update()
    bar.close()
    if in_process_group():
        distributed.barrier()  # the first process writes
    if first:
        write_study(folder, study, task, [record(study, task, run, stored / run.key) for run in runs], command)
    return folder


def write_study(folder: Path, study: str, task: Task, records: list[dict], command: str) -> None:
    """Write runs.jsonl, table.json, table.md and figure.png of a study."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "runs.jsonl") as file:
        for values in records:
            file.write(json.dumps(values, default=str) + "\n")
    rows = summarize(records, task)
    write_json(folder / "table.json", {"rows": rows})
    with replacing(folder / "table.md") as file:
        file.write(f"{STUDIES[study].question}\n\n{describe(records, task, command)}\n\n{study_table(rows)}\n")
    metric = task.main_metrics[0].replace("_", " ").replace("f1", "F1")
    with placing(folder / "figure.png") as temporary:
        draw_study(rows, STUDIES[study], metric, temporary)


def train(run: Run, task: Task, folder: Path, keep_models: bool) -> None:
    """Train and evaluate one run, and write run.json at its end."""
    arguments = parse_arguments(run.argv, task.name)
    arguments.training.output_dir = str(folder)
    try:
        with redirect_stdout(io.StringIO()):  # the tables and examples of each run
            results = run_task(task, arguments)
    except ValueError as error:
        raise ValueError(f"setting {run.setting.name!r}, seed {run.seed}: {error}") from error
    except Interrupted as error:
        raise Interrupted(error.signum, f"{error}; or give the same command of run_experiments.py again") from None
    gc.collect()
    if arguments.training.should_save:
        write_json(folder / "run.json", {"decisive": run.decisive, "results": results}, default=str)
        if not keep_models:
            for checkpoint in find_checkpoints(folder):
                remove(checkpoint)
            (folder / "model.safetensors").unlink(missing_ok=True)


def read_run(folder: Path) -> dict | None:
    """The contents of run.json; `None` for a run that is not complete."""
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def record(study: str, task: Task, run: Run, folder: Path) -> dict:
    finished = read_run(folder)
    assert finished is not None  # `train` wrote it
    results = finished["results"]
    setting = {name: getattr(run.setting, name) for name in ("series", "x", "reference", "overrides")}
    about = {"study": study, "task": task.name, "setting": run.setting.name, **setting, "seed": run.seed}
    place = {"key": run.key, "folder": str(folder), "decisive": run.decisive}
    return {**about, **place, "seconds": results["seconds"], "results": results}


__all__ = ["Run", "plan", "run_study", "write_study"]
