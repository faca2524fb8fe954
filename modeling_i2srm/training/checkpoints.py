"""Checkpoints of a training run that are there whole or not at all.

A checkpoint is written to OUTPUT/_unfinished, then to disk in full, gets a list of its files with their sizes, and
takes its name OUTPUT/checkpoint-N in one step; older ones are deleted only then. The model at the end is put in its
place in the same way. A run that is killed therefore leaves whole checkpoints, and in _unfinished what the next run
finishes or deletes. Those that were damaged later, or written by a plain `Trainer`, are looked through on resuming.
"""

import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import EarlyStoppingCallback as PlainStopping
from transformers import Trainer, TrainerCallback

from ..support.atomic_files import placing, sync_folder, write_json
from ..support.faults import RunError, lost_process

logger = logging.getLogger(__name__)

NAME = re.compile(r"checkpoint-(\d+)")
UNFINISHED = "_unfinished"  # an underscore keeps it off the Hub
FILES, STATE = "checkpoint_files.json", "trainer_state.json"
WITHOUT_BEST = "resume without the best model: --load_best_model_at_end false"
WEIGHTS = re.compile(r"(pytorch_|adapter_)?model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")


def find_damage(checkpoint: str | os.PathLike) -> str | None:
    """Describe what is missing from a checkpoint; `None` if it is complete.

    Files are compared with the list that was written with the checkpoint. Without such a list (of an earlier version,
    or a plain `Trainer`) the files must open, and there must be weights and trainer_state.json, which is written last.
    """
    checkpoint = Path(checkpoint)
    try:
        if (checkpoint / FILES).exists():
            sizes = json.loads((checkpoint / FILES).read_text(encoding="utf-8"))["files"]
            for name, size in sizes.items():
                actual = (checkpoint / name).stat().st_size if (checkpoint / name).is_file() else None
                if actual != size:
                    return f"{name} is missing" if actual is None else f"{name} has {actual:,} bytes of {size:,}"
            return None
        if not (checkpoint / STATE).is_file():
            return f"{STATE} is missing"
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        # A folder may hold the shards of FSDP or DeepSpeed.
        if not any(path.is_dir() or WEIGHTS.fullmatch(path.name) for path in checkpoint.iterdir()):
            return "the weights are missing"
        for path in checkpoint.iterdir():
            if path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass
            elif path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path):
                return f"{path.name} is truncated"
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        return str(error)
    return None


