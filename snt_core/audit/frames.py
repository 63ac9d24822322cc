"""The rows of an audit as tables, and in sentences made of them."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from snt_core.audit.measures import rises_of

if TYPE_CHECKING:
    from snt_core.audit.auditing import Audit

LOST = "lost (points)"
ROSE = "loss rose by (%)"
SCORED = ("quantize", "prune", "tokens")


def scores(audit: Audit) -> pd.DataFrame:
    """Return a row for each way to compress the whole net: accuracy, what is lost, its interval.

    The interval is of the samples: 95 %, by the normal approximation of the paired differences.
    Without classes it is the loss that is compared, and has no interval.
    """
    base = _first(audit, "float")
    rows = []
    order = sorted(audit.plan, key=lambda m: (m.name != "quantize", m.name, m.title))
    for measure in order:
        if measure.name not in SCORED or not (row := _first(audit, measure.key)):
            continue
        rows.append(
            {"setting": measure.title, "family": measure.name, **_compared(base, row, audit)}
        )
    columns = ["setting", "family", "top-1 (%)", LOST, "95 % from", "to", "loss", "speed-up"]
    found = pd.DataFrame(rows, columns=[*columns, ROSE] if rows else columns)
    return found.dropna(axis=1, how="all") if rows else found


def _compared(base: dict[str, Any], row: dict[str, Any], audit: Audit) -> dict[str, Any]:
    told = {"loss": row["loss"], "speed-up": row.get("speedup")}
    if row.get("top1") is None or base.get("top1") is None:
        rose = None
        if row["loss"] is not None and base.get("loss"):
            rose = 100 * (row["loss"] / base["loss"] - 1)
        return {**told, ROSE: rose}
    before, after = (_bits(one["correct"], audit.sizes.evaluate) for one in (base, row))
    lost = before.astype(float) - after.astype(float)
    spread = 1.96 * lost.std(ddof=1) / math.sqrt(len(lost)) if len(lost) > 1 else math.nan
    middle = lost.mean()
    return {
        **told,
        "top-1 (%)": row["top1"],
        LOST: 100 * middle,
        "95 % from": 100 * (middle - spread),
        "to": 100 * (middle + spread),
    }


def _bits(text: str, n: int) -> np.ndarray:
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(packed)[: min(n, 8 * len(packed))].astype(bool)


def _first(audit: Audit, key: str) -> dict[str, Any]:
    rows = audit.found.get(key) or [{}]
    return rows[0]


def by_name(audit: Audit, name: str) -> list[dict[str, Any]]:
    """Return all rows of one family."""
    keys = [one.key for one in audit.plan if one.name == name]
    return [row for key in keys for row in audit.found.get(key, ())]


def layers(audit: Audit) -> pd.DataFrame:
    """Return a row for each layer: what it costs at 4 bits and half pruned, and what was analysed.

    Layers come in the order of how much the loss rises with 4 bits in them alone.
    """
    sides = [("W4", rises_of(audit.found, "W4")), ("50 %", rises_of(audit.found, "50 %"))]
    base = next((r for r in audit.found.get("float", ()) if r["part"] == "layer"), {})
    tops = {
        (row["layer"], row["treatment"]): row["top1"]
        for row in by_name(audit, "layer")
        if row.get("top1") is not None
    }
    outliers = {r["layer"]: r.get("widest to median") for r in by_name(audit, "outliers")}
    entropy = {r["layer"]: r for r in by_name(audit, "entropy")}
    ranks = {r["layer"]: r["rank share"] for r in by_name(audit, "rank")}
    rows = []
    for name, count in audit.look.layers.items():
        row: dict[str, Any] = {"layer": name, "weights": count}
        for side, rises in sides:
            row[f"loss rises at {side}"] = rises.get(name)
            top = tops.get((name, side))
            lost = None if top is None or base.get("top1") is None else base["top1"] - top
            row[f"{side}: {LOST}"] = lost
        row["outliers"] = outliers.get(name)
        row["weight bits used of 4"] = entropy.get(name, {}).get("weights")
        row["activation bits used of 4"] = entropy.get(name, {}).get("activations")
        row["rank share"] = ranks.get(name)
        rows.append(row)
    found = pd.DataFrame(rows)
    if found.empty:
        return found
    found = found.sort_values(
        "loss rises at W4", ascending=False, na_position="last", kind="stable"
    )
    return found.dropna(axis=1, how="all").reset_index(drop=True)


def curvature(audit: Audit) -> pd.DataFrame:
    """Return the Hessian's numbers, each with what it is known to."""
    rows = []
    for measure in audit.plan:
        row = _first(audit, measure.key)
        if measure.name == "lambda_max" and row:
            bound = row["residual"] * abs(row["value"])
            known = f"an eigenvalue within {bound:.3g}"
            known += "" if row["converged"] else ", not settled"
            rows.append({"quantity": measure.title, "value": row["value"], "known to": known})
        if measure.name == "trace" and row:
            known = f"standard error {row['error']:.3g}, {row['probes']} probes"
            rows.append({"quantity": measure.title, "value": row["value"], "known to": known})
    found = pd.DataFrame(rows, columns=["quantity", "value", "known to"])
    return found.assign(samples=audit.sizes.curve)


