"""Quantized nets beside the paper's: what Tables 3 and 4 and Figure 6 share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.paper.effects import gap, losses
from snt_core.paper.evidence import NET, frame, means
from snt_core.paper.looks import (
    COLOURS,
    MARKERS,
    PAPER,
    described,
    key,
    panels,
    plain_log,
    values,
)
from snt_core.paper.recipes import LABELS
from snt_core.paper.statistics import Interval, bootstrap, over_seeds
from snt_core.runs.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

POINT = 1.0  # "within 1 point of one another"
KINDS = ("ptq", "static", "qat")


# tables --------------------------------------------------------------------------------------


def quantized(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per quantized net: test top-1 before and after training with the quantization.

    The columns are those of the kinds' common `rows`.
    """
    return frame(records, *KINDS)


def nets(
    records: Iterable[Record],
    *,
    kind: str = "ptq",
    weight_bits: int = 4,
    per_channel: bool = False,
) -> pd.DataFrame:
    """Return a row per net: lambda_max beside the quantized net's top1 (trained) and `correct`."""
    records = list(records)
    rows = quantized(records)
    chosen = (rows.weight_bits == weight_bits) & (rows.per_channel == per_channel)
    rows = rows[(rows.kind == kind) & chosen].drop(columns="n_samples")
    dense = frame(records, "train")[[*NET, "top1"]].rename(columns={"top1": "float_top1"})
    curvature = frame(records, "lambda_max")[[*NET, "lambda_max", "residual", "n_samples"]]
    joined = rows.rename(columns={"after": "top1"}).merge(curvature, on=NET)
    return joined.merge(dense, on=NET)


def comparison(
    ours: pd.DataFrame, theirs: pd.DataFrame, columns: dict[str, str], order: Sequence[str]
) -> pd.DataFrame:
    """Return the paper beside ours: for each quantity and approach both, n, interval, difference.

    `ours` has a row per approach and seed, `theirs` is indexed by approach; `columns` maps a column
    of both to its heading. The interval is that of `interval`.
    """
    import pandas as pd

    rows = []
    for column, heading in columns.items():
        for approach in order:
            mine = ours[ours.approach == approach]
            value, printed = mine[column].mean(), theirs[column].get(approach)
            found = interval(mine, column)
            rows.append(
                {
                    "quantity": heading,
                    "approach": approach,
                    "paper": printed,
                    "ours (mean)": value,
                    "n seeds": len(mine),
                    "95 % interval": f"{found.low:.2f} to {found.high:.2f}" if found else "",
                    "ours - paper": None if printed is None else value - printed,
                }
            )
    return pd.DataFrame(rows)


def eigenvalues(records: Iterable[Record]) -> pd.DataFrame:
    """Return how good each lambda_max is: an eigenvalue lies within residual x lambda_max of it."""
    columns = ["approach", "seed", "lambda_max", "residual", "products", "converged", "n_samples"]
    return frame(records, "lambda_max")[columns]


def summary(records: Iterable[Record]) -> pd.DataFrame:
    """Return top-1 in float, right after rounding and after fine-tuning, and what each step lost.

    In percent and points, mean over seeds.
    """
    records = list(records)
    dense = means(frame(records, "train"), ["approach"], ["top1"])
    keys = ["weight_bits", "act_bits", "per_channel", "approach"]
    rows = means(quantized(records), keys, ["before", "after"]).merge(dense, on="approach")
    rows["act_bits"] = rows.act_bits.map(lambda bits: bits or "float")
    rows = rows.rename(columns={"top1": "float"})
    lost = {"lost before": rows["float"] - rows.before, "lost after": rows["float"] - rows.after}
    return rows[[*keys, "float", "before", "after"]].assign(**lost)


