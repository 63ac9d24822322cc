"""The quantities that assertions are about, each with its interval: from records to numbers.

Gaps are taken image by image and seed by seed between nets of the same seed, so that what the two
share cancels. Positive is what the paper claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.data.facts import FACTS
from snt_core.paper.evidence import NET, frame
from snt_core.paper.statistics import Interval, bootstrap, over_seeds
from snt_core.runs.record import Record

if TYPE_CHECKING:
    import pandas as pd

Effect = Callable[[Sequence[Record]], Interval]
QUANTIZED = ("ptq", "static", "qat")
ABOVE_CHANCE = 2.0  # times the accuracy of chance: under it for every net, a drop says nothing


def gap(frame: pd.DataFrame, better: str, worse: str, column: str = "correct") -> Interval:
    """Return the mean of `column` (per test image) of one approach above another's, in points."""
    by = frame.set_index(["approach", "seed"])[column]
    seeds = sorted(set(by[better].index) & set(by[worse].index))
    return bootstrap(
        [100 * (by[better, s].astype(float) - by[worse, s].astype(float)) for s in seeds]
    )


def paired(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a row per seed, a column per approach."""
    return frame.pivot_table(index="seed", columns="approach", values=column)


def difference(rows: pd.DataFrame, column: str, more: str, less: str) -> Interval:
    """Return how far one approach's number is above another's, over seeds."""
    by = paired(rows, column)
    return over_seeds((by[more] - by[less]).dropna().to_numpy())


def quotient(rows: pd.DataFrame, column: str, more: str, less: str) -> Interval:
    """Return the logarithm of one approach's number over another's, over seeds."""
    by = paired(rows, column)
    return over_seeds(np.log(by[more] / by[less]).dropna().to_numpy())


def sharper(more: str, less: str) -> Effect:
    """Return the logarithm of lambda_max of `more` over that of `less`."""
    return lambda records: quotient(frame(records, "lambda_max"), "lambda_max", more, less)


def higher(better: str, worse: str) -> Effect:
    """Return how many points of quantized top-1 `better` is above `worse`, after any training."""
    return lambda records: gap(frame(records, *QUANTIZED), better, worse)


def loses_more(more: str, less: str, when: str = "correct") -> Effect:
    """Return how many points more of its float accuracy quantization takes from `more`.

    `when` is "correct" for after any training, "before_correct" for right after rounding.
    """
    return lambda records: gap(losses(records, when), more, less, "loss")


def losses(records: Sequence[Record], when: str = "correct") -> pd.DataFrame:
    """Return a row per quantized net: `loss`, for each test image float minus quantized."""
    dense = frame(records, "train")[[*NET, "correct"]].rename(columns={"correct": "float"})
    rows = frame(records, *QUANTIZED).merge(dense, on=NET)
    pairs = zip(rows["float"], rows[when])
    return rows.assign(loss=[a.astype(float) - b.astype(float) for a, b in pairs])


def widest(order: Sequence[str]) -> Effect:
    """Return the gap between the two approaches whose quantized top-1 lies furthest apart."""

    def effect(records: Sequence[Record]) -> Interval:
        rows = frame(records, *QUANTIZED)
        top1 = rows.groupby("approach").after.mean().loc[list(order)]
        return gap(rows, str(top1.idxmax()), str(top1.idxmin()))

    return effect


def image_drops(sweep: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    """Return a row per net: `drop`, for each test image the mean over `pruned` of what it lost."""
    keys = ["approach", "seed"]
    dense = sweep[sweep.sparsity == 0].set_index(keys).correct
    kept = pruned.groupby(keys).correct.agg(_mean)
    return (dense.map(lambda c: c.astype(float)) - kept).rename("drop").reset_index()


def drops_more(
    more: str, less: str, kind: str, sparsities: tuple[float, float] = (0.0, 1.0)
) -> Effect:
    """Return how many points more `more` loses than `less`, on average over sparsities.

    Over those above the first bound and up to the second at which some net is above chance.
    """

    def effect(records: Sequence[Record]) -> Interval:
        sweep = frame(records, kind)
        low, high = sparsities
        part = above_chance(sweep[(sweep.sparsity > low + 0.01) & (sweep.sparsity < high + 0.01)])
        return gap(image_drops(sweep, part), more, less, "drop")

    return effect


def above_chance(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the sparsities at which some net has twice the accuracy of chance or more."""
    if sweep.empty:
        return sweep
    chance = 100 / FACTS[sweep.data.iloc[0]].num_classes
    best = sweep.groupby("sparsity").top1.transform("max")
    return sweep[best >= ABOVE_CHANCE * chance]


def keeps_more(better: str, worse: str, kind: str) -> Effect:
    """Return how many points of top-1 `better` is above `worse`, mean over all sparsities."""

    def effect(records: Sequence[Record]) -> Interval:
        sweep = frame(records, kind)
        kept = sweep[sweep.sparsity > 0].groupby(["approach", "seed"]).correct.agg(_mean)
        return gap(kept.reset_index(), better, worse)

    return effect


def _mean(vectors: Iterable[Any]) -> Any:
    """Mean of vectors over test images. A list, since pandas would take an array for rows."""
    found = [vector.astype(float) for vector in vectors]
    return sum(found) / len(found)
