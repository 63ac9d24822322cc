"""The look that all figures share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

from snt_core.paper.recipes import LABELS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

P = ParamSpec("P")

# Colour-blind safe (Okabe and Ito) and told apart by marker and dash as well.
COLOURS = {
    "adam": "#0072B2",
    "sam": "#D55E00",
    "preact": "#CC79A7",
    "arch": "#009E73",
    "untrained": "0.2",
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
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "snt", "figure.dpi": 100, "font.size": 11}
    )
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    set_matplotlib_formats("svg", facecolor="white", bbox_inches="tight")


# sizes and panels ----------------------------------------------------------------------------

NARROW = 4.3  # inches: what a phone shows without making letters smaller than they can be read
_narrow: ContextVar[bool] = ContextVar("narrow", default=False)


@contextmanager
def narrow() -> Iterator[None]:
    """Draw what follows for a phone: no wider than its screen, panels one below another."""
    token = _narrow.set(True)
    try:
        yield
    finally:
        _narrow.reset(token)


def canvas(width: float, height: float, *, layout: Any = "constrained") -> Figure:
    """Return an empty figure of that size in inches, tied to no window."""
    from matplotlib.figure import Figure  # not at the top: the command line starts without it

    width = min(width, NARROW) if _narrow.get() else width
    return Figure(figsize=(width, height), layout=layout)


def panels(
    count: int, *, width: float = 9, height: float = 3.8, sharey: bool = False, ratios: Any = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure of that size in inches and its panels: side by side, below one another if
    narrow.

    With `sharey` the panels have one scale, and side by side only the first names it. `ratios` are
    the panels' widths.
    """
    if _narrow.get():
        figure = canvas(width, 0.85 * height * count)
        return figure, list(figure.subplots(count, 1, sharey=sharey, squeeze=False)[:, 0])
    figure = canvas(width, height)
    axes = figure.subplots(1, count, sharey=sharey, width_ratios=ratios, squeeze=False)[0]
    for ax in axes[1:] if sharey else ():
        ax.yaxis.label.set_visible(False)
    return figure, list(axes)


def grid(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of many small panels, three in a row, or two if narrow."""
    columns = 2 if _narrow.get() else 3
    rows = -(-count // columns)
    figure = canvas(9.5, 2.7 * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def key(figure: Figure, ax: Axes, columns: int = 4) -> None:
    """Explain the marks of a panel below the whole figure."""
    handles, labels = ax.get_legend_handles_labels()
    if _narrow.get():
        columns = 2 if max(map(len, labels), default=0) < 15 else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


# what a figure says --------------------------------------------------------------------------


def described(figure: Figure, text: str) -> Figure:
    """Return the figure with what it shows in words: its alternative text, results among them."""
    figure.set_label(text)
    return figure


def values(frame: pd.DataFrame, column: str, by: str = "approach", digits: int = 3) -> str:
    """Return the means of a column in words, such as "ADAM 66.1, SAM 68.3"."""
    if frame.empty:
        return "nothing recorded"
    means = frame.groupby(by, sort=False)[column].mean()
    means = means.loc[sorted(means.index, key=list(LABELS).index)] if by == "approach" else means
    return ", ".join(f"{LABELS.get(str(k), k)} {v:.{digits}g}" for k, v in means.items())


def absent(why: str) -> Figure:
    """Return a line of text in the place of a figure that nothing was recorded for."""
    figure = canvas(6, 0.6, layout=None)
    ax = figure.add_axes((0, 0, 1, 1))  # notebooks show no figure without axes
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, ha="center", va="center")
    return described(figure, f"No figure: {why}.")


def or_absent(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Return a drawing function that says so where the table, its first argument, is empty."""

    @wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        table: Any = args[0]
        return (
            absent("nothing was recorded for this yet") if table.empty else draw(*args, **options)
        )

    return drawn


def plain_log(axis: XAxis | YAxis) -> None:
    """Make an axis logarithmic, its ticks few and plain numbers."""
    low, high = _rescaled(axis, "log")
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    _ticks(axis, [step * 10.0**e for e in range(first, last + 1) for step in steps])


def plain_symlog(axis: XAxis | YAxis, threshold: float) -> None:
    """Make an axis logarithmic beyond `threshold` on both sides, its ticks plain numbers."""
    low, high = _rescaled(axis, "symlog", linthresh=threshold)
    decades = [threshold * 10.0**e for e in range(9)]
    every = 1 + sum(threshold < d < max(high, -low) for d in decades) // 4
    _ticks(axis, [0.0, *(sign * d for d in decades[::every] for sign in (-1, 1))])


def _rescaled(axis: XAxis | YAxis, scale: str, **options: float) -> tuple[float, float]:
    """Give an axis another scale, and margins that are those of it; returns its ends."""
    name: Literal["x", "y"] = "x" if axis.axis_name == "x" else "y"
    getattr(axis.axes, f"set_{name}scale")(scale, **options)
    axis.axes.autoscale(axis=name)
    low, high = sorted(axis.get_view_interval())
    return low, high


def _ticks(axis: XAxis | YAxis, places: list[float]) -> None:
    """Put plain numbers at those of the places that are in view; at even ones if they are few."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    seen = [place for place in sorted(places) if low <= place <= high]
    if len(seen) < 3:
        seen = [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    axis.set_ticks(seen, labels=[f"{place:.6g}" for place in seen])
    axis.set_minor_locator(NullLocator())
    axis.set_view_interval(low, high, ignore=True)  # a tick does not widen it


def lines(ax: Axes, frame: pd.DataFrame, x: str, y: str, *, mark: bool = True) -> None:
    """Draw the mean over seeds for each approach, and the range of the seeds behind it."""
    for approach in [a for a in COLOURS if a in set(frame.approach)]:
        stats = frame[frame.approach == approach].groupby(x)[y].agg(["mean", "min", "max"])
        marker = MARKERS[approach] if mark else ""
        look = {"color": COLOURS[approach], "marker": marker, "ls": DASHES[approach], "ms": 5}
        ax.plot(stats.index, stats["mean"], label=LABELS[approach], **look)
        ax.fill_between(stats.index, stats["min"], stats["max"], color=look["color"], alpha=0.15)
    ax.legend()
