"""Quantized nets beside the paper's: what Tables 3 and 4 and Figure 6 share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from snt_core.paper.evidence import (
    NET,
    Finding,
    by_approach,
    chain,
    frame,
    gap,
    means,
    rises,
)
from snt_core.paper.looks import COLOURS, MARKERS, PAPER, canvas
from snt_core.paper.recipes import LABELS
from snt_core.paper.statistics import Interval, bootstrap
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
    of both to its heading. For "top1" there is a 95 % interval over the images in `correct`.
    """
    import pandas as pd

    rows = []
    for column, heading in columns.items():
        for approach in order:
            mine = ours[ours.approach == approach]
            value, printed = mine[column].mean(), theirs[column].get(approach)
            interval = ""
            if column == "top1" and len(mine):
                found = bootstrap([100.0 * correct for correct in mine.correct])
                interval = f"{found.low:.2f} to {found.high:.2f}"
            rows.append(
                {
                    "quantity": heading,
                    "approach": approach,
                    "paper": printed,
                    "ours (mean)": value,
                    "n seeds": len(mine),
                    "95 % interval": interval,
                    "ours - paper": None if printed is None else value - printed,
                }
            )
    return pd.DataFrame(rows)


def eigenvalues(records: Iterable[Record]) -> pd.DataFrame:
    """Return how good each lambda_max is: an eigenvalue lies within residual x lambda_max of it."""
    columns = ["approach", "seed", "lambda_max", "residual", "products", "converged", "n_samples"]
    return frame(records, "lambda_max")[columns]


def summary(records: Iterable[Record]) -> pd.DataFrame:
    """Return top-1 (percent) in float, after rounding, after fine-tuning; mean over seeds."""
    records = list(records)
    dense = means(frame(records, "train"), ["approach"], ["top1"])
    keys = ["weight_bits", "act_bits", "per_channel", "approach"]
    rows = means(quantized(records), keys, ["before", "after"]).merge(dense, on="approach")
    rows["act_bits"] = rows.act_bits.map(lambda bits: bits or "float")
    return rows[[*keys, "top1", "before", "after"]].rename(columns={"top1": "float"})


# figure --------------------------------------------------------------------------------------


def figure(ours: pd.DataFrame, theirs: pd.DataFrame, order: Sequence[str], *, what: str) -> Figure:
    """Draw lambda_max (log scale) and top-1 of each approach, the paper's beside ours.

    Both frames have the columns lambda_max and top1; `ours` one row per approach and seed with
    `approach` as a column, `theirs` is indexed by approach; `what` names the quantization.
    """
    figure = canvas(9, 3.6)
    axes = figure.subplots(1, 2)
    quantities = (
        ("lambda_max", r"$\lambda_{\max}$ (log scale)"),
        ("top1", f"{what} top-1 (%)"),
    )
    for ax, (column, label) in zip(axes, quantities, strict=True):
        for i, approach in enumerate(order):
            if approach in theirs.index:
                ax.plot(i - 0.14, theirs.loc[approach, column], **PAPER)
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


# claims --------------------------------------------------------------------------------------


def per_tensor(records: Sequence[Record], kind: str) -> pd.DataFrame:
    """Return the nets that a claim speaks of: of one kind; W4 per tensor where it is ptq."""
    rows = quantized(records)
    rows = rows[(rows.kind == kind) & ~rows.per_channel.astype(bool)]
    return rows[rows.weight_bits == 4] if kind == "ptq" else rows


def ordered(records: Sequence[Record], order: Sequence[str], kind: str) -> Finding:
    """Test that lambda_max falls and quantized top-1 rises along `order`.

    The effect is ARCH above ADAM.
    """
    rows = per_tensor(records, kind)
    curvature = by_approach(frame(records, "lambda_max"), "lambda_max")
    top1 = by_approach(rows, "after")
    falling = rises([-curvature[a] for a in order])
    rising = rises([top1[a] for a in order])
    return Finding(
        holds=falling and rising,
        effect=gap(rows, "arch", "adam"),
        gaps=[gap(rows, better, worse) for worse, better in pairwise(order)],
        unit="points of quantized top-1, ARCH above ADAM",
        text=(
            f"lambda_max {'falls' if falling else 'does not fall'} along "
            f"{chain(curvature, order, 1)}; quantized top-1 "
            f"{'rises' if rising else 'does not rise'} along {chain(top1, order, 2)}"
        ),
    )


def nearness(rows: pd.DataFrame) -> tuple[float, list[Interval]]:
    """Return the largest distance between two approaches' means, and how far each pair is within
    a point."""
    top1 = by_approach(rows, "after")
    inside = []
    for one, other in (("arch", "adam"), ("sam", "adam"), ("sam", "arch")):
        better, worse = (one, other) if top1[one] >= top1[other] else (other, one)
        inside.append((-gap(rows, better, worse)).above(-POINT))
    return max(top1.values()) - min(top1.values()), inside
