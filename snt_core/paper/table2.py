"""Records of transformers and of the analyses as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from snt_core.paper.frames.compression import of_kind, quantized, sharpness, sweeps, unpacked
from snt_core.runs.store import Record


def tokens(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net, method and setting: measured speed-up, top-1, drop in points, `correct`."""
    return pd.DataFrame(
        {
            **net,
            "method": record.spec.method,
            "setting": point["setting"],
            "speedup": point["speedup"],
            "top1": point["top1"],
            "drop": record.metrics["sweep"][0]["top1"] - point["top1"],
            "correct": unpacked(point),
        }
        for record, net in of_kind(records, "tokens")
        for point in record.metrics["sweep"]
    )


def at_speedup(records: Iterable[Record], method: str, target: float) -> pd.DataFrame:
    """A row per net at the setting where the speed-up is `target`: settings, drop, `loss`.

    All nets of one architecture run equally fast, so their measured speed-ups are pooled (mean
    over nets) and all are read at the same point, in a straight line between two settings.
    `loss` is, for each test image, right before minus right after, in [-1, 1]. Empty where no
    setting is that fast.
    """
    frame = tokens(records)
    frame = frame[frame.method == method] if len(frame) else frame
    if frame.empty:
        return frame
    speeds = frame.groupby("setting", dropna=False).speedup.mean()
    order = [None, *sorted(speeds.index.dropna(), reverse=method == "prune")]
    reached = np.maximum.accumulate([speeds[np.nan if s is None else s] for s in order])
    if reached[-1] < target:
        return pd.DataFrame()
    after = int(np.argmax(reached >= target))
    share = (target - reached[after - 1]) / (reached[after] - reached[after - 1])
    rows = []
    keys = ["data", "model", "approach", "seed"]
    for names, net in frame.groupby(keys):
        correct = {None if pd.isna(r.setting) else r.setting: r.correct for r in net.itertuples()}
        between = (1 - share) * correct[order[after - 1]] + share * correct[order[after]]
        loss = correct[None] - between
        rows.append(
            {
                **dict(zip(keys, names)),
                "settings": f"{order[after - 1] or 'none'} to {order[after]}",
                "drop": 100 * float(loss.mean()),
                "loss": loss,
            }
        )
    return pd.DataFrame(rows)


PRUNING, MERGING = 1.18, 1.90  # the speed-ups of Table 2


def table2(records: Iterable[Record]) -> pd.DataFrame:
    """Table 2: a row per quantity and net, in the paper's order; accuracy drops are negative."""
    records = list(records)
    curvature = sharpness(records)
    pruned = sweeps(records)
    dense, half = pruned[pruned.sparsity == 0], pruned[pruned.sparsity == 0.5]
    static = quantized(records).merge(dense[["approach", "seed", "top1"]], on=["approach", "seed"])
    parts = [
        ("lambda_max", curvature, curvature.lambda_max),
        ("converged_top1", dense, dense.top1),
        ("delta_top1_weight_pruning", half, -half["drop"]),
        ("delta_top1_quantization", static, static.after - static.top1),
    ]
    for method, target, name in (
        ("prune", PRUNING, "delta_top1_token_pruning"),
        ("merge", MERGING, "delta_top1_token_merging"),
    ):
        found = at_speedup(records, method, target)
        if len(found):
            parts.append((name, found, -found["drop"]))
    rows = [
        frame[["approach", "seed"]].assign(quantity=name, value=values)
        for name, frame, values in parts
    ]
    return pd.concat(rows, ignore_index=True)


def spectra(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net, part (ffn, qkv) and component: share of the width, explained variance.

    Untrained nets are there as the approach `untrained`.
    """
    rows = []
    for net, part, found in _components(records):
        curve = found["mean"]
        shares = np.arange(1, len(curve) + 1) / len(curve)
        rows.append(pd.DataFrame({**net, "part": part, "components": shares, "explained": curve}))
    return pd.concat(rows, ignore_index=True)


def ranks(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net and part: explained variance at 26 % of the width, effective rank (means)."""
    return pd.DataFrame(
        {
            **net,
            "part": part,
            "explained": float(np.mean(found["at_share"])),
            "effective_rank": float(np.mean(found["effective_rank"])),
        }
        for net, part, found in _components(records)
    )


def _components(records: Iterable[Record]) -> Iterator[tuple[dict[str, Any], str, dict]]:
    """Each part of each net; the net before training is all approaches' and comes once a seed."""
    seen = set()
    for record, net in of_kind(records, "pca"):
        for part, found in record.metrics["trained"].items():
            yield net, part, found
        if net["seed"] not in seen:
            seen.add(net["seed"])
            for part, found in record.metrics["untrained"].items():
                yield {**net, "approach": "untrained"}, part, found


def channels(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net: the largest widest-to-median ratio of any block, and that block's channels."""
    return pd.DataFrame(
        {
            **net,
            "ratio": max(record.metrics["ratios"]),
            "kurtosis": max(record.metrics["kurtosis"]),
            "block": record.metrics["worst"],
            "low": record.metrics["low"],
            "high": record.metrics["high"],
        }
        for record, net in of_kind(records, "channels")
    )


def entropies(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net and part (weights, activations): mean entropy in bits, shares of the codes."""
    return pd.DataFrame(
        {**net, "part": part, "entropy": found["mean"], "histogram": found["histogram"]}
        for record, net in of_kind(records, "entropy")
        for part, found in record.metrics.items()
    )


def traces(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net: Hessian trace with its standard error, largest Ritz value, nodes, weights."""
    return pd.DataFrame(
        {
            **net,
            "trace": record.metrics["trace"],
            "error": record.metrics["trace_error"],
            "largest": max(map(max, record.metrics["nodes"])),  # probes may differ in length
            "smallest": min(map(min, record.metrics["nodes"])),
            "nodes": record.metrics["nodes"],
            "weights": record.metrics["weights"],
        }
        for record, net in of_kind(records, "density")
    )


def surfaces(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net: the grid of its loss slice."""
    return pd.DataFrame(
        {**net, **{key: record.metrics[key] for key in ("alphas", "betas", "losses")}}
        for record, net in of_kind(records, "surface")
    )


def step_times(records: Iterable[Record]) -> pd.DataFrame:
    """A row per backbone and contender: median seconds, the quotient to Adam's, memory in MB.

    `rounds` are the seconds of each round, in the same order for all contenders of a run.
    """
    return pd.DataFrame(
        {
            **net,
            "contender": name,
            "seconds": found["median"],
            "ratio": found["median"] / record.metrics["steps"]["adam"]["median"],
            "memory_mb": found["memory_mb"],
            "rounds": found["seconds"],
            "fused": record.provenance["fused"],
        }
        for record, net in of_kind(records, "step_time")
        for name, found in record.metrics["steps"].items()
    )


def beside_paper(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """`table2` of ours, mean over seeds, beside the paper's: a row per quantity."""
    means = ours.pivot_table(index="quantity", columns="approach", values="value")
    rows = paper.join(means.add_suffix(" ours"), how="inner")
    names = {"adam": "ADAM (paper)", "sam": "SAM (paper)", "adam ours": "ADAM", "sam ours": "SAM"}
    return rows.rename(columns=names).reset_index()
