"""Intervals for means over test images and seeds, and for rank correlations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

K = TypeVar("K")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and the number of seeds behind it.

    Where one seed gives no interval, `low` and `high` are NaN.
    """

    mean: float
    low: float
    high: float
    seeds: int


def bootstrap(per_seed: Sequence[np.ndarray], *, resamples: int = 4000, seed: int = 0) -> Interval:
    """Return the interval of a mean over test images, averaged over seeds.

    Args:
        per_seed: for each seed the values of the test images (`N`, the same images for all
            seeds), such as the difference of two nets' `correct` times 100.

    Images are drawn with replacement, the same draw for every seed, and so are seeds. Since a
    bootstrap over two or three seeds is too narrow, the interval of Student's t over the seeds'
    means is taken where that is wider. One seed gives an interval over test images alone.
    Raises ValueError without a seed.
    """
    if not len(per_seed):
        raise ValueError("no seed to take an interval over")
    values = np.stack([np.asarray(v, dtype=float) for v in per_seed])  # S N
    rng = np.random.default_rng(seed)
    # Drawing N columns with replacement is one multinomial draw over the distinct columns.
    columns, counts = np.unique(values, axis=1, return_counts=True)
    n = values.shape[1]
    means = rng.multinomial(n, counts / n, size=resamples) @ columns.T / n  # R S
    drawn = rng.integers(len(values), size=means.shape)
    spread = np.take_along_axis(means, drawn, axis=1).mean(axis=1)
    low, high = np.percentile(spread, [2.5, 97.5])
    mean = float(values.mean())
    if len(values) > 1:
        t_low, t_high = _student(values.mean(axis=1))
        low, high = min(low, t_low), max(high, t_high)
    return Interval(mean, float(low), float(high), len(values))


def over_seeds(values: Sequence[float]) -> Interval:
    """Return Student's t interval of the mean of one number a seed; none with one seed.

    Raises ValueError without a seed.
    """
    if not len(values):
        raise ValueError("no seed to take an interval over")
    mean = float(np.mean(values))
    low, high = _student(np.asarray(values, dtype=float)) if len(values) > 1 else (np.nan,) * 2
    return Interval(mean, float(low), float(high), len(values))


def _student(values: np.ndarray) -> tuple[float, float]:
    from scipy.special import stdtrit  # not at the top: the command line starts without it

    half = stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def median(values: np.ndarray, seeds: int, *, resamples: int = 4000, seed: int = 0) -> Interval:
    """Return a median with its bootstrap interval, such as of quotients paired by round."""
    rng = np.random.default_rng(seed)
    drawn = np.median(rng.choice(values, (resamples, len(values))), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(np.median(values)), float(low), float(high), seeds)


def standard_error(found: Interval) -> float:
    """Return the standard error that Student's t would need to give the interval of a mean."""
    from scipy.special import stdtrit

    return float((found.high - found.low) / 2 / stdtrit(found.seeds - 1, 0.975))


def p_value(found: Interval, allowed: tuple[float, float], *, fixed: bool = False) -> float:
    """Return the two-sided p of a mean, against the nearest limit of what is allowed.

    Reckoned back from the interval: half of it on the side of the limit is the critical value of
    Student's t (of the normal distribution where `fixed`, with no training behind it) times the
    standard error. So p < 0.05 exactly where the interval does not hold the limit.
    """
    from scipy.stats import norm, t

    limit = min((end for end in allowed if math.isfinite(end)), key=lambda e: abs(e - found.mean))
    half = found.mean - found.low if found.mean > limit else found.high - found.mean
    if not half > 0:  # one number, measured once, as memory is: it has no error to speak of
        return math.nan
    law = norm if fixed or found.seeds < 2 else t(found.seeds - 1)
    return float(2 * law.sf(abs(found.mean - limit) / half * law.ppf(0.975)))


def holm(p_values: Mapping[K, float], level: float = 0.05) -> set[K]:
    """Return the tests that Holm's step-down procedure rejects, at `level` for all together.

    Holm, 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    kept: set[K] = set()
    for i, (key, p) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        if p > level / (len(p_values) - i):
            break
        kept.add(key)
    return kept


def rank_correlation(
    strata: Mapping[str, Mapping[str, tuple[float, float]]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return Spearman's rho within strata, pooled, with a bootstrap over nets.

    Args:
        strata: for each stratum (such as a compression), net -> (x, y). Ranks are taken within
            each stratum, since levels of different strata cannot be compared.

    One net appears in many strata, so nets are drawn, not points. `seeds` is the number of nets.
    NaN where all x or all y are equal. Raises ValueError when fewer than four nets are there.
    """
    nets = sorted({net for points in strata.values() for net in points})
    if len(nets) < 4:
        raise ValueError(f"{len(nets)} nets are too few for a rank correlation; at least 4")
    rng = np.random.default_rng(seed)
    draws = rng.choice(len(nets), (resamples, len(nets)))
    (rho,) = _pooled(strata, nets, np.arange(len(nets))[None])
    if np.isnan(rho):
        return Interval(float(rho), float(rho), float(rho), len(nets))
    low, high = np.nanpercentile(_pooled(strata, nets, draws), [2.5, 97.5])
    return Interval(float(rho), float(low), float(high), len(nets))


def _pooled(
    strata: Mapping[str, Mapping[str, tuple[float, float]]], nets: Sequence[str], draws: np.ndarray
) -> np.ndarray:
    """Pearson correlation of ranks that are centred within each stratum, for each row of `draws`.

    `draws` (R N) are indices of nets. NaN if all x or all y are equal.
    """
    from scipy.stats import rankdata  # a second to import, and few ask for ranks

    products = np.zeros((3, len(draws)))  # xx, yy, xy
    for points in strata.values():
        values = np.array([points.get(net, (np.nan, np.nan)) for net in nets])[draws]  # R N 2
        ranks = rankdata(values, axis=1, nan_policy="omit")
        count = np.isfinite(ranks).sum(axis=1, keepdims=True)
        x, y = np.nan_to_num((ranks - (count + 1) / 2) / count.clip(1)).transpose(2, 0, 1)
        products += [(x * x).sum(1), (y * y).sum(1), (x * y).sum(1)]
    xx, yy, xy = products
    spread = np.sqrt(xx * yy)
    return np.divide(xy, spread, out=np.full_like(xy, np.nan), where=spread > 0)
