"""lambda_max beside the accuracy that compression cost, as a table."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from snt_core.paper.frames.analyses import MERGING, PRUNING, at_speedup
from snt_core.paper.frames.compression import quantized, sharpness, sweeps, trainings
from snt_core.runs.store import Record

KEYS = ["data", "model", "approach", "seed"]
SPARSITIES = (0.5, 0.7)  # below little is lost, above nearly all: neither tells nets apart


def points(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net and compression: lambda_max beside the accuracy it lost (percent points).

    `compression` names what was done: rounding, one-shot pruning and fewer tokens without training,
    and rounding with the training that mends it. Nets whose lambda_max did not converge are left
    out.
    """
    records = list(records)
    sharp = sharpness(records)
    found = [part for part in (_pruned(records), _rounded(records), _faster(records)) if len(part)]
    if not found or sharp.empty:
        return pd.DataFrame(columns=[*KEYS, "compression", "drop", "lambda_max"])
    frame = pd.concat(found)[[*KEYS, "compression", "drop"]].drop_duplicates()
    sharp = sharp[sharp.converged.astype(bool)]
    return frame.merge(sharp[[*KEYS, "lambda_max"]].drop_duplicates(KEYS), on=KEYS)


def _pruned(records: list[Record]) -> pd.DataFrame:
    frame = sweeps(records)
    if frame.empty:
        return frame
    frame = frame[frame.sparsity.isin(SPARSITIES)]
    return frame.assign(compression=frame.sparsity.map("{:.0%} pruned".format))


def _rounded(records: list[Record]) -> pd.DataFrame:
    """Right after rounding and, where there was training, after it."""
    frame, dense = quantized(records), _dense(records)
    if frame.empty or dense.empty:
        return pd.DataFrame()
    frame = frame.merge(dense, on=KEYS)
    names = frame.apply(_bits, axis=1)
    plain = frame.assign(drop=frame.top1 - frame.before, compression=names)
    mended = frame.assign(drop=frame.top1 - frame.after, compression=names + ", fine-tuned")
    return pd.concat([plain, mended[mended.trained]])


def _dense(records: list[Record]) -> pd.DataFrame:
    """Accuracy before compression, of trainings and, for checkpoints, of sweeps."""
    found = [trainings(records)]
    if len(pruned := sweeps(records)):
        found.append(pruned[pruned.sparsity == 0])
    parts = [part[[*KEYS, "top1"]] for part in found if len(part)]
    return pd.concat(parts).drop_duplicates(KEYS) if parts else pd.DataFrame()


def _faster(records: list[Record]) -> pd.DataFrame:
    """Tokens pruned and merged to the speed-ups that the paper reads."""
    parts = [
        at_speedup(records, method, target).assign(compression=f"tokens {method}d, {target:.2f}x")
        for method, target in (("prune", PRUNING), ("merge", MERGING))
    ]
    return pd.concat(parts)


def _bits(row: pd.Series) -> str:
    activations = row.act_bits or "float"
    return f"W{row.weight_bits}/A{activations}" + ", per channel" * bool(row.per_channel)
