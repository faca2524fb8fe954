"""Checks of every training step: its loss and gradients are finite, and no signal asks the run to stop."""

import logging
import math
import signal
import weakref
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from accelerate.data_loader import DataLoaderDispatcher
from torch import distributed
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from ..support.faults import Interrupted, Interruption, RunError

if TYPE_CHECKING:
    from .trainer import I2SRMTrainingArguments

logger = logging.getLogger(__name__)

LOSS_PARTS = ("task_loss", "mixup_loss", "semantic_loss")
JOINT_LOSS_PARTS = (*LOSS_PARTS, "relation_loss", "region_loss")
ROW_IDS = "row_ids"  # of a batch, on its way to the trainer; the model never sees them
ROWS_SHOWN = 32


class WithRowIds:
    """A collator whose batches also name their rows."""

    def __init__(self, collator: Callable[[list], object]):
        self.collator = collator

    def __call__(self, rows: list) -> object:
        batch = self.collator(rows)
        if isinstance(batch, MutableMapping):
            batch[ROW_IDS] = [name_of(row) for row in rows]
        return batch


def name_of(row: object) -> str:
    """The id of a row, or its first words where it has none."""
    row = row if isinstance(row, Mapping) else {}
    tokens = row.get("tokens")
    return str(row["id"]) if row.get("id") is not None else " ".join(map(str, ["?"] if tokens is None else tokens[:8]))


