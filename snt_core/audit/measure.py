"""One measurement of an audit: what it is called, what it costs, how it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snt_core.audit.scene import Scene

Row = dict[str, Any]
Rows = list[Row]
Found = Mapping[str, Rows]  # rows of what is measured already, by `Measure.key`
Run = Callable[[Scene, Found], tuple[Rows, int]]


@dataclass(frozen=True)
class Measure:
    """One measurement.

    Attributes:
        name: its family, such as "quantize".
        settings: what tells it from others of the family.
        title: what a reader calls it.
        cost: seconds that it is expected to take.
        run: carries it out, given what was found before; returns rows and how many samples it saw.
    """

    name: str
    settings: Mapping[str, Any]
    title: str
    cost: float
    run: Run

    @property
    def key(self) -> str:
        told = " ".join(f"{k}={v}" for k, v in self.settings.items())
        return f"{self.name} {told}".strip()
