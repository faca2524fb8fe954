"""The style of all figures: colour-blind safe colours, and text that is readable on a phone, 390 pixels wide."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's; yellow last, as it is faint on white.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000", "#f0e442"]
GREY = "#444444"  # edges and notes
UNCLEAR = "#8a8a8a"  # a difference that may be chance

FONT_SIZE = 14  # points
STYLE = {
    "figure.figsize": (8, 4),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 120,
    "font.size": FONT_SIZE,
    "axes.titlesize": 15,
    "axes.labelsize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "legend.fontsize": 13,
    "legend.framealpha": 0.9,
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
}


@contextmanager
def styled(**changes: object) -> Iterator[None]:
    """Set the style of matplotlib inside of the block; `changes` are rcParams, written with `_` for `.`.

    Example:

    >>> with styled(axes_grid=False):
    ...     figure, (axes,) = new_figure(8, 3)
    >>> figure.get_size_inches().tolist()
    [8.0, 3.0]
    """
    import matplotlib
    from cycler import cycler

    names = {name.replace(".", "_"): name for name in matplotlib.rcParams}
    style = {**STYLE, "axes.prop_cycle": cycler(color=COLOURS)} | {names[key]: value for key, value in changes.items()}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]  # its keys are literals, those of `changes` are not
        yield


def new_figure(width: float = 8, height: float = 4, rows: int = 1, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure of `width` x `height` inches that needs no display, and a list of its axes, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def draw_differences(axes: "Axes", rows: Sequence[tuple[str, float, float, float, bool]]) -> None:
    """Draw differences as dots with their intervals as whiskers around zero, and write their values beside them.

    Args:
        rows: of each a name, the difference, the low and high end of its interval, and whether it is clear; unclear
            ones are grey, losses orange and gains blue.
    """
    far = max(max(abs(low), abs(high)) for _, _, low, high, _ in rows)
    for place, (_, middle, low, high, clear) in enumerate(rows):
        colour = UNCLEAR if not clear else COLOURS[0] if middle > 0 else COLOURS[1]
        axes.plot([low, high], [place, place], color=colour, linewidth=3, solid_capstyle="round")
        axes.plot(middle, place, "o", color=colour, markersize=9)
        axes.annotate(
            f"{middle:+.1f}",
            (1.02, place),
            color=colour,
            va="center",
            weight="bold",
            xycoords=("axes fraction", "data"),
        )
    axes.axvline(0, color=GREY, linewidth=1.2, zorder=1)
    if far > 25:  # else nobody sees the small ones
        axes.set_xscale("symlog", linthresh=5, linscale=1.5)
        ends = min(row[2] for row in rows), max(row[3] for row in rows)
        ticks = [
            value for value in (-50, -20, -5, 0, 5, 20, 50) if 1.3 * ends[0] <= value <= 1.3 * ends[1] or value == 0
        ]
        axes.set_xticks(ticks, [f"{value:+g}" if value else "0" for value in ticks])
        axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def save_differences(
    rows: Sequence[tuple[str, float, float, float, bool]], title: str, path: str | PathLike, width: int = 26
) -> None:
    """Draw differences as a figure of their own.

    Args:
        rows: of `draw_differences`; names are wrapped at `width` characters, the title at twice as many.
    """
    title = textwrap.fill(title, 2 * width)
    with styled():
        figure, (axes,) = new_figure(8, 1.6 + 0.68 * len(rows) + 0.3 * title.count("\n"))
        wrapped = [(textwrap.fill(name, width), middle, low, high, clear) for name, middle, low, high, clear in rows]
        draw_differences(axes, wrapped)
        axes.set_xlabel("points, with 95 % intervals; grey: may be chance")
        figure.suptitle(title, fontsize=15, weight="bold")
        figure.savefig(path)


def label_ends(axes: "Axes", ends: Sequence[tuple[float, float, str, str]], height: float, left: float = 1.04) -> None:
    """Write names at the right ends of curves, moved apart where they would overlap; the figure has the space.

    Args:
        ends: of each curve its last x and y, its name (it may have several lines) and its colour.
        height: of the axes, in inches.
        left: where the names begin, as a share of the width of the axes.
    """
    bottom, top = axes.get_ylim()
    line = 1.25 * FONT_SIZE / 72 / height * (top - bottom)  # of text, in units of the y axis
    ordered = sorted(ends, key=lambda end: end[1])
    places: list[float] = []
    below = 0.0
    for _, y, name, _ in ordered:
        half = line * (name.count("\n") + 1) / 2
        places.append(max(y, places[-1] + below + half) if places else y)
        below = half
    moved = sum(place - end[1] for place, end in zip(places, ordered, strict=True)) / len(ends)
    moved = max(moved, places[-1] + below - top)  # the uppermost is not above the axes
    for place, (x, y, name, colour) in zip(places, ordered, strict=True):
        text = axes.annotate(
            name,
            (x, y),
            (left, place - moved),
            textcoords=("axes fraction", "data"),
            color=colour,
            va="center",
            weight="bold",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 1, "relpos": (0, 0.5)},
            parse_math=False,
        )
        text.set_in_layout(False)


__all__ = ["COLOURS", "GREY", "UNCLEAR", "draw_differences", "label_ends", "new_figure", "save_differences", "styled"]
