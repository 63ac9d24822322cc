"""What a fault is, and what it may cost: nothing lost, nothing wrong, nothing blocked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tally:
    """How often a stored file was damaged, and what came of it.

    Attributes:
        lost: the same command did not make good what was damaged, or something else was gone.
        wrong: what was damaged was used as if it were whole.
    """

    tries: int
    lost: int
    wrong: int


@dataclass(frozen=True)
class Fault:
    """A named fault. `inject(folder, tries)` tries it so often in an empty folder of its own."""

    name: str
    inject: Callable[[Path, int], Tally]


@dataclass
class Row:
    """A line of the table: how often a fault was tried and what came of it.

    Attributes:
        lost: finished work that was gone.
        wrong: results or words that were not as they should be.
        blocked: what could not go on afterwards.
    """

    fault: str
    tries: int = 0
    lost: int = 0
    wrong: int = 0
    blocked: int = 0

    @property
    def harmless(self) -> bool:
        """Whether the fault cost nothing."""
        return not (self.lost or self.wrong or self.blocked)


def table(rows: Iterable[tuple[Row, float]]) -> str:
    """Return rows and their seconds as a text table."""
    head = f"{'fault':<52} {'tries':>6} {'lost':>6} {'wrong':>6} {'blocked':>8} {'seconds':>8}"
    lines = [
        f"{row.fault:<52} {row.tries:>6} {row.lost:>6} {row.wrong:>6} {row.blocked:>8} "
        f"{seconds:>8.1f}"
        for row, seconds in rows
    ]
    return "\n".join([head, *lines])
