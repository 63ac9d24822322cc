"""Tests of the claims about cost, entropy and the proxy: Table 1, Figure 3, section 6."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from snt_core.paper import frames
from snt_core.paper.claims.findings import Finding, Untestable, chain, paired
from snt_core.paper.statistics import Interval, over_seeds, rank_correlation
from snt_core.runs.spec import root, run_id
from snt_core.runs.store import Record


def overhead(records: Sequence[Record]) -> Finding:
    """Table 1: a step of SNT takes at most 1.10 of Adam's time, one of SAM 1.7 to 2.3."""
    times = frames.step_times(records)
    ratio = times.pivot_table(index="seed", columns="contender", values="ratio")
    cheap, twice = bool((ratio["snt"] <= 1.10).all()), bool(ratio["sam"].between(1.7, 2.3).all())
    room = over_seeds(100 * (1.10 - ratio["snt"].to_numpy()))
    kernel = "a one-pass kernel" if times.fused.all() else "plain PyTorch operators"
    return Finding(
        holds=cheap and twice,
        effect=room,
        gaps=[room],
        unit="percent of Adam's step that SNT stays under 1.10 of it",
        text=(
            f"a step of SNT (Eq. (1) as {kernel}) takes {ratio['snt'].mean():.2f} of Adam's, one "
            f"of SAM {ratio['sam'].mean():.2f}"
        ),
    )


def entropy(records: Sequence[Record]) -> Finding:
    """Figure 3: codes of weights and of activations have more entropy in ARCH, in every seed."""
    frame = frames.entropies(records)
    parts = {part: paired(rows, "entropy") for part, rows in frame.groupby("part")}
    gains = {part: (by["arch"] - by["adam"]).to_numpy() for part, by in parts.items()}
    least = min(gains, key=lambda part: gains[part].mean())
    words = (
        f"{part} {chain(by.mean().to_dict(), ('adam', 'arch'), 3)}" for part, by in parts.items()
    )
    return Finding(
        holds=all((gain > 0).all() for gain in gains.values()),
        effect=over_seeds(gains[least]),
        gaps=[over_seeds(gain) for gain in gains.values()],
        unit=f"bits of entropy of 4-bit codes of {least}, ARCH above ADAM",
        text=f"mean entropy of 4-bit codes in bits: {'; '.join(words)}",
    )


def proxy(records: Sequence[Record]) -> Finding:
    """Section 6: the sharper the net, the more accuracy it loses, whatever the compression."""
    frame = frames.points(records)
    strata: dict[str, dict[str, tuple[float, float]]] = {}
    for row in frame.itertuples():
        stratum = strata.setdefault(f"{row.data}, {row.compression}", {})
        stratum[f"{row.data} {row.approach} {row.seed}"] = (row.lambda_max, row.drop)
    try:
        found = rank_correlation(strata)
    except ValueError as error:
        raise Untestable(str(error)) from error
    if not np.isfinite(found.mean):
        raise Untestable("all drops or all eigenvalues are equal")
    seeds = frame.seed.nunique()
    left_out = len({run_id(root(r.spec)) for r in records}) - found.seeds
    without = f"; {left_out} left out, diverged or without a settled lambda_max" if left_out else ""
    return Finding(
        holds=found.mean > 0,
        effect=Interval(found.mean, found.low, found.high, seeds),
        gaps=[Interval(found.mean, found.low, found.high, seeds)],
        unit="Spearman's rho of lambda_max and accuracy drop",
        text=f"{found.seeds} nets, {len(strata)} compressions, {len(frame)} points; ranks are "
        f"taken within each compression and data set{without}",
    )
