"""What a training step costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.nets import MODELS
from snt_core.runs.kinds.context import Outcome, Place
from snt_core.runs.spec import DATA, one_of, within


@dataclass(frozen=True, kw_only=True)
class StepTimeSpec:
    """Seconds and memory of a step of Adam, SAM and SNT, alternating in one process.

    `rounds` steps of each are timed; `fused` runs the one-pass kernels that trainings use, where
    the machine can compile; one contender, SNT eager, does without.
    """

    kind: ClassVar[str] = "step_time"
    schema: ClassVar[int] = 2
    leaves_weights: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    data: str
    val_size: int
    model: str
    batch_size: int
    rounds: int
    fused: bool
    variant: str = "base"
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("data set", self.data, DATA)
        one_of("model", self.model, MODELS)
        within("rounds", self.rounds, 1, 10_000)

    @property
    def approach(self) -> str:
        return "adam"

    def work(self) -> float:
        return float(5 * self.rounds * self.batch_size)

    def carry_out(self, place: Place) -> Outcome:
        """Median step time of each contender, and the growth of memory in a process of its own."""
        from snt_core.training.step_time import measure

        data = place.data(self)
        fused = self.fused and place.engine.fused
        found = measure(self, data, place.engine, fused=fused, progress=place.progress)
        return Outcome(
            metrics=found,
            n_samples=self.rounds * self.batch_size,
            dtype=place.engine.dtype,
            fused=fused,
        )

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        adam = metrics["steps"]["adam"]["median"]
        return {f"{name} / adam": s["median"] / adam for name, s in metrics["steps"].items()}
