"""One measurement of an audit: what it is called, its settings, and rows of plain values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.common.errors import UserError
from snt_core.runs.identity import canonical, run_id
from snt_core.runs.shapes import TEXT, TRUTH, Shape, fields, many, nothing_or, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Progress, Row

CELL: Shape = {"anyOf": [number(), TEXT, TRUTH, many(number())]}
Perform = Callable[["AuditSpec", Progress], tuple[list[Row], int]]
# who measures a net that lies in this process, by the net's id
_on_bench: dict[str, Perform] = {}


@dataclass(frozen=True, kw_only=True)
class AuditSpec(Measurement):
    """The measurement `measure` of a net that a user brought, with `settings` as JSON."""

    kind: ClassVar[str] = "audit"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("measure", "settings")
    shape: ClassVar[Shape] = fields(
        rows=many({"type": "object", "additionalProperties": nothing_or(CELL)})
    )
    needs_data: ClassVar[bool] = False

    measure: str
    settings: str = "{}"

    def check(self) -> None:
        try:
            values = json.loads(self.settings)
        except ValueError:
            values = None
        if not isinstance(values, dict) or canonical(values) != self.settings:
            raise UserError(f"settings are {self.settings!r}; they must be a JSON object, spelt so")

    def work(self) -> float:
        return 1.0

    def perform(self, context: Context) -> Outcome:
        """Hand over to whoever holds the net; a record alone cannot bring it back."""
        perform = _on_bench.get(run_id(self.net))
        if perform is None:
            raise UserError(
                f"{self.measure} of {self.net.model} needs the net itself; run 'snt audit' on it"
            )
        found, n_samples = perform(self, context.progress)
        return Outcome(metrics={"rows": found}, n_samples=n_samples)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {
            f"{key} {i}": float(value)
            for i, row in enumerate(metrics["rows"])
            for key, value in row.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return the rows as they are, each with the measurement and its settings."""
        about = {"measure": self.measure, "settings": self.settings}
        return [{**about, **row} for row in metrics["rows"]]


def settings_of(**values: Any) -> str:
    """Return settings in the one spelling that a spec takes."""
    return canonical(values)


def lay_on_bench(net: Any, perform: Perform) -> None:
    """Let `perform` carry out every audit of `net` in this process."""
    _on_bench[run_id(net)] = perform
