"""Tests of the claims about vision transformers: Table 2, Figures 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from snt_core.paper import frames
from snt_core.paper.claims.findings import (
    Finding,
    Untestable,
    chain,
    gap,
    image_drops,
    means,
    paired,
)
from snt_core.paper.statistics import over_seeds
from snt_core.runs.store import Record

ORDER = ("adam", "sam")


def _quotient(frame: pd.DataFrame, column: str, least: float, what: str) -> Finding:
    """ADAM's `column` over SAM's, at least `least` in every seed."""
    by = paired(frame, column)
    ratios = (by["adam"] / by["sam"]).to_numpy()
    return Finding(
        holds=bool((ratios >= least).all()),
        effect=over_seeds(ratios),
        gaps=[],
        unit=f"times, {what} of ADAM over SAM's",
        text=f"{what}: {chain(means(frame, column), ORDER, 1)}; the smallest quotient of any seed "
        f"is {ratios.min():.2f}, asked for is {least:g}",
    )


def vit_lambda(records: Sequence[Record]) -> Finding:
    """Table 2: lambda_max of ADAM is at least three times SAM's, in every seed."""
    return _quotient(frames.sharpness(records), "lambda_max", 3, "lambda_max")


def _smaller_drop(losses: pd.DataFrame, column: str, what: str) -> Finding:
    """SAM loses less than ADAM; `column` is the loss of each test image."""
    drop = {
        a: 100 * float(np.mean(np.stack(list(g)))) for a, g in losses.groupby("approach")[column]
    }
    effect = gap(losses, "adam", "sam", column)
    return Finding(
        holds=effect.mean > 0,
        effect=effect,
        gaps=[effect],
        unit=f"points of drop after {what}, ADAM above SAM",
        text=f"drop after {what}: {chain(drop, ORDER, 2)} points",
    )


def vit_pruning(records: Sequence[Record]) -> Finding:
    """Table 2: one-shot pruning of half the weights costs SAM less than ADAM."""
    frame = frames.sweeps(records)
    losses = image_drops(frame, frame[frame.sparsity == 0.5])
    return _smaller_drop(losses, "drop", "pruning 50 %")


def _tokens(records: Sequence[Record], method: str, target: float, what: str) -> Finding:
    losses = frames.at_speedup(records, method, target)
    if losses.empty:
        raise Untestable(f"no setting of token {what} is {target} times as fast")
    found = _smaller_drop(losses, "loss", f"token {what} at {target}x")
    where = losses.settings.iloc[0]
    text = f"{found.text}; read between the settings {where}, both nets at the same"
    return replace(found, text=text)


def vit_token_pruning(records: Sequence[Record]) -> Finding:
    """Table 2: token pruning at 1.18x costs SAM less than ADAM."""
    return _tokens(records, "prune", frames.PRUNING, "pruning")


def vit_token_merging(records: Sequence[Record]) -> Finding:
    """Table 2: token merging at 1.90x costs SAM less than ADAM."""
    return _tokens(records, "merge", frames.MERGING, "merging")


def vit_a8w8(records: Sequence[Record]) -> Finding:
    """Table 2: static A8W8 quantization costs SAM less than ADAM."""
    dense = frames.sweeps(records)
    dense = dense[dense.sparsity == 0].set_index(["approach", "seed"]).correct
    nets = frames.quantized(records).set_index(["approach", "seed"]).correct
    losses = (dense.map(lambda c: c.astype(float)) - nets).rename("loss").reset_index()
    return _smaller_drop(losses, "loss", "A8W8 quantization")


def pca(records: Sequence[Record]) -> Finding:
    """Figure 1: at 26 % of the width SAM's FFN explains 0.10 more; QKV at least as much as FFN."""
    frame = frames.ranks(records)
    frame = frame[frame.approach.isin(ORDER)]  # without the nets before training
    ffn, qkv = (paired(frame[frame.part == part], "explained") for part in ("ffn", "qkv"))
    lead = (ffn["sam"] - ffn["adam"]).to_numpy()
    lower = bool((qkv >= ffn).all(axis=None))
    return Finding(
        holds=bool((lead >= 0.10).all()) and lower,
        effect=over_seeds(lead),
        gaps=[],
        unit="of the variance of FFN weights, SAM above ADAM",
        text=(
            f"explained at 26 % of the width: FFN {chain(ffn.mean().to_dict(), ORDER, 3)}, QKV "
            f"{chain(qkv.mean().to_dict(), ORDER, 3)}; QKV is {'' if lower else 'not '}at least "
            f"FFN for each"
        ),
    )


def outliers(records: Sequence[Record]) -> Finding:
    """Figure 2: the widest channel over the median one is 1.5 times as much in ADAM as in SAM."""
    return _quotient(frames.channels(records), "ratio", 1.5, "widest over median channel")
