"""The control of fine-tuning after quantization: the float net trained on for as long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snt_core.runs.kinds import _finetune
from snt_core.runs.kinds._evaluation import top1, unpacked
from snt_core.runs.shapes import Shape
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row
from snt_core.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ControlSpec(Measurement):
    """The float net under the recipe that a quantized one is fine-tuned by.

    Without it, what the epoch adds to any net would count as recovered from quantization.
    """

    kind: ClassVar[str] = "control"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("before", "after", "correct")
    shape: ClassVar[Shape] = _finetune.SHAPE

    finetune: Recipe
    seed: int = 0

    def work(self) -> float:
        return self.net.training_images(self.finetune.epochs)

    def perform(self, context: Context) -> Outcome:
        """Read the test set before and after the training."""
        return _finetune.perform(context.net(), context, self.finetune, self.seed, 1)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return _finetune.headline(metrics)

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: test top-1 before and after, and which images were right after."""
        before, after = metrics["before"], metrics["after"]
        return [{"before": top1(before), "after": top1(after), "correct": unpacked(after)}]
