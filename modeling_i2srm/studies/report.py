"""Turns the runs of a study into the rows of its table, a Markdown table and a figure."""

import json
import logging
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..data.mismatch import KINDS, Mismatch
from ..support.figure_style import COLOURS, GREY, draw_differences, label_ends, new_figure, styled
from ..support.markdown import markdown_table
from ..training.run import predictions_name
from ..training.tasks import Task
from .settings import Study
from .significance import adjusted, compare, post_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

NOTE = """\
Differences are in points, with the 95 % interval of a paired bootstrap over the test posts. p is that of an approximate
randomisation test on the predictions, adjusted (Benjamini and Hochberg) for the number of settings; * marks p below
0.05. Both describe these models and the choice of test posts. The standard deviations describe the choice of seeds."""


def summarize(records: list[dict], task: Task) -> list[dict]:
    """Average the seeds of each setting, and test it against its reference on the predictions.

    Args:
        records: of `run_study`, or read from its runs.jsonl; predictions are read from their folders.

    Returns:
        One dict per setting and one per mismatch of it: setting, series, x, mismatch (`None` for the unchanged test
        split), seeds, values (F1 of each seed), their mean and std (sample standard deviation; 0 for one seed), blanked
        (mean with every picture absent, `None` for text alone), reference, and if there is one difference, low, high, p
        and adjusted_p. F1 and differences are between 0 and 1.
    """
    metric = task.main_metrics[0]
    groups: dict[tuple, list[dict]] = {}
    for one in records:
        for mismatch in (None, *one["results"].get("mismatched", {})):
            groups.setdefault((one["setting"], mismatch), []).append(one)
    counts: dict[tuple, list[Counted]] = {}

    def counted(name: str, mismatch: str | None) -> list[Counted]:
        if (name, mismatch) not in counts:
            runs = sorted(groups[name, mismatch], key=lambda one: one["seed"])
            paths = [Path(one["folder"], predictions_name(mismatch)) for one in runs]
            counts[name, mismatch] = [count_posts(read_lines(path)) for path in paths]
        return counts[name, mismatch]

    rows = []
    for (name, mismatch), runs in groups.items():
        one = runs[0]
        values = [score(run["results"], metric, mismatch) for run in runs]
        blanked = [run["results"]["pictures_blanked"][metric] for run in runs if "pictures_blanked" in run["results"]]
        row = {name: one[name] for name in ("setting", "series", "x", "reference")}
        row |= {"mismatch": mismatch, "seeds": [run["seed"] for run in runs], "values": values}
        row |= {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0}
        row["blanked"] = float(np.mean(blanked)) if blanked and mismatch is None else None
        if (one["reference"], mismatch) in groups:
            ours, theirs = on_the_same_posts(name, counted(name, mismatch), counted(one["reference"], mismatch))
            row |= compare(ours, theirs)._asdict()
        rows.append(row)
    tested = [row for row in rows if "p" in row]
    for row, p in zip(tested, adjusted([row["p"] for row in tested]), strict=True):
        row["adjusted_p"] = p
    return rows


class Counted(NamedTuple):
    """The ids of the posts of a run, and the counts (posts, 3) of `post_counts`."""

    ids: list[str]
    counts: np.ndarray


def count_posts(records: list[dict]) -> Counted:
    return Counted([str(record.get("id", number)) for number, record in enumerate(records)], post_counts(records))


def on_the_same_posts(name: str, *sides: list[Counted]) -> list[list[np.ndarray]]:
    """The counts of the runs of both sides on the posts that all have; a warning says how many others are left out.

    Runs may have predictions of different posts: with `--skip_long_pairs true` each tokenizer leaves out other pairs.

    Raises:
        ValueError: ids that repeat in runs of different posts.
    """
    runs = [run for side in sides for run in side]
    if all(run.ids == runs[0].ids for run in runs):
        return [[run.counts for run in side] for side in sides]
    if any(len(set(run.ids)) < len(run.ids) for run in runs):
        raise ValueError(f"setting {name!r}: predictions of other posts than its reference, with ids that repeat")
    shared = sorted(set.intersection(*(set(run.ids) for run in runs)))
    most = max(len(run.ids) for run in runs)
    logger.warning(f"setting {name!r} is compared with its reference on {len(shared)} of {most} test posts")
    places = [dict(zip(run.ids, range(len(run.ids)), strict=True)) for run in runs]
    chosen = iter([run.counts[[place[one] for one in shared]] for run, place in zip(runs, places, strict=True)])
    return [[next(chosen) for _ in side] for side in sides]


