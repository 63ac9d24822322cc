"""Weight-only quantization after training, with an epoch of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from snt_core.common.checks import LATER, one_of, within
from snt_core.runs.kinds import _finetune
from snt_core.runs.shapes import Shape
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row
from snt_core.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class PTQSpec(Measurement):
    """Weight-only post-training quantization, then fine-tuning with straight-through gradients.

    `curve_points` is how often validation accuracy is read while fine-tuning. `clipping` and
    `edge_bits` (0 for `weight_bits`) are those of `compress.quantize`.
    """

    kind: ClassVar[str] = "ptq"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = _finetune.COLUMNS
    shape: ClassVar[Shape] = _finetune.SHAPE

    weight_bits: int
    per_channel: bool = False
    finetune: Recipe
    curve_points: int = 20
    seed: int = 0
    clipping: Literal["max", "mse"] = field(default="max", metadata=LATER)
    edge_bits: int = field(default=0, metadata=LATER)

    def check(self) -> None:
        within("weight_bits", self.weight_bits, 2, 8)
        one_of("clipping", self.clipping, ("max", "mse"))
        if self.edge_bits:
            within("edge_bits", self.edge_bits, 2, 8)

    def work(self) -> float:
        return self.net.training_images(self.finetune.epochs)

    def perform(self, context: Context) -> Outcome:
        """Read the test set before and after fine-tuning, and the curve between."""
        from snt_core.methods.compress.quantize import fake_quantize_weights

        student = fake_quantize_weights(
            context.net(),
            self.weight_bits,
            per_channel=self.per_channel,
            clipping=self.clipping,
            edge_bits=self.edge_bits or None,
        )
        return _finetune.perform(student, context, self.finetune, self.seed, self.curve_points)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return _finetune.headline(metrics)

    def rows(self, metrics: Metrics) -> list[Row]:
        return _finetune.rows(self, metrics)

    curve_columns: ClassVar[tuple[str, ...]] = (
        "weight_bits",
        "per_channel",
        "step",
        "epoch",
        "val_top1",
    )

    def curve(self, metrics: Metrics) -> list[Row]:
        """Return a row per reading while fine-tuning: step, epoch, validation top-1 (percent)."""
        setting = {"weight_bits": self.weight_bits, "per_channel": self.per_channel}
        keys = ("step", "epoch", "val_top1")
        return [setting | {key: point[key] for key in keys} for point in metrics["curve"]]
