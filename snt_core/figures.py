"""DataFrame -> matplotlib figure. No numbers are computed here beyond means for display."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snt_core.experiments import LABELS

# Colour-blind safe (Okabe and Ito) and told apart by marker and dash as well.
COLOURS = {"adam": "#0072B2", "sam": "#D55E00", "preact": "#CC79A7", "arch": "#009E73"}
MARKERS = {"adam": "o", "sam": "s", "preact": "^", "arch": "D"}
DASHES = {"adam": "-", "sam": "--", "preact": ":", "arch": "-."}


def style() -> None:
    """The book's look: SVG, white ground, text as text."""
    sns.set_theme(context="notebook", style="whitegrid")
    mpl.rcParams.update({"svg.fonttype": "none", "figure.dpi": 100, "font.size": 11})
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    set_matplotlib_formats("svg", facecolor="white", bbox_inches="tight")


def against_paper(
    ours: pd.DataFrame, paper: pd.DataFrame, order: Sequence[str], *, weight_bits: int = 4
) -> Figure:
    """lambda_max (log scale) and top-1 of each approach, the paper's beside ours.

    Both frames have the columns lambda_max and top1; `ours` one row per approach and seed with
    `approach` as a column, `paper` is indexed by approach.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    quantities = (
        ("lambda_max", r"$\lambda_{\max}$ (log scale)"),
        ("top1", f"W{weight_bits} top-1 (%)"),
    )
    for ax, (column, label) in zip(axes, quantities, strict=True):
        for i, approach in enumerate(order):
            if approach in paper.index:
                value = paper.loc[approach, column]
                ax.plot(i - 0.14, value, "x", ms=9, mew=2, color="0.35")
            seeds = ours.loc[ours.approach == approach, column]
            place = [i + 0.14] * len(seeds)
            ax.plot(place, seeds, MARKERS[approach], ms=8, color=COLOURS[approach])
        ax.set_xticks(range(len(order)), [LABELS[a] for a in order])
        ax.set_xlim(-0.6, len(order) - 0.4)
        ax.set_ylabel(label)
        ax.grid(axis="x", visible=False)
    axes[0].set_yscale("log")
    axes[0].plot([], [], "x", ms=9, mew=2, color="0.35", label="paper")
    axes[0].plot([], [], "o", ms=8, color="0.6", label="ours, one mark a seed")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def pruning(frame: pd.DataFrame) -> Figure:
    """Figure 5: test top-1, and the drop from the dense net, over sparsity."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _lines(left, frame, "sparsity", "top1")
    _lines(right, frame, "sparsity", "drop")
    left.set(xlabel="sparsity", ylabel="test top-1 (%)")
    right.set(xlabel="sparsity", ylabel="drop from the dense net (points)")
    return figure


def finetuning(frame: pd.DataFrame) -> Figure:
    """Figure 6: validation top-1 while a quantized net is fine-tuned, over its one epoch."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    ax = figure.subplots()
    _lines(ax, frame, "epoch", "val_top1")
    ax.set(xlabel="epochs of fine-tuning", ylabel="validation top-1 (%)")
    return figure


def _lines(ax: Axes, frame: pd.DataFrame, x: str, y: str) -> None:
    """Mean over seeds for each approach, and the range of the seeds behind it."""
    for approach in [a for a in LABELS if a in set(frame.approach)]:
        stats = frame[frame.approach == approach].groupby(x)[y].agg(["mean", "min", "max"])
        look = {"color": COLOURS[approach], "marker": MARKERS[approach], "ms": 5}
        ax.plot(stats.index, stats["mean"], DASHES[approach], label=LABELS[approach], **look)
        ax.fill_between(stats.index, stats["min"], stats["max"], color=look["color"], alpha=0.15)
    ax.legend()
