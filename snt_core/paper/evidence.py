"""Records as tables, and how an assertion of the paper asks for its evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from snt_core.paper.statistics import Interval
from snt_core.runs.kinds import spec_class
from snt_core.runs.record import ABOUT, Record
from snt_core.runs.spec import Spec

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


# assertions ----------------------------------------------------------------------------------

Reads = Callable[[Spec], bool]


class Untestable(Exception):
    """The records do not let the assertion be tested; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """How one assertion of a claim is tested. What it says stands in `data/paper/claims.yml`.

    Attributes:
        effect: from records to the quantity, its interval and the number of seeds.
        reads: the runs that it needs. A seed counts where each of them has its record.
        approaches: whose runs; empty for all.
        part: the options of the artefact that name the part it belongs to.
        allowed: where the whole interval must lie. Above zero: a sign.
        log: the quantity is the logarithm of a quotient, which is what readers are shown.
        trained: training varies it, so that one seed settles nothing.
        whole: a seed counts only with all runs; else whatever is there is taken.
    """

    effect: Callable[[Sequence[Record]], Interval]
    reads: Reads
    approaches: tuple[str, ...] = ()
    part: Mapping[str, str] = field(default_factory=dict)
    allowed: tuple[float, float] = (0.0, math.inf)
    log: bool = False
    trained: bool = True
    whole: bool = True

    def speaks_of(self, spec: Spec) -> bool:
        """Whether the run is one that the assertion needs."""
        return self.reads(spec) and (not self.approaches or spec.net.approach in self.approaches)


def of(*kinds: str, **fields: Any) -> Reads:
    """Return whether a run is of one of `kinds` and has the given fields where it has them."""
    return lambda spec: (
        spec.kind in kinds and all(getattr(spec, k, v) == v for k, v in fields.items())
    )


def either(*reads: Reads) -> Reads:
    """Return whether a run is read by any of `reads`."""
    return lambda spec: any(read(spec) for read in reads)