def score(results: dict, metric: str, mismatch: str | None = None) -> float:
    """The F1 of a run on the test split, if need be with wrong pictures."""
    if mismatch is not None:
        return results["mismatched"][mismatch][metric]
    return results["multimodal" if "multimodal" in results else "text_only"][metric]


def read_lines(path: Path) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def study_table(rows: list[dict]) -> str:
    """The table of a study; one of wrong pictures has one column per setting."""
    return mismatch_table(rows) if any(row["mismatch"] for row in rows) else settings_table(rows)


def settings_table(rows: list[dict]) -> str:
    header = ["setting", "F1 (%)", "pictures blanked", "reference", "difference [95 % interval]", "p", "p, adjusted"]
    lines = []
    for row in rows:
        tested = ["", "", "", ""]
        if "p" in row:
            interval = f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]"
            tested = [
                row["reference"],
                f"{100 * row['difference']:+.2f} {interval}",
                *map(p_text, (row["p"], row["adjusted_p"])),
            ]
        blanked = "-" if row["blanked"] is None else f"{100 * row['blanked']:.2f}"
        lines.append([row["setting"], spread(row), blanked, *tested])
    return markdown_table(header, lines)


def mismatch_table(rows: list[dict]) -> str:
    names = list(dict.fromkeys(row["setting"] for row in rows))
    cells: dict[str | None, dict] = {}
    for row in rows:
        star = " *" if row.get("adjusted_p", 1) < 0.05 else ""
        cells.setdefault(row["mismatch"], {})[row["setting"]] = spread(row) + star
    lines = []
    for mismatch, values in cells.items():
        kind, percent = ("as they are", 0) if mismatch is None else Mismatch.parse(mismatch)
        lines.append([kind, f"{percent:g}", *(values.get(name, "-") for name in names)])
    return markdown_table(["test pictures", "posts (%)", *names], lines)


def spread(row: dict) -> str:
    text = f"{100 * row['mean']:.2f}"
    return f"{text} ± {100 * row['std']:.2f}" if len(row["values"]) > 1 else text


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def about(records: list[dict]) -> dict:
    """The facts that belong to a table: sizes, seeds, epochs, seconds and warnings."""
    results = [one["results"] for one in records]
    sizes = {
        split: sorted({result["truncation"][split]["posts"] for result in results})
        for split in ("train", "validation", "test")
    }
    epochs = sorted({f"{float(one['decisive'].get('num_train_epochs', 3)):g}" for one in records})
    warnings = {warning: None for result in results for warning in result.get("data", {}).get("warnings", [])}
    return {
        "posts": {split: "-".join(map(str, (counts[0], counts[-1])[: len(counts)])) for split, counts in sizes.items()},
        "seeds": sorted({one["seed"] for one in records}),
        "epochs": ", ".join(epochs),
        "seconds": round(sum({one["key"]: one["seconds"] for one in records}.values())),
        "warnings": list(warnings),
    }


def describe(records: list[dict], task: Task, command: str) -> str:
    """The lines above a table: its command, data sizes, seeds, epochs, and the meaning of the columns."""
    known = about(records)
    sizes = " / ".join(known["posts"].values())
    seeds = ", ".join(map(str, known["seeds"]))
    seeds = f"seeds {seeds}, mean ± standard deviation" if len(known["seeds"]) > 1 else f"seed {seeds} alone"
    metric = task.main_metrics[0].replace("_", " ").replace("f1", "F1")
    lines = [
        f"    {command}",
        "",
        f"Test {metric}; {sizes} posts for training, validation and test; {seeds}; "
        f"{known['epochs']} epochs; {known['seconds']} seconds of training and evaluation.",
        *(f"**{warning}**" for warning in known["warnings"]),
    ]
    if any(one["reference"] for one in records):
        lines.append(NOTE)
    return "\n".join(lines)


MARKERS = "osD^vP"


def draw_study(rows: list[dict], study: Study, metric: str, path: str | Path) -> None:
    """Draw the rows of `summarize` to a PNG, 800 to 1,000 pixels wide: F1 in per cent, each seed a small dot.

    Args:
        metric: name of the F1 on its axis, e.g. "lenient F1".
    """
    with styled():
        if any(row["mismatch"] for row in rows):
            figure = draw_mismatch(rows, study, metric)
        elif study.axis:
            figure = draw_curves(rows, study, metric)
        else:
            figure = draw_settings(rows, metric)
        figure.suptitle(textwrap.fill(study.question, 70), fontsize=15, weight="bold")
        figure.savefig(path, format="png")


