"""What a fault is, and what it may cost: nothing wrong, and nothing lost that was finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tally:
    """How often a fault was tried, and what came of it.

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


def table(rows: dict[str, tuple[Tally, float]]) -> str:
    """Return tallies and their seconds, by the name of the fault, as a text table."""
    head = f"{'fault':<44} {'tries':>6} {'lost':>6} {'wrong':>6} {'seconds':>8}"
    lines = [
        f"{name:<44} {one.tries:>6} {one.lost:>6} {one.wrong:>6} {seconds:>8.1f}"
        for name, (one, seconds) in rows.items()
    ]
    return "\n".join([head, *lines])
