"""Figure 3: distributions before and after SNT, the loss around the nets, its spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.methods.curvature.smoothing import smooth
from snt_core.paper.effects import Effect, difference
from snt_core.paper.evidence import Assertion, frame, of
from snt_core.paper.looks import (
    COLOURS,
    DASHES,
    canvas,
    described,
    or_absent,
    panels,
    plain_symlog,
    values,
)
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
    figure, axes = panels(2, height=3.6)
    for ax, part in zip(axes, ("weights", "activations"), strict=True):
        for approach in ORDER:
            rows = table[(table.part == part) & (table.approach == approach)]
            if rows.empty:  # diverged
                continue
            share = np.mean(np.stack(list(rows.histogram)), axis=0)
            label = f"{LABELS[approach]}, {rows.entropy.mean():.2f} bits"
            look = {"color": COLOURS[approach], "ls": DASHES[approach]}
            ax.stairs(share, np.arange(len(share) + 1) - 0.5, label=label, lw=1.8, **look)
        ax.set(title=part, xlabel="code, in rising order", ylabel="share", xticks=range(0, 16, 3))
        ax.legend()
    even = (
        f"{part}: {values(table[table.part == part], 'entropy')}"
        for part in ("weights", "activations")
    )
    return described(
        figure,
        f"Two step histograms of how often each 4-bit code occurs. Mean entropy in bits, "
        f"{'; '.join(even)}.",
    )


def surfaces(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net: the loss on a plane through its weights, and at its middle."""
    rows = frame(records, "surface")
    middle = [float(np.asarray(loss)[len(loss) // 2, len(loss) // 2]) for loss in rows.losses]
    return rows.assign(middle=middle)


MOST = 100.0  # nats: beyond it a net is broken, and how far says nothing about its minimum


@or_absent
def surface_figure(surfaces: pd.DataFrame) -> Figure:
    """Draw the loss around each net (first seed) on one scale of colours, up to `MOST`."""
    from matplotlib.colors import LogNorm

    first = surfaces.drop_duplicates("approach").set_index("approach")
    order = [a for a in ORDER if a in first.index]
    losses = np.stack([np.asarray(first.loc[a].losses) for a in order])
    top = min(losses.max(), MOST)
    levels = np.geomspace(max(losses.min(), 1e-3), top, 16)
    look: dict[str, Any] = {"norm": LogNorm(levels[0], levels[-1]), "cmap": "viridis"}
    figure, axes = panels(len(order), width=9.5, height=3.3, sharey=True)
    for ax, approach, loss in zip(axes, order, losses, strict=True):
        row = first.loc[approach]
        inside = loss.T.clip(levels[0])
        shown = ax.contourf(row.alphas, row.betas, inside, levels=levels, extend="max", **look)
        ax.set(title=LABELS[approach], xlabel="first direction", ylabel="second direction")
    ticks = [t for t in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if levels[0] <= t <= top]
    bar = figure.colorbar(shown, ax=axes, label="loss (nats)", ticks=ticks, format="%g")
    bar.minorticks_off()
    return described(
        figure,
        "Contour maps of the training loss around each net in two random directions, on one "
        f"logarithmic scale of colours. Loss at the net itself, in nats: "
        f"{values(first.loc[order].reset_index(), 'middle')}.",
    )


@or_absent
def spectrum_figure(traces: pd.DataFrame) -> Figure:
    """Draw the Hessian's spectral density: Ritz values smoothed, both axes nearly logarithmic."""
    figure = canvas(7.5, 3.8)
    ax = figure.subplots()
    span = max(traces.largest.max(), -traces.smallest.min(), 1.0)
    grid = np.linspace(traces.smallest.min() - 0.05 * span, 1.05 * span, 800)
    highest = 0.0
    for approach, rows in traces.groupby("approach"):
        curves = [smooth(r.nodes, r.weights, grid, span / 100) for r in rows.itertuples()]
        look = {"color": COLOURS[approach], "ls": DASHES[approach]}
        density = np.mean(curves, 0)
        ax.plot(grid, density, label=LABELS[approach], **look)
        highest = max(highest, density.max())
    ax.set(xlabel="eigenvalue", ylabel="density", yscale="log", ylim=(1e-7, 5 * highest))
    plain_symlog(ax.xaxis, 10.0 ** np.floor(np.log10(span / 20)))
    ax.legend()
    return described(
        figure,
        "Line chart of the spectral density of the Hessian: a tall peak at zero and a thin tail. "
        f"It ends at {values(traces, 'largest')}; the trace is {values(traces, 'trace')}.",
    )


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