def draw_settings(rows: list[dict], metric: str) -> "Figure":
    """The difference of each setting from its reference, with its interval; without references the F1 of each."""
    tested = [row for row in rows if "p" in row]
    figure, (axes,) = new_figure(8, 1.8 + 0.45 * len(tested or rows))
    if tested:
        points = [[100 * row[name] for name in ("difference", "low", "high")] for row in tested]
        clear = [row["adjusted_p"] < 0.05 for row in tested]
        names = [row["setting"] for row in tested]
        draw_differences(axes, [(name, *three, sure) for name, three, sure in zip(names, points, clear, strict=True)])
        references = {row["setting"]: 100 * row["mean"] for row in rows}
        zero = ", ".join(
            f"{name} ({references[name]:.2f})" for name in dict.fromkeys(row["reference"] for row in tested)
        )
        axes.set_xlabel(
            f"points of test {metric} against {zero}\n95 % intervals; grey: may be chance", parse_math=False
        )
        return figure
    for place, row in enumerate(rows):
        axes.plot(
            [100 * value for value in row["values"]], [place] * len(row["values"]), "o", color=COLOURS[0], alpha=0.5
        )
        axes.plot(100 * row["mean"], place, "|", markersize=18, color=COLOURS[0])
    axes.set_yticks(range(len(rows)), [row["setting"] for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"test {metric} (%); dots: seeds, line: their mean")
    return figure


def draw_curves(rows: list[dict], study: Study, metric: str) -> "Figure":
    """One curve per series over the varied number; a setting without such a number is a dashed line."""
    figure, (axes,) = new_figure(8, 4.2)
    points = [row for row in rows if row["x"] is not None]
    for number, series in enumerate(dict.fromkeys(row["series"] for row in points)):
        curve(axes, [(row["x"], row) for row in points if row["series"] == series], number, series)
    for row in rows:
        if row["x"] is None:
            axes.axhline(100 * row["mean"], color=GREY, linestyle="--", linewidth=1, label=row["setting"])
    if study.scale == "symlog":
        axes.set_xscale("symlog", linthresh=min((row["x"] for row in points if row["x"] > 0), default=1))
    else:
        axes.set_xscale(study.scale)
    places = sorted({row["x"] for row in points})
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.minorticks_off()
    axes.set(xlabel=study.axis, ylabel=f"test {metric} (%)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return figure


def draw_mismatch(rows: list[dict], study: Study, metric: str) -> "Figure":
    """One panel per kind of wrong pictures, one curve per setting over the share of posts with them.

    Each curve has its name at its end in the last panel, which has the place for it at its right.
    """
    kinds = [
        kind for kind in KINDS if any(Mismatch.parse(row["mismatch"]).kind == kind for row in rows if row["mismatch"])
    ]
    lines = 1 + len(kinds) // 2
    figure, panels = new_figure(8.5, 0.8 + 3.4 * lines, rows=lines, columns=2)
    panels, rest = [*panels[: len(kinds) - 1], panels[-2]], [*panels[len(kinds) - 1 : -2], panels[-1]]
    for axes in rest:
        axes.remove()
    names = list(dict.fromkeys(row["setting"] for row in rows))
    for kind, axes in zip(kinds, panels, strict=True):
        ends = []
        for number, name in enumerate(names):
            points = []
            for row in rows:
                told = Mismatch.parse(row["mismatch"]) if row["mismatch"] else Mismatch(kind, 0)
                if row["setting"] == name and told.kind == kind:
                    points.append((told.percent, row))
            curve(axes, points, number, "")
            x, last = max(points, key=lambda point: point[0])
            ends.append((x, 100 * last["mean"], textwrap.fill(name, 24), COLOURS[number % len(COLOURS)]))
        axes.set(xlabel=study.axis, title=f"pictures {kind}")
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    for axes in panels:
        axes.set(ylim=(min(low), max(high)), ylabel=f"test {metric} (%)")
    label_ends(panels[-1], ends, 2.3)
    return figure


def curve(axes: "Axes", points: list[tuple[float, dict]], number: int, label: str) -> None:
    """The means with their standard deviations, and the seeds as dots."""
    points = sorted(points, key=lambda point: point[0])
    colour, xs = COLOURS[number % len(COLOURS)], [x for x, _ in points]
    means, stds = ([100 * row[name] for _, row in points] for name in ("mean", "std"))
    marker = MARKERS[number % len(MARKERS)]
    several = any(row["std"] for _, row in points)
    axes.errorbar(xs, means, stds if several else None, marker=marker, color=colour, capsize=3, label=label or None)
    if several:
        for x, row in points:
            axes.plot([x] * len(row["values"]), [100 * v for v in row["values"]], ".", color=colour, alpha=0.4)


__all__ = [
    "about",
    "describe",
    "draw_study",
    "study_table",
    "summarize",
]
