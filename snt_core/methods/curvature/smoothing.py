"""A spectral density as a curve. Needs no torch, so that figures can be drawn without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def smooth(
    nodes: Sequence[Sequence[float]],
    weights: Sequence[Sequence[float]],
    grid: np.ndarray,
    sigma: float,
) -> np.ndarray:
    """Return a density on a grid: each node is widened to a Gaussian of deviation ``sigma``.

    Args:
        nodes: for each probe its Ritz values; probes may have ended at different lengths.
        weights: the share of the spectrum that each node stands for; they add up to 1 for a probe.
        grid: G values of lambda; nets to be compared need the same grid and ``sigma``.
        sigma: in units of lambda. What is narrower than it cannot be seen.

    Returns:
        G values of the mean over probes, per unit of lambda: the integral is 1.

    Raises:
        ValueError: ``sigma`` is not above 0.
    """
    if not sigma > 0:
        raise ValueError(f"sigma {sigma} must be > 0")
    curves = []
    for places, shares in zip(nodes, weights, strict=True):
        bells = np.exp(-0.5 * ((grid - np.asarray(places)[:, None]) / sigma) ** 2)  # k G
        curves.append(np.asarray(shares) @ bells / (sigma * np.sqrt(2 * np.pi)))
    density: np.ndarray = np.mean(curves, axis=0)
    return density