class GuardedSteps(Trainer):
    """The part of `I2SRMTrainer` that takes no step with a loss or gradients that are not finite.

    The sums of the loss parts, the loss and the norm of the gradients, which are computed anyway, are read once a step,
    before the optimizer. This replaces Trainer's check of the loss (logging_nan_inf_filter), so that the number of GPU
    synchronisations is the same. Several processes add up these values, so that all decide alike. With float16
    gradients are left to its scaler, which skips such steps.

    Raises:
        RunError: after more such steps than `skip_non_finite_steps`, with the step, the part and the rows.
        Interrupted: after a checkpoint was saved because `interruption` holds a signal.
    """

    args: "I2SRMTrainingArguments"
    model: torch.nn.Module
    interruption: Interruption | None = None
    loss_parts: tuple[str, ...] = LOSS_PARTS

    def start_guard(self) -> None:
        # Sums of the loss parts since the last log, and the number of optimizer steps they come from.
        self._part_sums = torch.zeros(len(self.loss_parts) + 1, device=self.args.device)
        self._loss_sum = torch.zeros((), device=self.args.device)  # of the step
        self._gradient_norm: Any = None
        self._rows: list[str] = []
        self.stop_signal = 0  # the same in all processes
        self.add_callback(StepGuard(self))

    @property
    def skipped_steps(self) -> list[dict]:
        """The steps that were skipped, also before the run was resumed; they are in the log history."""
        return [entry for entry in self.state.log_history if "skipped" in entry]

    def with_row_ids(self, loader: DataLoader) -> DataLoader:
        """Let the batches of a training loader name their rows, unless one process loads for all."""
        inner = getattr(loader, "base_dataloader", loader)  # accelerate wraps it
        if not isinstance(loader, DataLoaderDispatcher):
            inner.collate_fn = WithRowIds(inner.collate_fn)
        return loader

    def start_step(self) -> None:
        """Keep the values that a skipped step restores."""
        self._before_step = self._part_sums.clone(), self._tr_loss.clone()

    def training_step(self, model, inputs, *args, **kwargs):
        self._rows += inputs.pop(ROW_IDS, [])
        return super().training_step(model, inputs, *args, **kwargs)

    def count_loss(self, loss: torch.Tensor, outputs: Mapping[str, torch.Tensor]) -> None:
        """Add up the loss and its parts, of one of the batches that make a step."""
        batches = self.current_gradient_accumulation_steps
        self._loss_sum += loss.detach().float().mean()
        for i, name in enumerate(self.loss_parts):
            if (part := outputs.get(name)) is not None:
                self._part_sums[i] += part.detach().float().mean() / batches
        self._part_sums[-1] += 1 / batches

    # No public hook; read in transformers 5.24: callbacks are not given the norm before the optimizer steps.
    def _get_grad_norm(self, model, grad_norm=None):
        self._gradient_norm = super()._get_grad_norm(model, grad_norm)
        return self._gradient_norm

    def check_step(self) -> None:
        """Check the step that is about to be taken; every process calls this."""
        local = torch.cat([self._part_sums[:-1], self._loss_sum.reshape(1)])
        norm = 0.0 if self._gradient_norm is None or self.accelerator.scaler is not None else self._gradient_norm
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        norm = torch.as_tensor(norm, dtype=local.dtype, device=local.device).reshape(1)
        signum = 0 if self.interruption is None else self.interruption.signum
        values = torch.cat([local, norm, local.new_tensor([signum])])
        if self.args.world_size > 1:
            values = self.accelerator.reduce(values, reduction="sum")
        *losses, norm, stop = values.tolist()
        if stop:
            self.stop_signal = signum or signal.SIGTERM
        bad = [
            f"{name} {value}"
            for name, value in zip((*self.loss_parts, "loss"), losses, strict=True)
            if not math.isfinite(value)
        ]
        if bad:
            self._not_finite(bad, has_bad_rows=not all(map(math.isfinite, local.tolist())))
        elif not math.isfinite(norm):
            self._not_finite([f"gradients {norm}"], has_bad_rows=True)
        self._loss_sum.zero_()
        self._rows.clear()

    def _not_finite(self, bad: list[str], has_bad_rows: bool) -> None:
        """Skip a step, or raise after too many; has_bad_rows: the rows of this process may be the cause."""
        rows = self._rows if has_bad_rows else []
        if self.args.world_size > 1:
            gathered: list[list[str]] = [[]] * self.args.world_size
            distributed.all_gather_object(gathered, rows)
            rows = [row for part in gathered for row in part]
        step, limit, count = self.state.global_step + 1, self.args.skip_non_finite_steps, len(self.skipped_steps)
        more = f" and {len(rows) - ROWS_SHOWN} more" if len(rows) > ROWS_SHOWN else ""
        what = f"step {step}: {', '.join(bad)}, with the rows {', '.join(map(repr, rows[:ROWS_SHOWN]))}{more}"
        if count >= limit or self.is_deepspeed_enabled:
            before = f", and {count} such steps were skipped before" if count else ""
            raise RunError(
                f"{what}. The weights are still those of step {step - 1}{before}. Look at these rows, or try a lower "
                f"--learning_rate or --max_grad_norm; to leave out a few such steps and count them: "
                f"--skip_non_finite_steps {max(10, 2 * limit)}"
            )
        logger.warning(f"{what}; this step is skipped, {count + 1} so far of at most {limit}")
        entry: dict[str, Any] = {"step": step, "epoch": self.state.epoch, "skipped": bad, "rows": list(rows)}
        self.state.log_history.append(entry)
        if self.accelerator.scaler is None:  # else it skips by itself, for the same reason
            self.model.zero_grad()
        self._part_sums, loss = self._before_step
        # In the log's mean over steps the mean of the others stands for it; as logging_nan_inf_filter does in
        # transformers 5.24, which has no public hook here.
        self._tr_loss = loss + loss / (1 + self.state.global_step - self._globalstep_last_logged)


class StepGuard(TrainerCallback):
    """Checks each step, and saves a run that is to stop where it can resume exactly."""

    def __init__(self, trainer: GuardedSteps):
        # A cycle would leave the trainer to the garbage collector, which closes the pipes to the workers of its loaders
        # before it ends them: each would be waited for 5 s.
        self.trainer, self._epoch_is_over = weakref.proxy(trainer), False

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.check_step()

    def on_step_begin(self, args, state, control, **kwargs):
        self._epoch_is_over = False
        self.trainer.start_step()

    def on_step_end(self, args, state, control, **kwargs):
        if args.world_size == 1 and self.trainer.interruption is not None:  # else they ask each other before each step
            self.trainer.stop_signal = self.trainer.interruption.signum
        # After the last step of an epoch an evaluation may be due before the checkpoint.
        if self.trainer.stop_signal and not state.epoch.is_integer():
            control.should_save = True

    def on_epoch_end(self, args, state, control, **kwargs):
        self._epoch_is_over = True
        if self.trainer.stop_signal:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        if self.trainer.stop_signal and (self._epoch_is_over or not state.epoch.is_integer()):
            raise Interrupted(self.trainer.stop_signal)


__all__ = ["GuardedSteps", "JOINT_LOSS_PARTS", "LOSS_PARTS", "WithRowIds"]
