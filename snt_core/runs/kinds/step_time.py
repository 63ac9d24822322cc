"""What a training step costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from snt_core.common.checks import one_of, within
from snt_core.data.facts import FACTS
from snt_core.nets import MODELS
from snt_core.runs.shapes import Shape, fields, many, mapping, number
from snt_core.runs.spec import Context, Metrics, Net, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class StepTimeSpec(Net):
    """Seconds and memory of a step of Adam, SAM and SNT, alternating in one process.

    `rounds` steps of each are timed; `fused` runs the one-pass kernels that trainings use, where
    the machine can compile; the eager contenders do without.
    """

    kind: ClassVar[str] = "step_time"
    schema: ClassVar[int] = 4
    columns: ClassVar[tuple[str, ...]] = (
        "contender",
        "seconds",
        "ratio",
        "memory_mb",
        "rounds",
        "processes",
    )
    shape: ClassVar[Shape] = fields(
        steps=mapping(
            fields(
                seconds=many(number(0), least=1),
                median=number(0),
                memory_mb=many(number(), least=1),
            )
        )
    )
    timed: ClassVar[bool] = True

    batch_size: int
    rounds: int
    fused: bool
    variant: str = "base"
    seed: int = 0

    def check(self) -> None:
        one_of("data set", self.data, FACTS)
        one_of("model", self.model, MODELS)
        within("rounds", self.rounds, 1, 10_000)

    @property
    def approach(self) -> str:
        return "adam"

    def work(self) -> float:
        return float(6 * self.rounds * self.batch_size)

    def perform(self, context: Context) -> Outcome:
        """Time each contender's steps in turn; memory is the growth of processes of their own."""
        from snt_core.training.step_time import measure

        data = context.data()
        fused = self.fused and context.engine.fused
        found = measure(self, data, context.engine, fused=fused, progress=context.progress)
        return Outcome(
            metrics=found,
            n_samples=self.rounds * self.batch_size,
            dtype=context.engine.dtype,
            fused=fused,
        )

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {f"{row['contender']} / adam": row["ratio"] for row in _rows(metrics)}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return a row per contender: median seconds, the quotient to Adam's, median memory in MB.

        Eager is compared with eager. `rounds` are the seconds of each round, `processes` the MB of
        each process, in the same order for all contenders.
        """
        return _rows(metrics)


def _rows(metrics: Metrics) -> list[Row]:
    steps = metrics["steps"]
    return [
        {
            "contender": name,
            "seconds": found["median"],
            "ratio": found["median"] / steps[baseline(name, steps)]["median"],
            "memory_mb": statistics.median(found["memory_mb"]),
            "rounds": found["seconds"],
            "processes": found["memory_mb"],
        }
        for name, found in steps.items()
    ]


def baseline(contender: str, measured: Iterable[str]) -> str:
    """Return the contender that another is compared with: Adam, of plain operators if it is."""
    return "adam_eager" if contender.endswith("eager") and "adam_eager" in measured else "adam"
