"""The picture of a study."""

from pathlib import Path

from .figure_style import COLOURS, GREY, new_figure, styled
from .mismatch import KINDS, Mismatch
from .studies import Study

MARKERS = "osD^vP"


def draw_study(rows: list[dict], study: Study, metric: str, path: str | Path):
    """Draw the rows of `summarize` to a PNG, 800 to 1,000 pixels wide: F1 in per cent, each seed a small dot.

    Args:
        metric: what the F1 is called on its axis, e.g. "lenient F1".
    """
    with styled():
        if any(row["mismatch"] for row in rows):
            figure = draw_mismatch(rows, study, metric)
        elif study.axis:
            figure = draw_curves(rows, study, metric)
        else:
            figure = draw_settings(rows, metric)
        figure.suptitle(study.question, fontsize=12)
        figure.savefig(path, format="png")


def draw_settings(rows: list[dict], metric: str):
    """A line a setting, the seeds as dots and their mean as a bar with its standard deviation."""
    several = len(rows[0]["values"]) > 1
    figure, (axes,) = new_figure(8, 1.5 + 0.38 * len(rows))
    for place, row in enumerate(rows):
        colour = COLOURS[0] if row["reference"] is None else COLOURS[1]
        values = [100 * value for value in row["values"]]
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.45, markeredgewidth=0)
        spread = 100 * row["std"] if several else None
        axes.errorbar(100 * row["mean"], place, xerr=spread, fmt="|", markersize=14, color=colour, capsize=4)
    axes.axvline(100 * rows[0]["mean"], color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["setting"] for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    note = "dots: seeds; bar: mean and standard deviation" if several else "one seed"
    axes.set_xlabel(f"test {metric} (%); {note}")
    return figure


def draw_curves(rows: list[dict], study: Study, metric: str):
    """A curve a series over the varied number; a setting without a place on the axis is a dashed line."""
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


def draw_mismatch(rows: list[dict], study: Study, metric: str):
    """A panel a kind of wrong pictures, a curve a setting over the share of posts concerned."""
    kinds = [
        kind for kind in KINDS if any(Mismatch.parse(row["mismatch"]).kind == kind for row in rows if row["mismatch"])
    ]
    figure, panels = new_figure(8.5, 4.4, columns=len(kinds))
    names = list(dict.fromkeys(row["setting"] for row in rows))
    for kind, axes in zip(kinds, panels, strict=True):
        for number, name in enumerate(names):
            points = []
            for row in rows:
                told = Mismatch.parse(row["mismatch"]) if row["mismatch"] else Mismatch(kind, 0)
                if row["setting"] == name and told.kind == kind:
                    points.append((told.percent, row))
            curve(axes, points, number, name)
        axes.set(xlabel=study.axis, title=f"pictures {kind}")
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    for axes in panels:
        axes.set_ylim(min(low), max(high))
    panels[0].set_ylabel(f"test {metric} (%)")
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def curve(axes, points: list[tuple[float, dict]], number: int, label: str):
    """The means with their standard deviations, and the seeds as dots."""
    points = sorted(points, key=lambda point: point[0])
    colour, xs = COLOURS[number % len(COLOURS)], [x for x, _ in points]
    means, stds = ([100 * row[name] for _, row in points] for name in ("mean", "std"))
    marker = MARKERS[number % len(MARKERS)]
    several = any(len(row["values"]) > 1 for _, row in points)
    axes.errorbar(xs, means, stds if several else None, marker=marker, color=colour, capsize=3, label=label or None)
    if several:
        for x, row in points:
            axes.plot([x] * len(row["values"]), [100 * v for v in row["values"]], ".", color=colour, alpha=0.4)


__all__ = ["draw_study"]
