"""Records of nets, quantized nets and pruned nets as tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from snt_core.paper.statistics import bootstrap
from snt_core.runs.spec import root
from snt_core.runs.store import Record


def eigenvalues(records: Iterable[Record]) -> pd.DataFrame:
    """How good each lambda_max is: a true eigenvalue lies within residual * lambda_max of it."""
    columns = ["approach", "seed", "lambda_max", "residual", "products", "converged", "n_samples"]
    return sharpness(records)[columns]


def of_kind(records: Iterable[Record], kind: str) -> Iterator[tuple[Any, dict[str, Any]]]:
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
        for record, net in of_kind(records, "train")
    )


def sharpness(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net: lambda_max, its relative residual, Hessian products used, n_samples."""
    keys = ("lambda_max", "residual", "products", "converged", "bn_mode")
    return pd.DataFrame(
        {**net, **{key: record.metrics[key] for key in keys}, "n_samples": record.n_samples}
        for record, net in of_kind(records, "lambda_max")
    )


def quantized(records: Iterable[Record]) -> pd.DataFrame:
    """A row per quantized net, of kind ptq, static or qat: test top-1 (percent) before and after
    training with the quantization (`after` is `before` where there was none, see `trained`).

    `act_bits` is 0 where activations stay in float; `correct` is the boolean vector over test
    images at the end.
    """
    rows = []
    for kind in ("ptq", "static", "qat"):
        for record, net in of_kind(records, kind):
            spec, found = record.spec, record.metrics
            end = found.get("after", found["before"])
            rows.append(
                {
                    **net,
                    "kind": kind,
                    "weight_bits": spec.weight_bits,
                    "act_bits": getattr(spec, "act_bits", 0),
                    "per_channel": getattr(spec, "per_channel", False),
                    "observer": getattr(spec, "observer", ""),
                    "before": found["before"]["top1"],
                    "after": end["top1"],
                    "trained": "after" in found,
                    "correct": unpacked(end),
                }
            )
    return pd.DataFrame(rows)


def headline(
    records: Iterable[Record],
    *,
    kind: str = "ptq",
    weight_bits: int = 4,
    per_channel: bool = False,
) -> pd.DataFrame:
    """A row per net: lambda_max beside the quantized net's top1 (after fine-tuning) and correct."""
    records = list(records)
    keys = ["data", "model", "approach", "seed"]
    rows = quantized(records)
    chosen = (rows.weight_bits == weight_bits) & (rows.per_channel == per_channel)
    rows = rows[(rows.kind == kind) & chosen]
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
    keys = ["weight_bits", "act_bits", "per_channel", "approach"]
    rows = _means(quantized(records), keys, ["before", "after"]).merge(dense, on="approach")
    rows["act_bits"] = rows.act_bits.map(lambda bits: bits or "float")
    return rows[[*keys, "top1", "before", "after"]].rename(columns={"top1": "float"})


def drops(records: Iterable[Record]) -> pd.DataFrame:
    """A row per sparsity, a column per approach: drop in points, mean over seeds."""
    frame = sweeps(records)
    table = frame.pivot_table(index="sparsity", columns="approach", values="drop")
    return table.reset_index().rename_axis(columns=None)


def at_half(frame: pd.DataFrame) -> pd.DataFrame:
    """From `sweeps`: test top-1 dense and at half sparsity, and the drop; mean over seeds."""
    keys = ["augment", "approach"]
    dense, half = frame[frame.sparsity == 0], frame[frame.sparsity == 0.5]
    rows = _means(dense, keys, ["top1"]).merge(
        _means(half, keys, ["top1", "drop"]), on=keys, suffixes=(" dense", " at 50 %")
    )
    return rows.rename(columns={"drop": "drop at 50 %"})


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
        for record, net in of_kind(records, "ptq")
        for point in record.metrics["curve"]
    )


def sweeps(records: Iterable[Record], kind: str = "one_shot") -> pd.DataFrame:
    """A row per net and sparsity: test top-1 and drop from the dense net (percent points).

    `kind` is one_shot or imp; `augment` is how the net was trained.
    """
    return pd.DataFrame(
        {
            **net,
            "sparsity": point["sparsity"],
            "top1": point["top1"],
            "drop": record.metrics["sweep"][0]["top1"] - point["top1"],
            "correct": unpacked(point),
            "augment": getattr(getattr(root(record.spec), "recipe", None), "augment", ""),
        }
        for record, net in of_kind(records, kind)
        for point in record.metrics["sweep"]
    )


def unpacked(evaluation: dict[str, Any]) -> np.ndarray:
    """Which test images an evaluation had right: bool `N`, in the data set's canonical order."""
    bits = np.frombuffer(base64.b64decode(evaluation["correct"]), np.uint8)
    return np.unpackbits(bits, count=evaluation["n"]).astype(bool)