def spectrum(audit: Audit) -> pd.DataFrame:
    """Return the nodes of the spectrum and their shares, a row each."""
    rows = by_name(audit, "density")
    pairs = [
        {"probe": i, "eigenvalue": node, "share": share}
        for i, row in enumerate(rows)
        for node, share in zip(row["nodes"], row["weights"])
    ]
    return pd.DataFrame(pairs, columns=["probe", "eigenvalue", "share"])


def sizes(audit: Audit) -> pd.DataFrame:
    """Return bytes of packed files, and times of a forward pass."""
    rows: list[dict[str, Any]] = []
    packed = by_name(audit, "packed")
    mix = _first(audit, next((m.key for m in audit.plan if m.name == "mix"), ""))
    if packed and mix.get("bytes"):
        packed = [*packed, {"what": "the cheapest mix", "bytes": mix["bytes"]}]
    for row in packed:
        told = {"value": f"{row['bytes']:,} bytes"}
        share = f"{row['bytes'] / packed[0]['bytes']:.0%}"
        rows.append({"what": f"packed file, {row['what']}", **told, "of the float": share})
    for row in by_name(audit, "latency"):
        rows += _times(row)
    return pd.DataFrame(rows, columns=["what", "value", "of the float"])


def _times(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one timing: a float pass alone, or float and W8A8 in one engine."""
    if "why" in row:
        return [{"what": "W8A8 was not timed", "value": row["why"], "of the float": ""}]
    samples = f"{row['batch']} sample{'s' if row['batch'] > 1 else ''}"
    if "milliseconds" in row:
        told = f"{row['milliseconds']:.3g} ms"
        what = f"forward pass of {samples}, float, torch"
        return [{"what": what, "value": told, "of the float": ""}]
    integers = f"{row['integer_products']} of {row['products']} products in integers"
    kind = f"measured, {integers}" if row["kind"] == "measured" else "simulated in floats"
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    what = f"forward pass of {samples}, {row['engine']}, {threads}"
    share = f"{row['quantized_ms'] / row['float_ms']:.0%}"
    return [
        {"what": f"{what}, float", "value": f"{row['float_ms']:.3g} ms", "of the float": ""},
        {
            "what": f"{what}, W8A8, {kind}",
            "value": f"{row['quantized_ms']:.3g} ms",
            "of the float": share,
        },
    ]


# sentences ------------------------------------------------------------------------------------


def findings(audit: Audit) -> list[str]:
    """Return what came out, a sentence each."""
    base = _first(audit, "float")
    if not base:
        return ["Nothing was measured yet: the budget was too short."]
    n = audit.sizes.evaluate
    what = "accuracy" if audit.labelled else "agreement with itself"
    loss = "that is not finite" if base["loss"] is None else f"of {base['loss']:.3g}"
    told = [f"The net has a mean loss {loss} on {n} samples."]
    if base["top1"] is not None:
        told = [f"The net's {what} is {base['top1']:.1f} % on {n} samples."]
    found = scores(audit)
    measure = LOST if LOST in found else ROSE
    unit = "points" if measure == LOST else "% more loss"
    if not found.empty and measure in found:
        known = found.dropna(subset=[measure])
        for family, name in (("quantize", "Rounding"), ("prune", "One-shot pruning")):
            part = known[known.family == family]
            if len(part):
                small = part.loc[part[measure].idxmin()]
                large = part.loc[part[measure].idxmax()]
                if small[measure] == large[measure]:
                    told.append(f"{name} costs {small[measure]:.1f} {unit} in every setting tried.")
                    continue
                told.append(
                    f"{name} costs least at {small.setting} ({small[measure]:.1f} {unit}) and most "
                    f"at {large.setting} ({large[measure]:.1f})."
                )
    told += _mix_told(audit, unit)
    table = layers(audit)
    if "loss rises at W4" in table:
        worst = table.iloc[0]
        rise = worst["loss rises at W4"]
        told.append(
            f"The layer that minds 4 bits most is {worst.layer}: alone it raises the loss by "
            f"{rise:.3g}."
            if rise > 0
            else "No layer alone raises the loss at 4 bits, as far as these samples show."
        )
    return told


def _mix_told(audit: Audit, unit: str) -> list[str]:
    mix = _first(audit, next((m.key for m in audit.plan if m.name == "mix"), ""))
    if not mix:
        return []
    asked = f"{audit.asked.lose:g} {unit}"
    if "bits" not in mix:
        return [
            f"No mix of 8 and 4 bits loses less than {asked}: 8 bits everywhere lose more already."
        ]
    held = "it held" if mix["kept"] else f"it did not hold ({mix['lost']:.1f} were lost)"
    return [
        f"The cheapest mix that loses at most {asked} has {mix['four']} of {mix['of']} layers at 4 "
        f"bits and the others at 8, {mix['bits']:.2f} bits a weight; on the {mix['n']} "
        f"sample{'s' * (mix['n'] != 1)} that it was not chosen on {held}."
    ]