def find_checkpoints(folder: str | os.PathLike) -> list[Path]:
    """The checkpoints in a folder, complete or not, sorted by step."""
    checkpoints = [path for path in Path(folder).glob("checkpoint-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(checkpoints, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def find_damage_of_best(checkpoint: Path) -> str | None:
    """Describe what is missing from the best model of a complete checkpoint; `None` if nothing is.

    Its folder is the one beside the checkpoint, whatever path the state names: the run may have been moved.
    """
    best = json.loads((checkpoint / STATE).read_text(encoding="utf-8")).get("best_model_checkpoint")
    if not best:
        return None
    best = checkpoint.parent / Path(best).name
    damage = find_damage(best) if best.is_dir() else "there is no such folder"
    return damage and f"of its best model {best.name}, {damage}"


def last_whole_checkpoint(folder: str | os.PathLike, warn: bool = True, needs_best: bool = True) -> str | None:
    """The newest checkpoint from which a run can resume, or `None`; damaged ones are skipped with a warning.

    Args:
        needs_best: the run loads its best model at the end. A checkpoint whose best model so far is damaged or missing
            is skipped too: a run that resumes from an older one makes that model again.
    """
    for checkpoint in reversed(find_checkpoints(folder)):
        damage, advice = find_damage(checkpoint), "delete it"
        if damage is None and needs_best:
            damage, advice = find_damage_of_best(checkpoint), WITHOUT_BEST
        if damage is None:
            return os.path.join(folder, checkpoint.name)
        if warn:
            logger.warning(f"{checkpoint} is incomplete and is skipped: {damage}; {advice}")
    return None


def check_whole(checkpoint: str | os.PathLike, needs_best: bool = True) -> None:
    """Refuse a checkpoint that is incomplete, or whose best model is, if the run needs that.

    Raises:
        ValueError: what is missing, and which checkpoint beside it is complete.
    """
    checkpoint, without = Path(checkpoint), ""
    damage: str | None = "there is no such folder"
    if not checkpoint.is_dir():
        damage = "there is no such folder"
    elif (damage := find_damage(checkpoint)) is None:
        if not needs_best or (damage := find_damage_of_best(checkpoint)) is None:
            return
        without = f", or {WITHOUT_BEST}"
    other = last_whole_checkpoint(checkpoint.parent, warn=False, needs_best=needs_best)
    advice = f"--resume_from_checkpoint {other}" if other else "leave --resume_from_checkpoint out to start again"
    raise ValueError(f"{checkpoint} is incomplete: {damage}; {advice}{without}")


def how_to_resume(folder: str | os.PathLike) -> str:
    """Describe how to resume a run."""
    last = last_whole_checkpoint(folder, warn=False)
    where = "it resumes from " + last if last else f"there is no checkpoint in {folder} yet, so it starts again"
    return f"start the same command with --resume_from_checkpoint last: {where}"


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint atomically: it loses its name first, so that an interruption leaves no part of it there."""
    doomed = checkpoint.parent / UNFINISHED / f"deleted-{checkpoint.name}"
    doomed.parent.mkdir(exist_ok=True)
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def seal(checkpoint: Path) -> None:
    """Flush all files of a checkpoint to disk, and write the list of them."""
    sizes = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != FILES:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            sizes[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    write_json(checkpoint / FILES, {"files": sizes})


def publish(staged: Path, checkpoint: Path) -> None:
    """Give a sealed checkpoint its name; one that already has the name is replaced."""
    if checkpoint.exists():
        remove(checkpoint)
    os.rename(staged, checkpoint)
    sync_folder(checkpoint.parent)


def tidy(folder: str | os.PathLike) -> None:
    """Clean up after a run that was killed: complete checkpoints get their name, the others are deleted."""
    unfinished = Path(folder) / UNFINISHED
    if not unfinished.is_dir():
        return
    for staged in find_checkpoints(unfinished):
        if (staged / FILES).exists() and find_damage(staged) is None:
            publish(staged, Path(folder) / staged.name)
    shutil.rmtree(unfinished, ignore_errors=True)


def rotate(folder: str | os.PathLike, limit: int | None, keep: list[str | None]) -> None:
    """Delete the oldest complete checkpoints beyond a limit, but none of those to keep, and unfinished files.

    Damaged ones do not count towards the limit.
    """
    kept = {Path(path).name for path in keep if path}
    whole = [path for path in find_checkpoints(folder) if find_damage(path) is None]
    whole.sort(key=lambda path: path.stat().st_mtime_ns)
    surplus = len(whole) - max(limit, sum(path.name in kept for path in whole)) if limit and limit > 0 else 0
    for checkpoint in [path for path in whole if path.name not in kept][: max(surplus, 0)]:
        remove(checkpoint)
    shutil.rmtree(Path(folder, UNFINISHED), ignore_errors=True)


def install_model(staged: Path, folder: Path) -> None:
    """Move the files of a model to a folder; its weights come last and never mix with another model's files."""
    files = sorted(staged.iterdir(), key=lambda path: (bool(WEIGHTS.fullmatch(path.name)), path.name))
    for path in files:
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    for old in folder.iterdir():
        if WEIGHTS.fullmatch(old.name):
            old.unlink()
    for path in files:
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    sync_folder(folder)
    shutil.rmtree(staged.parent)


class MovedBestModel(TrainerCallback):
    """Takes the best model beside the checkpoint that a run is resumed from.

    The run may have been moved; the state then names a folder that does not exist, or another run's.
    """

    def __init__(self, resumed_from: str | os.PathLike | None):
        self.resumed_from = resumed_from

    def on_train_begin(self, args, state, control, **kwargs):
        if self.resumed_from:
            best = Path(self.resumed_from).with_name(f"checkpoint-{state.best_global_step}")
            if best.is_dir():
                state.best_model_checkpoint = str(best)


class WholeCheckpoints(Trainer):
    """The part of `I2SRMTrainer` that saves atomically and resumes; `train(resume_from_checkpoint=True)` too.

    Raises:
        RunError: a checkpoint or the model cannot be written; earlier ones are unchanged. Or the best model cannot be
            loaded at the end.
        ValueError: the checkpoint to resume from is incomplete, or its best model is.
    """

    _staging: str | None = None  # folder of the checkpoint that is being saved

    @property
    def _output_dir(self) -> str:
        return str(self.args.output_dir)  # `TrainingArguments` chooses one where none is given

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        with self.args.main_process_first(local=False, desc="tidying up checkpoints"):
            if self.args.should_save:
                tidy(self._output_dir)
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_whole_checkpoint(
                self._output_dir, needs_best=self.args.load_best_model_at_end
            )
            if resume_from_checkpoint is None:
                raise ValueError(f"no complete checkpoint in {self._output_dir}: leave resume_from_checkpoint out")
        elif resume_from_checkpoint:
            check_whole(resume_from_checkpoint, self.args.load_best_model_at_end)
        moved = MovedBestModel(resume_from_checkpoint)
        self.add_callback(moved)
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self.remove_callback(moved)

    # No public hook; read in transformers 5.24: callbacks cannot leave out an epoch, and are not told which one it is.
    def _run_epoch(self, model, epoch, train_dataloader, *args, **kwargs):
        """As Trainer's, but a finished run is not continued: Trainer would take one more step."""
        tell_sampler(train_dataloader, epoch)
        callbacks = [call for call in self.callback_handler.callbacks if isinstance(call, PlainStopping)]
        stopped = any(call.early_stopping_patience_counter >= call.early_stopping_patience for call in callbacks)
        if not stopped and self.state.global_step < self.state.max_steps:
            super()._run_epoch(model, epoch, train_dataloader, *args, **kwargs)

    # No public hook; read in transformers 5.24: on_train_end comes after the best model was loaded.
    def _load_best_model(self):
        """As Trainer's, which would keep the last model where the best one is missing."""
        if damage := find_damage(best := str(self.state.best_model_checkpoint)):
            raise RunError(
                f"the best model {best} cannot be loaded: {damage}. {WITHOUT_BEST.capitalize()}, with "
                f"--resume_from_checkpoint last"
            )
        super()._load_best_model()

    # No public hook; read in transformers 5.24, as for `_save_checkpoint`, which asks it where to write.
    def _get_output_dir(self, trial):
        return super()._get_output_dir(trial) if self._staging is None else self._staging

    # No public hook; read in transformers 5.24: on_save comes when the checkpoint has its name already.
    def _save_checkpoint(self, model, trial):
        folder = self._get_output_dir(trial)
        name, best = f"checkpoint-{self.state.global_step}", f"checkpoint-{self.state.best_global_step}"
        staged = Path(folder, UNFINISHED, name)
        push, limit = self.args.push_to_hub, self.args.save_total_limit
        self._staging, self.args.push_to_hub, self.args.save_total_limit = str(staged.parent), False, None
        try:
            with saving(Path(folder, name), staged, folder):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()  # each process has saved its random numbers
                if self.state.best_global_step and (best == name or Path(folder, best).exists()):
                    self.state.best_model_checkpoint = os.path.join(folder, best)
                if self.args.should_save:
                    self.state.save_to_json(str(staged / STATE))  # with that path
                    seal(staged)
                    publish(staged, Path(folder, name))
        finally:
            self._staging, self.args.push_to_hub, self.args.save_total_limit = None, push, limit
        if self.args.should_save:
            rotate(folder, limit, [name, self.state.best_model_checkpoint])
        self.accelerator.wait_for_everyone()
        if push:
            self._push_from_checkpoint(os.path.join(folder, name))

    def save_model(self, output_dir=None, _internal_call=False):
        if self._staging is not None:
            return super().save_model(output_dir, _internal_call)
        folder = Path(self._output_dir if output_dir is None else output_dir)
        staged = folder / UNFINISHED / "model"
        with saving(folder, staged, self._output_dir):
            super().save_model(str(staged), _internal_call=True)
            self.accelerator.wait_for_everyone()
            if self.args.should_save and staged.is_dir():
                install_model(staged, folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def save_metrics(self, split, metrics, combined=True):
        """As Trainer's, in files that are written atomically."""
        if not self.is_world_process_zero():
            return
        folder, together = Path(self._output_dir), {}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{split}_results.json", metrics, indent=4, sort_keys=True)
        if combined:
            try:
                together = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):  # none yet, or damaged by an earlier version
                pass
            write_json(folder / "all_results.json", {**together, **metrics}, indent=4, sort_keys=True)

    def save_state(self) -> None:
        """As Trainer's, in a file that is written atomically."""
        if self.is_world_process_zero():
            with placing(Path(self._output_dir, STATE)) as temporary:
                self.state.save_to_json(str(temporary))


def tell_sampler(loader: object, epoch: int) -> None:
    """Tell the sampler of a loader the epoch, also if the loader is wrapped several times.

    Where several processes resume within an epoch, accelerate wraps it once more than its `set_epoch` expects, and the
    rows would come in the order of the first epoch.
    """
    while (inner := getattr(loader, "batch_sampler", getattr(loader, "sampler", None))) is not None:
        loader = inner
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)


@contextmanager
def saving(what: Path, staged: Path, folder: str) -> Iterator[None]:
    """Where something cannot be saved, delete its files, which frees space, and say what to do."""
    try:
        yield
    except RunError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        if lost_process(error):
            raise
        try:
            free = f"; {shutil.disk_usage(folder).free / 1e6:,.1f} MB were free there"
        except OSError:
            free = ""
        shutil.rmtree(staged, ignore_errors=True)
        raise RunError(
            f"{what} could not be written ({type(error).__name__}: {error}{free}). All that was saved before is kept. "
            f"See to it that {folder} has room and can be written to, then {how_to_resume(folder)}"
        ) from error


class EarlyStoppingCallback(PlainStopping):
    """Early stopping that counts no evaluation before a metric has left 0, where F1 may stay for a while.

    The name is that of the base class: checkpoints hold the counter under it.
    """

    def check_metric_value(self, args, state, control, metric_value):
        super().check_metric_value(args, state, control, metric_value)
        if args.greater_is_better and metric_value == 0 and not state.best_metric:
            self.early_stopping_patience_counter = 0


__all__ = [
    "EarlyStoppingCallback",
    "WholeCheckpoints",
    "check_whole",
    "find_checkpoints",
    "how_to_resume",
    "last_whole_checkpoint",
    "tidy",
    "find_damage",
]
