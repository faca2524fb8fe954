"""The style of all figures: colour-blind safe colours, and text that is readable at a width of 800 pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's; yellow last, as it is faint on white.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000", "#f0e442"]
GREY = "#444444"  # edges and notes

STYLE = {
    "figure.figsize": (8, 4),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 120,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.framealpha": 0.9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
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


__all__ = ["COLOURS", "GREY", "new_figure", "styled"]
