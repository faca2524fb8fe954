"""Pictures for people who would rather look than read."""

from pathlib import Path

LOSSES = ("loss", "task_loss", "mixup_loss", "semantic_loss")


def draw_training_curves(log_history: list[dict], path: str | Path):
    """Draw the losses and the validation F1 of a trainer's log history to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    for name in LOSSES:
        points = [(entry["step"], entry[name]) for entry in log_history if name in entry]
        if points and any(value for _, value in points):
            losses.plot(*zip(*points, strict=True), label=name.replace("_", " "))
    losses.set(xlabel="step", ylabel="training loss (mean since the last log)", title="Loss and its parts")
    metrics = sorted({name for entry in log_history for name in entry if name.startswith("eval_") and "f1" in name})
    for name in metrics:
        points = [(entry["step"], 100 * entry[name]) for entry in log_history if name in entry]
        overall = name.endswith("_f1")
        label = name.removeprefix("eval_").replace("_", " ")
        if overall or name.startswith("eval_lenient"):
            scores.plot(*zip(*points, strict=True), label=label, linewidth=2 if overall else 1, marker=".")
    scores.set(xlabel="step", ylabel="F1 (%)", title="Validation", ylim=(0, 101))
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


__all__ = ["draw_training_curves"]
