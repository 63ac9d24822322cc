"""The look that all figures share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from snt_core.paper.recipes import LABELS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

# Colour-blind safe (Okabe and Ito) and told apart by marker and dash as well.
COLOURS = {
    "adam": "#0072B2",
    "sam": "#D55E00",
    "preact": "#CC79A7",
    "arch": "#009E73",
    "untrained": "0.5",
}
MARKERS = {"adam": "o", "sam": "s", "preact": "^", "arch": "D", "untrained": "v"}
DASHES: dict[str, Any] = {
    "adam": "-",
    "sam": "--",
    "preact": ":",
    "arch": "-.",
    "untrained": (0, (1, 3)),
}
# the paper's own values
PAPER: dict[str, Any] = {"marker": "x", "ms": 9, "mew": 2, "color": "0.35", "ls": ""}


def style() -> None:
    """Set the book's look: SVG, white ground, text as text."""
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid")
    mpl.rcParams.update({"svg.fonttype": "none", "figure.dpi": 100, "font.size": 11})
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    set_matplotlib_formats("svg", facecolor="white", bbox_inches="tight")


def canvas(width: float, height: float, *, layout: Any = "constrained") -> Figure:
    """Return an empty figure of that size in inches, tied to no window."""
    from matplotlib.figure import Figure  # not at the top: the command line starts without it

    return Figure(figsize=(width, height), layout=layout)


def absent(why: str) -> Figure:
    """Return a line of text in the place of a figure that nothing was recorded for."""
    figure = canvas(6, 0.6, layout=None)
    ax = figure.add_axes((0, 0, 1, 1))  # notebooks show no figure without axes
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, ha="center", va="center")
    return figure


def or_absent(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Return a drawing function that says so where the table, its first argument, is empty."""

    @wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        table: Any = args[0]
        return (
            absent("nothing was recorded for this yet") if table.empty else draw(*args, **options)
        )

    return drawn


def plain_log(ax: Axes) -> None:
    """Make the horizontal axis logarithmic, its ticks few and plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_xscale("log")
    low, high = ax.get_xlim()
    steps = (1, 2, 5) if high / low > 3 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ax.xaxis.set_major_locator(LogLocator(subs=steps, numticks=6))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def lines(ax: Axes, frame: pd.DataFrame, x: str, y: str, *, mark: bool = True) -> None:
    """Draw the mean over seeds for each approach, and the range of the seeds behind it."""
    for approach in [a for a in COLOURS if a in set(frame.approach)]:
        stats = frame[frame.approach == approach].groupby(x)[y].agg(["mean", "min", "max"])
        marker = MARKERS[approach] if mark else ""
        look = {"color": COLOURS[approach], "marker": marker, "ls": DASHES[approach], "ms": 5}
        ax.plot(stats.index, stats["mean"], label=LABELS[approach], **look)
        ax.fill_between(stats.index, stats["min"], stats["max"], color=look["color"], alpha=0.15)
    ax.legend()
