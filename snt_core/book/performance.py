"""Our code against peers: the benchmarks' rows, how they stand to their targets, their figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from snt_core.common.documents import read_json
from snt_core.common.errors import UserError
from snt_core.paper.looks import COLOURS, canvas, described

LIMITS = {
    "gemm_fp32_gflops": "matrix product, float32 (GFLOP/s)",
    "gemm_bf16_gflops": "matrix product, bfloat16 (GFLOP/s)",
    "copy_gb_per_s": "copy (GB/s, read and written)",
}


def benchmarks(folder: Path) -> pd.DataFrame:
    """Return a row per comparison, in the order of `targets.csv`.

    Columns: work, ours, peer, unit, ratio, runs, machine, commit, the dicts `also` and `limits`.

    Raises:
        UserError: `folder` holds no results.
    """
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("results/*.json")):
        rows += read_json(file)
    if not rows:
        raise UserError(f"no results in {folder / 'results'}; run 'make bench'")
    frame = pd.DataFrame(rows)
    order = list(dict.fromkeys(pd.read_csv(folder / "targets.csv").work))
    known = frame.work.map(lambda work: order.index(work) if work in order else len(order))
    return frame.iloc[known.argsort(kind="stable")].reset_index(drop=True)


def against_targets(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return a row per target: work, measure, measured (NaN if not run), target, met."""
    targets = pd.read_csv(folder / "targets.csv")
    rows = {
        row.work: {"ours": row.ours, "ratio": row.ratio, **row.also} for row in frame.itertuples()
    }
    measured = [rows.get(t.work, {}).get(t.measure) for t in targets.itertuples()]
    targets["measured"] = pd.to_numeric(pd.Series(measured), errors="coerce")
    less = targets.sense == "<="
    met = (targets.measured <= targets.target).where(less, targets.measured >= targets.target)
    targets["met"] = met.map({True: "yes", False: "no"}).where(targets.measured.notna(), "not run")
    targets["target"] = targets.sense + " " + targets.target.map("{:g}".format)
    return targets[["work", "measure", "measured", "target", "met"]]


def machine_limits(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what one core could do at most, median over the areas' own readings."""
    readings = pd.DataFrame(list(frame.limits)).median()
    return pd.DataFrame({"limit": [LIMITS[key] for key in readings.index], "measured": readings})


def asides(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row per number that was measured beside a comparison: work, what, measured."""
    flat = {
        row.work: pd.json_normalize(row.also, sep=", ").iloc[0]
        for row in frame.itertuples()
        if row.also
    }
    return pd.DataFrame(
        {"work": work, "what": name.replace("_", " "), "measured": value}
        for work, values in flat.items()
        for name, value in values.items()
    )


def figure(frame: pd.DataFrame) -> Figure:
    """Draw a bar for each comparison with a peer, on a logarithmic axis; 1 is as good as it."""
    rows = frame[frame.ratio.notna()].iloc[::-1]
    figure = canvas(7, 0.6 + 0.32 * len(rows))
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
    told = ", ".join(f"{row.work} {row.ratio:.2f}" for row in rows.iloc[::-1].itertuples())
    return described(figure, f"Bar chart, times as good as the peer: {told}.")
