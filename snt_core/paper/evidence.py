"""What the tests of claims share: a finding, gaps between approaches, words for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from snt_core.paper.recipes import LABELS
from snt_core.paper.statistics import Interval, bootstrap


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Outcome of a claim's test: do all signs hold, by how much, in words.

    `gaps` are the differences that must be above zero, `effect` the one that is shown.
    """

    holds: bool
    effect: Interval
    gaps: Sequence[Interval]
    unit: str
    text: str


class Untestable(Exception):
    """The records do not let the claim's test be made; the message says why."""


def means(frame: pd.DataFrame, column: str) -> dict[str, float]:
    """approach -> mean over seeds."""
    return frame.groupby("approach")[column].mean().to_dict()


def gap(frame: pd.DataFrame, better: str, worse: str, column: str = "correct") -> Interval:
    """Mean of `column` (per test image) of one approach above another's, in points."""
    by = frame.set_index(["approach", "seed"])[column]
    seeds = sorted(set(by[better].index) & set(by[worse].index))
    return bootstrap(
        [100 * (by[better, s].astype(float) - by[worse, s].astype(float)) for s in seeds]
    )


def paired(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row per seed, a column per approach."""
    return frame.pivot_table(index="seed", columns="approach", values=column)


def rises(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def chain(values: dict[str, float], order: Sequence[str], digits: int) -> str:
    return ", ".join(f"{LABELS[a]} {values[a]:.{digits}f}" for a in order)


def image_drops(frame: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    """A row per net: `drop`, for each test image the mean over `pruned` of dense minus pruned."""
    keys = ["approach", "seed"]
    dense = frame[frame.sparsity == 0].set_index(keys).correct
    kept = pruned.groupby(keys).correct.agg(lambda c: sum(x.astype(float) for x in c) / len(c))
    return (dense.map(lambda c: c.astype(float)) - kept).rename("drop").reset_index()