def retained(records: Iterable[Record]) -> pd.DataFrame:
    """Return how many points less than ADAM each approach loses, before and after fine-tuning.

    A row per quantization and approach, with 95 % intervals over seeds and test images. The control
    of the float net, trained on as long, is what any net gains from the epoch.
    """
    import pandas as pd

    records = list(records)
    rows = []
    for when, column in (("before fine-tuning", "before_correct"), ("after", "correct")):
        lost = losses(records, column)
        for setting, part in lost.groupby(["weight_bits", "act_bits", "per_channel"]):
            there = set(part.approach)
            for approach in [a for a in LABELS if a in there and a != "adam" and "adam" in there]:
                both = part[part.approach.isin(("adam", approach))]
                if both.groupby("seed").approach.nunique().max() < 2:
                    continue  # no seed has the two of them
                found = gap(part, "adam", approach, "loss")
                rows.append(
                    {
                        **dict(zip(("weight_bits", "act_bits", "per_channel"), setting)),
                        "approach": approach,
                        "when": when,
                        "points less lost than ADAM": found.mean,
                        "95 % interval": f"{found.low:+.2f} to {found.high:+.2f}",
                        "n seeds": found.seeds,
                    }
                )
    table = pd.DataFrame(rows)
    return table.assign(act_bits=table.act_bits.map(lambda b: b or "float")) if rows else table


# figure --------------------------------------------------------------------------------------


def figure(ours: pd.DataFrame, theirs: pd.DataFrame, order: Sequence[str], *, what: str) -> Figure:
    """Draw lambda_max (log scale) and top-1 of each approach, the paper's beside ours.

    Both frames have the columns lambda_max and top1; `ours` one row per approach and seed with
    `approach` as a column, `theirs` is indexed by approach; `what` names the quantization.
    """
    figure, axes = panels(2, height=3.6)
    quantities = (("lambda_max", r"$\lambda_{\max}$ (log scale)"), ("top1", f"{what} top-1 (%)"))
    for ax, (column, label) in zip(axes, quantities, strict=True):
        for i, approach in enumerate(order):
            if approach in theirs.index:
                ax.plot(i - 0.14, theirs.loc[approach, column], **PAPER)
            mine = ours[ours.approach == approach]
            look: dict[str, Any] = {"color": COLOURS[approach]}
            ax.plot([i + 0.14] * len(mine), mine[column], MARKERS[approach], ms=8, **look)
            if (found := interval(mine, column)) is not None:
                ax.vlines(i + 0.28, found.low, found.high, lw=2, **look)
        ax.set_xticks(range(len(order)), [LABELS[a] for a in order])
        ax.set_xlim(-0.6, len(order) - 0.4)
        ax.set_ylabel(label)
        ax.grid(axis="x", visible=False)
    plain_log(axes[0].yaxis)
    axes[0].plot([], [], label="paper", **PAPER)
    axes[0].plot([], [], "o", ms=8, color="0.4", label="ours, one mark a seed")
    axes[0].plot([], [], lw=2, color="0.4", label="95 % interval of the mean")
    key(figure, axes[0], columns=3)
    return described(
        figure,
        f"Two dot plots. Largest Hessian eigenvalue: {values(ours, 'lambda_max')}; in the paper "
        f"{_printed(theirs, 'lambda_max', order)}. Top-1 at {what}, percent: "
        f"{values(ours, 'top1', digits=4)}; in the paper {_printed(theirs, 'top1', order)}.",
    )


def interval(net: pd.DataFrame, column: str) -> Interval | None:
    """Return the 95 % interval of one approach's mean, `net` having a row a seed.

    For "top1" over test images and seeds; for lambda_max over seeds, by its logarithm. None where
    nothing says how far it may be off: one eigenvalue alone.
    """
    if column == "top1" and len(net):
        return bootstrap([100.0 * correct for correct in net.correct])
    if len(net) < 2:
        return None
    found = over_seeds(np.log(net[column].to_numpy(float)))
    mean, low, high = (float(np.exp(end)) for end in (found.mean, found.low, found.high))
    return Interval(mean, low, high, found.seeds)


def _printed(theirs: pd.DataFrame, column: str, order: Sequence[str]) -> str:
    return ", ".join(f"{LABELS[a]} {theirs.loc[a, column]:g}" for a in order if a in theirs.index)
