"""Intervals for means over test images and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and the number of seeds behind it."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def is_positive(self) -> bool:
        """Whether it is above zero beyond doubt: with one seed nothing is."""
        return self.seeds > 1 and self.low > 0


def bootstrap(per_seed: Sequence[np.ndarray], *, resamples: int = 4000, seed: int = 0) -> Interval:
    """Interval of a mean over test images, averaged over seeds.

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
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values.mean(axis=1))
        low, high = min(low, mean - half), max(high, mean + half)
    return Interval(mean, float(low), float(high), len(values))
