"""Figures of quantization and pruning."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from snt_core.paper.looks import COLOURS, MARKERS, PAPER, lines
from snt_core.paper.recipes import LABELS


def against_paper(
    ours: pd.DataFrame, paper: pd.DataFrame, order: Sequence[str], *, what: str = "W4"
) -> Figure:
    """lambda_max (log scale) and top-1 of each approach, the paper's beside ours.

    Both frames have the columns lambda_max and top1; `ours` one row per approach and seed with
    `approach` as a column, `paper` is indexed by approach; `what` names the quantization.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    quantities = (
        ("lambda_max", r"$\lambda_{\max}$ (log scale)"),
        ("top1", f"{what} top-1 (%)"),
    )
    for ax, (column, label) in zip(axes, quantities, strict=True):
        for i, approach in enumerate(order):
            if approach in paper.index:
                value = paper.loc[approach, column]
                ax.plot(i - 0.14, value, **PAPER)
            seeds = ours.loc[ours.approach == approach, column]
            place = [i + 0.14] * len(seeds)
            ax.plot(place, seeds, MARKERS[approach], ms=8, color=COLOURS[approach])
        ax.set_xticks(range(len(order)), [LABELS[a] for a in order])
        ax.set_xlim(-0.6, len(order) - 0.4)
        ax.set_ylabel(label)
        ax.grid(axis="x", visible=False)
    axes[0].set_yscale("log")
    axes[0].plot([], [], label="paper", **PAPER)
    axes[0].plot([], [], "o", ms=8, color="0.6", label="ours, one mark a seed")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def pruning(frame: pd.DataFrame) -> Figure:
    """Figure 5: test top-1, and the drop from the dense net, over sparsity."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    lines(left, frame, "sparsity", "top1")
    lines(right, frame, "sparsity", "drop")
    left.set(xlabel="sparsity", ylabel="test top-1 (%)")
    right.set(xlabel="sparsity", ylabel="drop from the dense net (points)")
    return figure


def finetuning(frame: pd.DataFrame) -> Figure:
    """Figure 6: validation top-1 while a quantized net is fine-tuned, over its one epoch."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    ax = figure.subplots()
    lines(ax, frame, "epoch", "val_top1")
    ax.set(xlabel="epochs of fine-tuning", ylabel="validation top-1 (%)")
    return figure


def augmentation(frame: pd.DataFrame) -> Figure:
    """Figure 7: drop over sparsity for nets trained with crops and flips, and without."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for ax, (augment, title) in zip(
        figure.subplots(1, 2, sharey=True),
        (("crop-flip", "with augmentation"), ("none", "without")),
        strict=True,
    ):
        lines(ax, frame[frame.augment == augment], "sparsity", "drop")
        ax.set(xlabel="sparsity", ylabel="drop from the dense net (points)", title=title)
        ax.label_outer()
    return figure


def sensitivity(frame: pd.DataFrame, columns: dict[str, str]) -> Figure:
    """A row of dots per setting, a panel per column; `frame` has `setting` and `approach`."""
    figure = Figure(figsize=(9, 0.9 + 0.34 * frame.setting.nunique()), layout="constrained")
    places = {setting: i for i, setting in enumerate(dict.fromkeys(frame.setting))}
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, (column, label) in zip(panels, columns.items(), strict=True):
        for approach, rows in frame.groupby("approach", sort=False):
            look = {"color": COLOURS.get(approach, "0.35"), "marker": MARKERS.get(approach, "v")}
            at = rows.setting.map(places)
            ax.plot(rows[column], at, ls="", label=LABELS[approach], ms=7, **look)
        ax.set(xlabel=label, xscale="log" if column == "lambda_max" else "linear")
        ax.set_yticks(list(places.values()), list(places))
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure
