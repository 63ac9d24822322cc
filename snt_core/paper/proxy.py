"""Section 6: lambda_max beside the accuracy that compression cost, over all other artefacts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.common.checks import all_or_one
from snt_core.paper import figure5, table2, table3, table4
from snt_core.paper.effects import Effect
from snt_core.paper.evidence import NET, Assertion, Untestable, frame
from snt_core.paper.looks import COLOURS, MARKERS, absent, described, grid, key, plain_log
from snt_core.paper.profiles import Profile
from snt_core.paper.quantized import quantized
from snt_core.paper.recipes import LABELS, lambda_max
from snt_core.paper.selection import Selection
from snt_core.paper.statistics import Interval, rank_correlation
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SPARSITIES = (0.5, 0.7)  # below little is lost, above nearly all: neither tells nets apart
TUNED = ", fine-tuned"  # ends the name of a compression that training mended
BACKBONES = (*table3.DATA, "vit")


def runs(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """Return all nets of a backbone with lambda_max, and the other artefacts' compressions."""
    seeds = list(seeds)
    specs: dict[Spec, None] = {}
    for model in all_or_one("backbone", backbone, BACKBONES):
        parts = (
            [table2.runs(profile, seeds)]
            if model == "vit"
            else [table3.runs(profile, seeds, backbone=model)]
        )
        if model == "resnet20":
            parts.append(table4.runs(profile, seeds))
        if model in figure5.PRUNED:
            parts.append(figure5.runs(profile, seeds, backbone=model, method="one-shot"))
        for spec in [spec for part in parts for spec in part]:
            specs.setdefault(spec)
            if spec.leaves_weights:
                specs.setdefault(lambda_max(profile, spec.net))
    return list(specs)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and compression: lambda_max beside the accuracy it lost (points).

    `compression` names what was done: rounding, one-shot pruning and fewer tokens without training,
    and rounding with the training that mends it. Nets whose lambda_max did not converge are left
    out.
    """
    import pandas as pd

    records = list(records)
    curvature = frame(records, "lambda_max")
    found = [part for part in (_pruned(records), _rounded(records), _faster(records)) if len(part)]
    if not found or curvature.empty:
        return pd.DataFrame(columns=[*NET, "compression", "drop", "lambda_max"])
    rows = pd.concat(found)[[*NET, "compression", "drop"]].drop_duplicates()
    curvature = curvature[curvature.converged.astype(bool)]
    return rows.merge(curvature[[*NET, "lambda_max"]].drop_duplicates(NET), on=NET)


def _pruned(records: list[Record]) -> pd.DataFrame:
    rows = frame(records, "one_shot")
    if rows.empty:
        return rows
    rows = rows[rows.sparsity.isin(SPARSITIES)]
    return rows.assign(compression=rows.sparsity.map("{:.0%} pruned".format))


def _rounded(records: list[Record]) -> pd.DataFrame:
    """Right after rounding and, where there was training, after it."""
    import pandas as pd

    rows, dense = quantized(records), _dense(records)
    if rows.empty or dense.empty:
        return pd.DataFrame()
    rows = rows.merge(dense, on=NET)
    names = pd.Series([_bits(row) for row in rows.itertuples()], index=rows.index, dtype=str)
    plain = rows.assign(drop=rows.top1 - rows.before, compression=names)
    mended = rows.assign(drop=rows.top1 - rows.after, compression=names + TUNED)
    return pd.concat([plain, mended[mended.trained]])


def _dense(records: list[Record]) -> pd.DataFrame:
    """Accuracy before compression, of trainings and, for checkpoints, of sweeps."""
    import pandas as pd

    found = [frame(records, "train")]
    if len(pruned := frame(records, "one_shot")):
        found.append(pruned[pruned.sparsity == 0])
    parts = [part[[*NET, "top1"]] for part in found if len(part)]
    return pd.concat(parts).drop_duplicates(NET) if parts else pd.DataFrame()


def _faster(records: list[Record]) -> pd.DataFrame:
    """Tokens pruned and merged to the speed-ups that the paper reads."""
    import pandas as pd

    parts = [
        table2.at_speedup(records, method, target).assign(
            compression=f"tokens {method}d, {target:.2f}x"
        )
        for method, target in table2.SPEEDUPS.items()
    ]
    return pd.concat(parts)


def _bits(row: Any) -> str:
    activations = row.act_bits or "float"
    return f"W{row.weight_bits}/A{activations}" + ", per channel" * bool(row.per_channel)


def figure(table: pd.DataFrame) -> Figure:
    """Draw accuracy lost over lambda_max: a mark per net, a panel per compression."""
    if table.empty:
        return absent(r"no net whose $\lambda_{\max}$ converged")
    compressions = sorted(set(table.compression))
    figure, axes = grid(len(compressions))
    for ax, name in zip(axes, compressions, strict=True):
        for approach, part in table[table.compression == name].groupby("approach"):
            ax.plot(part.lambda_max, part["drop"], MARKERS[approach], color=COLOURS[approach])
        ax.set_title(name.replace(", ", ",\n", 1) if len(name) > 20 else name, fontsize=11)
        ax.set(xlabel=r"$\lambda_{\max}$ (log scale)", ylabel="drop (points)")
        plain_log(ax.xaxis)
    for approach in dict.fromkeys(table.approach):
        look: dict[str, Any] = {"color": COLOURS[approach], "label": LABELS[approach]}
        axes[0].plot([], [], MARKERS[approach], **look)
    key(figure, axes[0])
    ranked = {
        name: rows.lambda_max.corr(rows["drop"], method="spearman")
        for name, rows in table.groupby("compression")
        if min(rows.lambda_max.nunique(), rows["drop"].nunique()) > 1
    }
    told = ", ".join(f"{name} {rho:+.2f}" for name, rho in ranked.items())
    return described(
        figure,
        f"{len(compressions)} scatter plots of points lost over the largest Hessian eigenvalue, "
        f"one for each compression. Rank correlation: {told or 'too few nets'}.",
    )


def pooled(*selections: Selection) -> list[Record]:
    """Return the records of all backbones; where some are real, without those of smoke."""
    real = [selection for selection in selections if selection.profile.verdicts]
    return [record for selection in real or selections for record in selection.records]


MEASURES = {
    "lambda_max": "lambda_max",
    "normalised": "lambda_max, filters normalised",
    "trace": "trace",
    "adaptive": "adaptive sharpness",
}


def measures(records: Iterable[Record]) -> pd.DataFrame:
    """Return how each measure of sharpness ranks nets by what compression cost them.

    Spearman's rho within a compression and data set, pooled over those that nothing was trained
    after, with a 95 % interval over nets. All measures are taken on the same nets.
    """
    import pandas as pd

    records = list(records)
    scale_free = frame(records, "scale_free").drop_duplicates(NET)
    scale_free = scale_free[scale_free.converged.astype(bool)]
    points = table(records).merge(scale_free[[*NET, *list(MEASURES)[1:]]], on=NET)
    points = points[~points.compression.str.endswith(TUNED)]
    rows = []
    for column, name in MEASURES.items():
        try:
            found = rank_correlation(_strata(points, column))
        except ValueError:  # too few nets
            continue
        interval = f"{found.low:+.2f} to {found.high:+.2f}"
        rows.append(
            {
                "measure": name,
                "rank correlation": found.mean,
                "95 % interval": interval,
                "nets": found.seeds,
            }
        )
    return pd.DataFrame(rows)


def within_compressions(points: pd.DataFrame) -> Interval:
    """Return Spearman's rho of lambda_max and points lost over the rows of a `table`.

    Ranks are taken within a compression and data set; the 95 % interval is over nets. Raises
    ValueError for fewer than four nets.
    """
    return rank_correlation(_strata(points, "lambda_max"))


def _strata(points: pd.DataFrame, column: str) -> dict[str, dict[str, tuple[float, float]]]:
    """For each compression of a data set, a measure and the accuracy lost of each net."""
    strata: dict[str, dict[str, tuple[float, float]]] = {}
    for row in points.to_dict("records"):
        stratum = strata.setdefault(f"{row['data']}, {row['compression']}", {})
        net = f"{row['data']} {row['approach']} {row['seed']}"
        stratum[net] = (row[column], row["drop"])
    return strata


# claims --------------------------------------------------------------------------------------


def _correlation(*, tuned: bool) -> Effect:
    """Return Spearman's rho of lambda_max and accuracy lost, ranks taken within a compression.

    Of compressions that nothing was trained after, or of those that were fine-tuned.
    """

    def effect(records: Sequence[Record]) -> Interval:
        points = table(records)
        points = points[points.compression.str.endswith(TUNED) == tuned]
        try:
            found = rank_correlation(_strata(points, "lambda_max"))
        except ValueError as error:
            raise Untestable(str(error)) from error
        if not np.isfinite(found.mean):
            raise Untestable("all drops or all eigenvalues are equal")
        return replace(found, seeds=points.seed.nunique())

    return effect


def _assertion(model: str, *, tuned: bool) -> Assertion:
    return Assertion(
        effect=_correlation(tuned=tuned),
        reads=lambda spec: True,
        part={"backbone": model},
        whole=False,
    )


CLAIMS = {
    "proxy": {
        **{model: _assertion(model, tuned=False) for model in BACKBONES},
        **{f"{model}-tuned": _assertion(model, tuned=True) for model in table3.DATA},
    }
}
