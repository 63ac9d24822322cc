"""Bootstrap intervals for differences of accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, and the number of seeds behind it."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def bootstrap(per_seed: Sequence[np.ndarray], *, resamples: int = 4000, seed: int = 0) -> Interval:
    """Interval of a mean over test images, averaged over seeds.

    Args:
        per_seed: for each seed the values of its test images (`N`), such as the difference of
            two nets' `correct` times 100.

    Seeds are drawn with replacement, and within each drawn seed its images; one seed therefore
    gives an interval over test images alone. Raises ValueError without a seed.
    """
    if not per_seed:
        raise ValueError("no seed to take an interval over")
    rng = np.random.default_rng(seed)
    means = np.stack([_resampled_means(values, resamples, rng) for values in per_seed])
    drawn = rng.integers(len(per_seed), size=means.shape)
    low, high = np.percentile(np.take_along_axis(means, drawn, axis=0).mean(axis=0), [2.5, 97.5])
    mean = float(np.mean([values.mean() for values in per_seed]))
    return Interval(mean, float(low), float(high), len(per_seed))


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    # Drawing n values with replacement is one multinomial draw over the distinct values.
    distinct, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    n = counts.sum()
    return rng.multinomial(n, counts / n, size=resamples) @ distinct / n
