"""Section 6, its argument: does curvature govern the rise of the loss under compression?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from snt_core.paper.evidence import NET, frame
from snt_core.paper.looks import COLOURS, MARKERS, described, key, or_absent, panels, plain_symlog
from snt_core.paper.recipes import LABELS
from snt_core.runs.record import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and compression: the rise of the loss, and two predictions of it.

    `predicted` is of second order along the very step that compression takes; `bound` puts
    lambda_max in the place of the curvature along it.
    """
    records = list(records)
    rises, curvature = frame(records, "rise"), frame(records, "lambda_max")
    curvature = curvature[[*NET, "lambda_max"]].drop_duplicates(NET)
    rows = rises.drop_duplicates([*NET, "compression"]).merge(curvature, on=NET)
    return rows.assign(bound=rows.slope + rows.lambda_max * rows.squared_length / 2)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each compression, how well the predictions rank nets and how large they are."""
    import pandas as pd

    return pd.DataFrame(
        {
            "compression": name,
            "nets": len(rows),
            "rise (median, nats)": rows.rise.median(),
            "predicted / rise": (rows.predicted / rows.rise).median(),
            "with lambda_max / rise": (rows.bound / rows.rise).median(),
            "rank correlation, predicted": rows.rise.corr(rows.predicted, method="spearman"),
            "rank correlation, with lambda_max": rows.rise.corr(rows.bound, method="spearman"),
        }
        for name, rows in table.groupby("compression", sort=False)
    )


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw the rise of the loss over both predictions of it, a mark per net and compression."""
    labels = {
        "predicted": "predicted along the step (nats)",
        "bound": r"with $\lambda_{\max}$ for the curvature (nats)",
    }
    figure, axes = panels(2, sharey=True)
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        for approach, rows in table.groupby("approach"):
            look: dict[str, Any] = {
                "color": COLOURS[approach],
                "label": LABELS[approach],
                "ls": "",
                "ms": 5,
            }
            ax.plot(rows[column], rows.rise, MARKERS[approach], **look)
        ends = [min(table.rise.min(), 0.0), table.rise.max()]
        ax.plot(ends, ends, color="0.5", lw=0.8, ls=":")
        plain_symlog(ax.xaxis, 0.01)
        plain_symlog(ax.yaxis, 0.01)
        ax.set(xlabel=label, ylabel="rise of the loss (nats)")
    key(figure, axes[0])
    found = summary(table)
    along, bound = (
        ", ".join(
            f"{row.compression} {row[f'rank correlation, {c}']:+.2f}" for _, row in found.iterrows()
        )
        for c in ("predicted", "with lambda_max")
    )
    return described(
        figure,
        "Two scatter plots on logarithmic axes of the rise of the loss over its prediction. Rank "
        f"correlation along the step: {along}; with the largest eigenvalue: {bound}.",
    )
