"""Figures of cost, transformers, distributions, the loss around a net, and the proxy."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from snt_core.paper.looks import COLOURS, DASHES, MARKERS, PAPER, lines
from snt_core.paper.recipes import BACKBONES, LABELS
from snt_core.runs.kinds.pca import SHARE

CONTENDERS = {"adam": "ADAM", "sam": "SAM", "snt": "SNT", "snt_eager": "SNT, eager"}


def step_times(frame: pd.DataFrame) -> Figure:
    """Table 1 as a picture: time of a step over Adam's, a group of marks per backbone."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    ax = figure.subplots()
    backbones = list(dict.fromkeys(frame.model))
    looks = {"adam": "adam", "sam": "sam", "snt": "arch", "snt_eager": "preact"}
    for k, (contender, label) in enumerate(CONTENDERS.items()):
        rows = frame[frame.contender == contender]
        at = [backbones.index(model) + 0.16 * (k - 1.5) for model in rows.model]
        look = looks[contender]
        ax.plot(at, rows.ratio, MARKERS[look], color=COLOURS[look], ms=8, label=label)
    for limit in (1.10, 1.7, 2.3):
        ax.axhline(limit, color="0.5", lw=0.8, ls=":")
    ax.set_xticks(range(len(backbones)), [BACKBONES[model] for model in backbones])
    ax.set(ylabel="time of a step / Adam's", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=4)
    return figure


DROPS = {
    "delta_top1_weight_pruning": "50 % of weights",
    "delta_top1_token_pruning": "token pruning",
    "delta_top1_token_merging": "token merging",
    "delta_top1_quantization": "A8W8",
}


