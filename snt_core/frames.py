"""Records as tables, one row per number that a figure or a claim reads."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from snt_core.intervals import bootstrap
from snt_core.specs import root
from snt_core.store import Record


def eigenvalues(records: Iterable[Record]) -> pd.DataFrame:
    """How good each lambda_max is: a true eigenvalue lies within residual * lambda_max of it."""
    columns = ["approach", "seed", "lambda_max", "residual", "products", "converged", "n_samples"]
    return sharpness(records)[columns]


def _done(records: Iterable[Record], kind: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Records of a kind that ended well, each with the columns that name its net."""
    for record in records:
        if record.spec.kind == kind and record.status == "done":
            net = root(record.spec)
            yield (
                record,
                {
                    "id": record.id,
                    "profile": record.profile,
                    "data": net.data,
                    "model": net.model,
                    "approach": net.approach,
                    "seed": net.seed,
                },
            )


def trainings(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net: test top-1 (percent) in float, parameters, seconds."""
    return pd.DataFrame(
        {
            **net,
            "top1": record.metrics["test"]["top1"],
            "parameters": record.metrics["parameters"],
            "seconds": record.provenance["seconds"],
        }
        for record, net in _done(records, "train")
    )


def sharpness(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net: lambda_max, its relative residual, Hessian products used, n_samples."""
    keys = ("lambda_max", "residual", "products", "converged", "bn_mode")
    return pd.DataFrame(
        {**net, **{key: record.metrics[key] for key in keys}, "n_samples": record.n_samples}
        for record, net in _done(records, "lambda_max")
    )


def quantized(records: Iterable[Record]) -> pd.DataFrame:
    """A row per quantized net: test top-1 (percent) before and after fine-tuning.

    `correct` is the boolean vector over test images after fine-tuning.
    """
    return pd.DataFrame(
        {
            **net,
            "weight_bits": record.spec.weight_bits,
            "per_channel": record.spec.per_channel,
            "before": record.metrics["before"]["top1"],
            "after": record.metrics["after"]["top1"],
            "correct": unpacked(record.metrics["after"]),
        }
        for record, net in _done(records, "ptq")
    )


def headline(
    records: Iterable[Record], *, weight_bits: int = 4, per_channel: bool = False
) -> pd.DataFrame:
    """A row per net: lambda_max beside the quantized net's top1 (after fine-tuning) and correct."""
    records = list(records)
    keys = ["data", "model", "approach", "seed"]
    rows = quantized(records)
    rows = rows[(rows.weight_bits == weight_bits) & (rows.per_channel == per_channel)]
    dense = trainings(records)[[*keys, "top1"]].rename(columns={"top1": "float_top1"})
    curvature = sharpness(records)[[*keys, "lambda_max", "residual", "n_samples"]]
    joined = rows.rename(columns={"after": "top1"}).merge(curvature, on=keys)
    return joined.merge(dense, on=keys)


def comparison(
    ours: pd.DataFrame, theirs: pd.DataFrame, columns: dict[str, str], order: Sequence[str]
) -> pd.DataFrame:
    """Paper beside ours: for each quantity and approach both values, n, interval, difference.

    `ours` has a row per approach and seed, `theirs` is indexed by approach; `columns` maps a column
    of both to its heading. For "top1" there is a 95 % interval over the images in `correct`.
    """
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


def quantization_summary(records: Iterable[Record]) -> pd.DataFrame:
    """Top-1 (percent) in float, after rounding, after fine-tuning; mean over seeds."""
    records = list(records)
    dense = _means(trainings(records), ["approach"], ["top1"])
    keys = ["weight_bits", "per_channel", "approach"]
    rows = _means(quantized(records), keys, ["before", "after"]).merge(dense, on="approach")
    return rows[[*keys, "top1", "before", "after"]].rename(columns={"top1": "float"})


def drops(records: Iterable[Record]) -> pd.DataFrame:
    """A row per sparsity, a column per approach: drop in points, mean over seeds."""
    frame = sweeps(records)
    table = frame.pivot_table(index="sparsity", columns="approach", values="drop")
    return table.reset_index().rename_axis(columns=None)


def _means(frame: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    return frame.groupby(keys, as_index=False)[columns].mean()


def curves(records: Iterable[Record]) -> pd.DataFrame:
    """A row per reading while fine-tuning: step, epoch, validation top-1 (percent)."""
    return pd.DataFrame(
        {
            **net,
            "weight_bits": record.spec.weight_bits,
            "per_channel": record.spec.per_channel,
            **{key: point[key] for key in ("step", "epoch", "val_top1")},
        }
        for record, net in _done(records, "ptq")
        for point in record.metrics["curve"]
    )


def sweeps(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net and sparsity: test top-1 and drop from the dense net (percent points)."""
    return pd.DataFrame(
        {
            **net,
            "sparsity": point["sparsity"],
            "top1": point["top1"],
            "drop": record.metrics["sweep"][0]["top1"] - point["top1"],
            "correct": unpacked(point),
        }
        for record, net in _done(records, "one_shot")
        for point in record.metrics["sweep"]
    )


def unpacked(evaluation: dict[str, Any]) -> np.ndarray:
    """Which test images an evaluation had right: bool `N`, in the data set's canonical order."""
    bits = np.frombuffer(base64.b64decode(evaluation["correct"]), np.uint8)
    return np.unpackbits(bits, count=evaluation["n"]).astype(bool)
