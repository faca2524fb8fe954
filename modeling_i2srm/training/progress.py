"""Shows a training run while it runs: one progress bar, and a line of a table for each evaluation."""

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from .step_guard import JOINT_LOSS_PARTS

WIDTH = 11  # of a column


class ProgressTable(ProgressCallback):
    """A callback with the progress bar of transformers, and a table in the place of printed dictionaries.

    A line has the epoch, the step, the training loss since the line before, its parts that are not 0, and the main
    metrics in per cent; the best evaluation so far is marked. Without evaluations there is a line for each epoch. All
    numbers, those of single labels too, are in trainer_state.json and the files of metrics.

    Args:
        metrics: names of the metrics to show, without prefix.
        bar: show the progress bar.
    """

    def __init__(self, metrics: tuple[str, ...], bar: bool = True):
        super().__init__()
        self.metrics, self.bar = metrics, bar
        self.columns: list[str] = []
        self.sums: dict[str, float] = {}
        self.steps = self.logged = 0
        self.best: float | None = None
        self.training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.bar:
            super().on_train_begin(args, state, control, **kwargs)
        self.training, self.columns, self.best = True, [], state.best_metric
        self.sums, self.steps, self.logged = {}, 0, state.global_step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.training = False
        if self.training_bar is not None:
            super().on_train_end(args, state, control, **kwargs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.training_bar is not None:
            super().on_step_end(args, state, control, **kwargs)

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: object = None,
        **kwargs: object,
    ) -> None:
        if self.bar and not self.training:  # beside the bar of the training there is no second one
            super().on_prediction_step(args, state, control, eval_dataloader, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        steps = state.global_step - self.logged
        self.steps, self.logged = self.steps + steps, state.global_step
        for name in ("loss", *JOINT_LOSS_PARTS):
            if name in logs:
                self.sums[name] = self.sums.get(name, 0.0) + steps * float(logs[name])
        if self.training_bar is not None:
            self.training_bar.set_postfix_str(f"loss {float(logs['loss']):.4g}", refresh=False)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        super().on_evaluate(args, state, control, **kwargs)
        if self.training:
            self.write(args, state, metrics or {})

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if getattr(args.eval_strategy, "value", args.eval_strategy) == "no" and self.steps:
            self.write(args, state, {})

    def write(self, args: TrainingArguments, state: TrainerState, metrics: dict[str, float]) -> None:
        """Write a line, and the header before the first."""
        if not state.is_world_process_zero:
            return
        parts = ["loss", *(name for name in JOINT_LOSS_PARTS if self.sums.get(name))]
        values = {name: f"{total / max(self.steps, 1):.4g}" for name, total in self.sums.items()}
        shown = {name: metrics[f"eval_{name}"] for name in self.metrics if f"eval_{name}" in metrics}
        values |= {name: f"{100 * value:.2f}" for name, value in shown.items()}
        lines = []
        if not self.columns:
            self.columns = [*parts, *shown]
            heads = [name.removesuffix("_loss").replace("_", " ") for name in self.columns]
            lines.append("".join(head.rjust(max(WIDTH, len(head) + 2)) for head in ("epoch", "step", *heads)))
        widths = [max(WIDTH, len(name.removesuffix("_loss")) + 2) for name in self.columns]
        cells = [f"{state.epoch or 0:.2f}".rjust(WIDTH), str(state.global_step).rjust(WIDTH)]
        cells += [values.get(name, "-").rjust(width) for name, width in zip(self.columns, widths, strict=True)]
        lines.append("".join(cells) + ("  best" if self.is_best(args, metrics) else ""))
        for line in lines:
            if self.training_bar is not None:
                self.training_bar.write(line)
            else:
                print(line, flush=True)
        self.sums, self.steps = {}, 0

    def is_best(self, args: TrainingArguments, metrics: dict[str, float]) -> bool:
        """Whether the metric that chooses the checkpoint is better than ever before."""
        name = (args.metric_for_best_model or "loss").removeprefix("eval_")
        value = metrics.get(f"eval_{name}")
        if value is None or not args.load_best_model_at_end:
            return False
        better = self.best is None or (value > self.best if args.greater_is_better else value < self.best)
        self.best = value if better else self.best
        return better


__all__ = ["ProgressTable"]
