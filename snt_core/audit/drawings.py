"""The figures of an audit: what each setting costs, which layers cost it, the spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from snt_core.audit.frames import LOST, ROSE
from snt_core.paper.looks import canvas, described, or_absent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = 16  # layers that fit into a figure
FAMILIES = {"quantize": "#0072B2", "prune": "#D55E00", "tokens": "#009E73"}


@or_absent
def costs(scores: pd.DataFrame) -> Figure:
    """Draw what each setting loses, with its 95 % interval over the samples."""
    measure = LOST if LOST in scores else ROSE
    frame = scores.dropna(subset=[measure]).iloc[::-1]
    figure = canvas(8, 1.2 + 0.3 * len(frame))
    ax = figure.subplots()
    at = np.arange(len(frame))
    ax.barh(at, frame[measure], color=[FAMILIES[name] for name in frame.family], height=0.6)
    if measure == LOST:
        ends = (frame[measure] - frame["95 % from"], frame["to"] - frame[measure])
        ax.errorbar(frame[measure], at, xerr=ends, fmt="none", ecolor="0.2", lw=1, capsize=2)
    ax.set_yticks(at, labels=[_brief(name) for name in frame.setting], fontsize=8)
    ax.axvline(0, color="0.2", lw=0.8)
    ax.set_xlabel("points of top-1 lost" if measure == LOST else "percent by which the loss rose")
    told = ", ".join(f"{row.setting} {row[measure]:.1f}" for _, row in frame.iloc[::-1].iterrows())
    return described(figure, f"A bar for each setting, as long as what it loses: {told}.")


def _brief(setting: str) -> str:
    """Return a setting in few words, since a phone's figure is narrow."""
    return setting.replace(", a scale for each ", " per ").replace(", ranges by ", ", ")


@or_absent
def by_layer(layers: pd.DataFrame) -> Figure:
    """Draw how much the loss rises with one layer alone at 4 bits, or half pruned."""
    columns = [c for c in layers.columns if c.startswith("loss rises at")]
    if not columns:
        return _nothing("no layer was tried alone yet")
    frame = layers.dropna(subset=columns[:1]).head(SHOWN).iloc[::-1]
    figure = canvas(8, 1.4 + 0.36 * len(frame))
    ax = figure.subplots()
    at = np.arange(len(frame))
    for i, (column, colour) in enumerate(zip(columns, ("#0072B2", "#D55E00"))):
        name = column.removeprefix("loss rises at ")
        label = "at 4 bits" if name == "W4" else "half pruned"
        values = frame[column].clip(upper=1e6)
        ax.barh(at + 0.2 - 0.4 * i, values, height=0.36, color=colour, label=label)
    ax.set_yticks(at, labels=[_short(name) for name in frame.layer], fontsize=8)
    ax.set_xlabel("rise of the loss, in its own unit")
    ax.axvline(0, color="0.2", lw=0.8)
    ax.legend()
    first = frame.iloc[::-1].head(3)
    told = ", ".join(f"{row.layer} {row[columns[0]]:.3g}" for _, row in first.iterrows())
    return described(
        figure,
        f"Two bars a layer, the worst layers first. The loss rises most at 4 bits in {told}.",
    )


@or_absent
def density(spectrum: pd.DataFrame) -> Figure:
    """Draw the spectrum of the Hessian: nodes of Lanczos' quadrature and their shares."""
    figure = canvas(8, 3.4)
    ax = figure.subplots()
    for probe, frame in spectrum.groupby("probe"):
        frame = frame[frame.share > 1e-12]
        marker = "os^v"[int(probe) % 4]
        ax.plot(frame.eigenvalue, frame.share, marker, ms=5, label=f"probe {int(probe) + 1}")
    ax.set_yscale("log")
    ax.set_xscale("symlog", linthresh=max(1e-3, float(spectrum.eigenvalue.abs().median())))
    ax.set(xlabel="eigenvalue", ylabel="share of the spectrum")
    ax.legend()
    low, high = spectrum.eigenvalue.min(), spectrum.eigenvalue.max()
    return described(
        figure,
        f"Points of share over eigenvalue; the eigenvalues run from {low:.3g} to {high:.3g}.",
    )


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"...{name[-29:]}"


def _nothing(why: str) -> Figure:
    from snt_core.paper.looks import absent

    return absent(why)
