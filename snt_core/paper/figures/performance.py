"""Ours against peers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from snt_core.paper.looks import COLOURS


def benchmarks(frame: pd.DataFrame) -> Figure:
    """A bar for each comparison with a peer, on a logarithmic axis; 1 is as good as the peer."""
    rows = frame[frame.ratio.notna()].iloc[::-1]
    figure = Figure(figsize=(7, 0.6 + 0.32 * len(rows)), layout="constrained")
    ax = figure.subplots()
    bars = ax.barh(rows.work, rows.ratio - 1, left=1, color=COLOURS["arch"], height=0.6)
    ax.bar_label(bars, [f"{ratio:.2f}" for ratio in rows.ratio], padding=4)
    ax.axvline(1, color="0.35", lw=1)
    ax.set_xscale("log")
    ticks = [0.5, 1, 2, 4, 8, 16]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set(xlabel="times as good as the peer", xlim=(0.7, 1.5 * max(2, rows.ratio.max())))
    ax.grid(axis="y", visible=False)
    return figure
