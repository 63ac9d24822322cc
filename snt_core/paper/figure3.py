"""Figure 3: distributions before and after SNT, the loss around the nets, its spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from snt_core.methods.curvature.smoothing import smooth
from snt_core.paper.effects import Effect, difference
from snt_core.paper.evidence import Assertion, frame, of
from snt_core.paper.looks import COLOURS, DASHES, absent, canvas, or_absent
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import LABELS, THREE, training
from snt_core.paper.statistics import Interval
from snt_core.runs.kinds.density import DensitySpec
from snt_core.runs.kinds.entropy import EntropySpec
from snt_core.runs.kinds.surface import SurfaceSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "arch", "sam")


def runs(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Return the nets with their code entropies, loss surfaces and spectra."""
    specs: list[Spec] = []
    for seed in seeds:
        for approach in THREE:
            net = training(profile, "cifar100", approach, seed)
            specs += [
                net,
                EntropySpec(parent=net, n_samples=profile.n_images),
                SurfaceSpec(parent=net, n_samples=profile.n_surface, points=profile.surface_points),
                DensitySpec(
                    parent=net,
                    n_samples=profile.n_surface,
                    probes=profile.density_probes,
                    steps=profile.density_steps,
                ),
            ]
    return specs


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and part (weights, activations): mean entropy, shares of the codes."""
    return frame(records, "entropy")


def traces(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net: Hessian trace with its standard error, outermost Ritz values."""
    return frame(records, "density")


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw the share of each 4-bit code, of weights and of activations."""
    figure = canvas(9, 3.6)
    axes = figure.subplots(1, 2)
    for ax, part in zip(axes, ("weights", "activations"), strict=True):
        for approach in ORDER:
            rows = table[(table.part == part) & (table.approach == approach)]
            if rows.empty:  # diverged
                continue
            share = np.mean(np.stack(list(rows.histogram)), axis=0)
            label = f"{LABELS[approach]}, {rows.entropy.mean():.2f} bits"
            look = {"color": COLOURS[approach], "ls": DASHES[approach]}
            ax.stairs(share, np.arange(len(share) + 1) - 0.5, label=label, lw=1.8, **look)
        ax.set(title=part, xlabel="code, in rising order", ylabel="share")
        ax.legend()
    return figure


def surface_figure(records: Iterable[Record]) -> Figure:
    """Draw the loss around each net (first seed) on one scale of colours."""
    from matplotlib.colors import LogNorm

    first = frame(records, "surface").drop_duplicates("approach").set_index("approach")
    if first.empty:
        return absent("no loss surface was measured yet")
    order = [a for a in ORDER if a in first.index]
    figure = canvas(9.5, 3.3)
    losses = np.stack([np.asarray(first.loc[a].losses) for a in order])
    levels = np.geomspace(max(losses.min(), 1e-3), losses.max(), 16)
    axes = figure.subplots(1, len(order), sharey=True, squeeze=False)[0]
    for ax, approach, loss in zip(axes, order, losses, strict=True):
        row = first.loc[approach]
        look = {"levels": levels, "norm": LogNorm(levels[0], levels[-1]), "cmap": "viridis"}
        shown = ax.contourf(row.alphas, row.betas, loss.T.clip(levels[0]), **look)
        ax.set(title=LABELS[approach], xlabel="first direction", ylabel="second direction")
        ax.label_outer()
    figure.colorbar(shown, ax=axes, label="loss (nats)", format="%.2g")
    return figure


@or_absent
def spectrum_figure(traces: pd.DataFrame) -> Figure:
    """Draw the Hessian's spectral density: Ritz values smoothed, both axes nearly logarithmic."""
    figure = canvas(7.5, 3.8)
    ax = figure.subplots()
    span = max(traces.largest.max(), -traces.smallest.min(), 1.0)
    grid = np.linspace(traces.smallest.min() - 0.05 * span, 1.05 * span, 800)
    for approach, rows in traces.groupby("approach"):
        curves = [smooth(r.nodes, r.weights, grid, span / 100) for r in rows.itertuples()]
        look = {"color": COLOURS[approach], "ls": DASHES[approach]}
        ax.plot(grid, np.mean(curves, 0), label=LABELS[approach], **look)
    ax.set(xlabel="eigenvalue", ylabel="density", yscale="log", ylim=(1e-7, None))
    ax.set_xscale("symlog", linthresh=span / 50)
    ax.legend()
    return figure


def _evenness(part: str) -> Effect:
    def effect(records: Sequence[Record]) -> Interval:
        rows = table(records)
        return difference(rows[rows.part == part], "entropy", "arch", "adam")

    return effect


CLAIMS = {
    "entropy": {
        part: Assertion(effect=_evenness(part), reads=of("entropy"), approaches=("adam", "arch"))
        for part in ("weights", "activations")
    }
}
