"""Pictures of a training run: losses and scores over the steps, and confusion of labels."""

from collections import Counter
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..support.figure_style import COLOURS, GREY, label_ends, new_figure, styled

MOST_NAMES = 8  # of curves in a panel
LOSSES = ("loss", "task_loss", "mixup_loss", "semantic_loss", "relation_loss", "region_loss")
TITLES = {
    "loss": "Loss, sum of all parts",
    "task_loss": "Task",
    "mixup_loss": "AttnMixup",
    "semantic_loss": "Semantic (KL)",
}


def draw_training_curves(log_history: list[dict], path: str | Path) -> None:
    """Draw the losses and the validation F1 of a trainer's log history to a PNG."""
    with styled():
        draw_curves(log_history).savefig(path)


def draw_curves(log_history: list[dict]) -> Figure:
    """The figure of `draw_training_curves`: a panel per part of the loss, each with its own scale, and the scores."""
    losses = {name: [(entry["step"], entry[name]) for entry in log_history if name in entry] for name in LOSSES}
    losses = {name: points for name, points in losses.items() if any(value for _, value in points)}
    lines = 1 + (len(losses) + 1) // 2
    figure, panels = new_figure(8.5, 0.4 + 2.9 * lines, rows=lines, columns=2)
    for number, (name, points) in enumerate(losses.items()):
        axes, label = panels[number], name.replace("_", " ")
        axes.plot(*zip(*points, strict=True), label=label, color=COLOURS[number], marker=".")
        axes.set(title=TITLES.get(name, label.capitalize()), xlabel="step", ylabel="training loss", ylim=(0, None))
    for axes in panels[len(losses) :]:
        axes.remove()
    draw_scores(figure.add_subplot(lines, 2, (2 * lines - 1, 2 * lines)), log_history)
    return figure


def draw_scores(axes: Axes, log_history: list[dict]) -> None:
    """The validation F1 over the steps, each curve with its name at its end."""
    metrics = sorted({name for entry in log_history for name in entry if name.startswith("eval_") and "f1" in name})
    ends: list[tuple[float, float, str, str]] = []
    for name in metrics:
        points = [(entry["step"], 100 * entry[name]) for entry in log_history if name in entry]
        overall = name.endswith("_f1")
        label = name.removeprefix("eval_").replace("_", " ").replace("$", r"\$")
        if overall or name.startswith("eval_lenient"):  # of relations there are too many for a curve each
            colour = COLOURS[len(ends) % len(COLOURS)]
            axes.plot(
                *zip(*points, strict=True), label=label, linewidth=3 if overall else 1.5, marker=".", color=colour
            )
            ends.append((*points[-1], name.removeprefix("eval_").replace("_", " "), colour))
    axes.set(xlabel="step", ylabel="F1 (%)", title="Validation", ylim=(0, 101))
    if ends:
        first, last = axes.get_xlim()
        axes.set_xticks([tick for tick in axes.get_xticks() if first <= tick <= last])
        axes.set_xlim(first, first + (last - first) / 0.66)  # the rest is for the names
        named = ends if len(ends) <= MOST_NAMES else [end for end in ends if end[2].endswith(" f1")]
        label_ends(axes, named, 2.0, left=0.69)


def draw_reliability(reliability: dict[str, dict], path: str | Path) -> None:
    """Draw how often answers are right against their scores to a PNG, a panel for each kind of answer.

    Args:
        reliability: of `summarize_reliability`; without any nothing is drawn.
    """
    if not reliability:
        return
    with styled():
        figure, panels = new_figure(4 * len(reliability), 4, columns=len(reliability))
        for axes, (kind, values) in zip(panels, reliability.items(), strict=True):
            scores, right, _ = zip(*values["bins"], strict=True)
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="right as often as the score says")
            axes.plot(scores, right, marker="o", label=f"{values['count']} answers, error {values['ece']:.3f}")
            axes.set(xlabel="mean score", ylabel="share that is right", title=kind, xlim=(0, 1.02), ylim=(0, 1.02))
            axes.legend(loc="upper left", fontsize=8)
        figure.savefig(path)


def draw_confusion(
    records: list[dict], names: list[str], path: str | Path, labels: str = "relations", rows: str = "pairs"
) -> None:
    """Draw how often each gold label was predicted as each other one to a PNG, in per cent of the gold label.

    Args:
        records: dicts with "gold" and "predicted".
        names: the labels in their order; those that do not occur are left out.
        labels, rows: what they and the records are called.
    """
    with styled(axes_grid=False):
        draw_matrix(records, names, labels, rows).savefig(path)


def draw_matrix(records: list[dict], names: list[str], labels: str, rows: str) -> Figure:
    """The figure of `draw_confusion`."""
    pairs = Counter((record["gold"], record["predicted"]) for record in records)
    names = [name for name in names if any(name in pair for pair in pairs)]
    totals = Counter(record["gold"] for record in records)
    shares = [[100 * pairs[gold, predicted] / max(totals[gold], 1) for predicted in names] for gold in names]
    side = 2.5 + 0.42 * len(names)
    figure, (axes,) = new_figure(side + 1, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for y, gold in enumerate(names):
        for x, predicted in enumerate(names):
            if count := pairs[gold, predicted]:
                colour = "white" if shares[y][x] > 60 else "black"
                axes.text(x, y, str(count), ha="center", va="center", fontsize=7, color=colour)
    plain: dict[str, Any] = {"fontsize": 8, "parse_math": False}  # a label may hold dollar signs
    axes.set_xticks(range(len(names)), names, rotation=90, **plain)
    axes.set_yticks(range(len(names)), [f"{name} ({totals[name]})" for name in names], **plain)
    axes.set_xlabel("predicted", fontsize=10)
    axes.set_ylabel(f"gold ({rows})", fontsize=10)
    axes.set_title(f"Confusion of {labels} (numbers of {rows})", fontsize=11)
    bar = figure.colorbar(image, shrink=0.8)
    bar.set_label(f"share of the gold {labels} (%)", fontsize=10)
    bar.ax.tick_params(labelsize=9)
    return figure


__all__ = ["draw_confusion", "draw_reliability", "draw_training_curves"]