def table2(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Table 2 as a picture: lambda_max, and the points lost under four compressions.

    `ours` is `frames.table2`; `paper` is indexed by quantity, a column per approach.
    """
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 3))
    for ax, names, sign in ((left, ["lambda_max"], 1), (right, list(DROPS), -1)):
        for i, name in enumerate(names):
            for k, approach in enumerate(("adam", "sam")):
                at = i + 0.24 * (k - 0.5)
                seen = ours[(ours.quantity == name) & (ours.approach == approach)].value
                ax.plot(at - 0.05, sign * paper.loc[name, approach], **PAPER)
                look = {"color": COLOURS[approach], "ms": 8}
                ax.plot([at + 0.05] * len(seen), sign * seen, MARKERS[approach], **look)
        ax.grid(axis="x", visible=False)
    left.set_yscale("log")
    left.set_xticks([0], [r"$\lambda_{\max}$"])
    left.set_xlim(-0.6, 0.6)
    right.set_yscale("symlog", linthresh=1)
    right.set_xticks(range(len(DROPS)), list(DROPS.values()))
    right.set_ylabel("points of top-1 lost (symlog)")
    right.plot([], [], label="paper", **PAPER)
    for approach in ("adam", "sam"):
        right.plot([], [], MARKERS[approach], color=COLOURS[approach], label=LABELS[approach])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def tokens(frame: pd.DataFrame, targets: dict[str, float]) -> Figure:
    """Accuracy lost over measured speed-up, for token pruning and token merging."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {"prune": "token pruning", "merge": "token merging"}
    for ax, (method, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for (approach, _), net in frame[frame.method == method].groupby(["approach", "seed"]):
            look = {"color": COLOURS[approach], "marker": MARKERS[approach], "ms": 5}
            net = net.sort_values("speedup")
            ax.plot(net.speedup, net["drop"], DASHES[approach], label=LABELS[approach], **look)
        ax.axvline(targets[method], color="0.5", lw=0.8, ls=":")
        ax.set(title=title, xlabel="measured speed-up", ylabel="drop (points)")
        ax.legend()
    return figure


def spectra(frame: pd.DataFrame) -> Figure:
    """Figure 1: cumulative explained variance over the share of components, FFN and QKV."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    titles = {"ffn": "feed-forward", "qkv": "query, key, value"}
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (part, title) in zip(axes, titles.items(), strict=True):
        lines(ax, frame[frame.part == part], "components", "explained", mark=False)
        ax.axvline(SHARE, color="0.5", lw=0.8, ls=":")
        ax.set(title=title, xlabel="components / width", ylabel="explained variance", ylim=(0, 1))
        ax.label_outer()
    return figure


def channels(frame: pd.DataFrame) -> Figure:
    """Figure 2: lowest and highest value of every channel, in the block with the widest one."""
    first = frame.drop_duplicates("approach").set_index("approach")
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, approach in zip(axes, ("adam", "sam"), strict=True):
        if approach not in first.index:  # diverged
            continue
        row = first.loc[approach]
        at = np.arange(len(row.low))
        ax.vlines(at, row.low, row.high, color=COLOURS[approach], lw=max(0.4, 200 / len(at)))
        ax.set(title=f"{LABELS[approach]}, {row.block}", xlabel="channel", ylabel="range")
        ax.label_outer()
    return figure


def codes(frame: pd.DataFrame) -> Figure:
    """Figure 3, the distributions: share of each 4-bit code, of weights and of activations."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, part in zip(axes, ("weights", "activations"), strict=True):
        for approach in ("adam", "arch", "sam"):
            rows = frame[(frame.part == part) & (frame.approach == approach)]
            if rows.empty:  # diverged
                continue
            share = np.mean(np.stack(list(rows.histogram)), axis=0)
            label = f"{LABELS[approach]}, {rows.entropy.mean():.2f} bits"
            look = {"color": COLOURS[approach], "ls": DASHES[approach]}
            ax.stairs(share, np.arange(len(share) + 1) - 0.5, label=label, lw=1.8, **look)
        ax.set(title=part, xlabel="code, in rising order", ylabel="share")
        ax.legend()
    return figure


def surfaces(frame: pd.DataFrame) -> Figure:
    """Figure 3, the sketch measured: loss around each net on one scale of colours."""
    first = frame.drop_duplicates("approach").set_index("approach")
    order = [a for a in ("adam", "arch", "sam") if a in first.index]
    figure = Figure(figsize=(9.5, 3.3), layout="constrained")
    losses = np.stack([np.asarray(first.loc[a].losses) for a in order])
    levels = np.geomspace(max(losses.min(), 1e-3), losses.max(), 16)
    axes = figure.subplots(1, len(order), sharey=True)
    for ax, approach, loss in zip(axes, order, losses, strict=True):
        row = first.loc[approach]
        norm = mpl.colors.LogNorm(levels[0], levels[-1])
        look = {"levels": levels, "norm": norm, "cmap": "viridis"}
        shown = ax.contourf(row.alphas, row.betas, loss.T.clip(levels[0]), **look)
        ax.set(title=LABELS[approach], xlabel="first direction", ylabel="second direction")
        ax.label_outer()
    figure.colorbar(shown, ax=axes, label="loss (nats)", format="%.2g")
    return figure


def density(frame: pd.DataFrame) -> Figure:
    """Spectral density of the Hessian: a smoothed histogram of Ritz values, both axes symlog."""
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    ax = figure.subplots()
    span = max(frame.largest.max(), -frame.smallest.min(), 1.0)
    grid = np.linspace(frame.smallest.min() - 0.05 * span, 1.05 * span, 800)
    for approach, rows in frame.groupby("approach"):
        curve = np.mean(
            [_smooth(r.nodes, r.weights, grid, span / 100) for r in rows.itertuples()], 0
        )
        look = {"color": COLOURS[approach], "ls": DASHES[approach]}
        ax.plot(grid, curve, label=LABELS[approach], **look)
    ax.set(xlabel="eigenvalue", ylabel="density", yscale="log", ylim=(1e-7, None))
    ax.set_xscale("symlog", linthresh=span / 50)
    ax.legend()
    return figure


def _smooth(nodes: list, weights: list, grid: np.ndarray, width: float) -> np.ndarray:
    """Mean over probes, which may have ended at different lengths, of a Gaussian for each node."""
    curves = []
    for places, shares in zip(nodes, weights, strict=True):
        bells = np.exp(-0.5 * ((grid - np.asarray(places)[:, None]) / width) ** 2)
        curves.append(np.asarray(shares) @ bells / (width * np.sqrt(2 * np.pi)))
    return np.mean(curves, axis=0)


def proxy(frame: pd.DataFrame) -> Figure:
    """Accuracy lost over lambda_max: a mark per net and compression, a panel per compression."""
    if frame.empty:
        figure = Figure(figsize=(6, 0.6))
        figure.text(0.5, 0.5, r"no net whose $\lambda_{\max}$ converged", ha="center", va="center")
        return figure
    kinds = sorted(set(frame.compression))
    rows = -(-len(kinds) // 3)
    figure = Figure(figsize=(9.5, 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False).ravel()
    for ax, kind in zip(axes, kinds, strict=False):
        for approach, part in frame[frame.compression == kind].groupby("approach"):
            ax.plot(part.lambda_max, part["drop"], MARKERS[approach], color=COLOURS[approach])
        ax.set(title=kind, xscale="log", xlabel=r"$\lambda_{\max}$", ylabel="drop (points)")
    for ax in axes[len(kinds) :]:
        ax.set_axis_off()
    for approach in dict.fromkeys(frame.approach):
        look = {"color": COLOURS[approach], "label": LABELS[approach]}
        axes[0].plot([], [], MARKERS[approach], **look)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
