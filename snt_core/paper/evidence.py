"""Records as tables, and what the tests of claims share: a finding, gaps, words for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from snt_core.paper.recipes import LABELS
from snt_core.paper.statistics import Interval, bootstrap
from snt_core.runs.kinds import spec_class
from snt_core.runs.record import ABOUT, Record

if TYPE_CHECKING:
    import pandas as pd

NET = ["data", "model", "approach", "seed"]  # the columns that name a net


def frame(records: Iterable[Record], *kinds: str, table: str = "rows") -> pd.DataFrame:
    """Return the rows of the records of some kinds that ended well, kind by kind.

    Each row begins with the columns that name its net (see `Record.rows`). `table` names another
    method of the kind that returns rows, such as `curve` of ptq. The columns are there even where
    no record is.
    """
    import pandas as pd  # not at the top: the command line starts without it

    records = list(records)
    rows = [
        row
        for kind in kinds
        for record in records
        if record.spec.kind == kind and record.status == "done"
        for row in record.rows(table)
    ]
    own = [getattr(spec_class(kind), f"{table}_columns".removeprefix("rows_")) for kind in kinds]
    columns = dict.fromkeys([*ABOUT, *(name for names in own for name in names)])
    return pd.DataFrame(rows, columns=list(columns))


def means(frame: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Return the columns' means over seeds, a row for each combination of `keys`."""
    if frame.empty:  # there is no mean of columns without a number type
        return frame[[*keys, *columns]]
    return frame.groupby(keys, as_index=False)[columns].mean()


# claims' tests -------------------------------------------------------------------------------


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


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim's test with the approaches and kinds of run that it reads.

    Without `approaches` the test takes whatever runs are there and says itself when they do not do.
    `parts` are the options of the artefact under which the test is made, each by itself.
    """

    test: Callable[[Sequence[Record]], Finding]
    approaches: tuple[str, ...]
    kinds: tuple[str, ...]
    parts: tuple[dict[str, str], ...] = ({},)


def backbones(*names: str, **more: str) -> tuple[dict[str, str], ...]:
    """Return the parts of a claim about several backbones."""
    return tuple({"backbone": name, **more} for name in names)


def by_approach(frame: pd.DataFrame, column: str) -> dict[str, float]:
    """Return the mean over seeds of each approach."""
    found: dict[str, float] = frame.groupby("approach")[column].mean().to_dict()
    return found


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


def rises(values: Sequence[float]) -> bool:
    """Whether each value is above the one before it."""
    return all(a < b for a, b in pairwise(values))


def chain(values: dict[str, float], order: Sequence[str], digits: int) -> str:
    """Return approaches with their values, in `order`, as words."""
    return ", ".join(f"{LABELS[a]} {values[a]:.{digits}f}" for a in order)


def image_drops(frame: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    """Return a row per net: `drop`, for each test image the mean over `pruned` of what it lost."""
    keys = ["approach", "seed"]
    dense = frame[frame.sparsity == 0].set_index(keys).correct
    kept = pruned.groupby(keys).correct.agg(lambda c: sum(x.astype(float) for x in c) / len(c))
    return (dense.map(lambda c: c.astype(float)) - kept).rename("drop").reset_index()
