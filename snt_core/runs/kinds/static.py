"""Static quantization of weights and activations after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from snt_core.common.checks import one_of, within
from snt_core.runs.kinds import _finetune
from snt_core.runs.kinds._evaluation import EVALUATION
from snt_core.runs.shapes import Shape, fields
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row
from snt_core.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class StaticSpec(Measurement):
    """Weights and activations quantized, activation ranges fixed on `n_calibration` images.

    With `finetune` an epoch or more of straight-through training follows; without it, nothing.
    """

    kind: ClassVar[str] = "static"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = _finetune.COLUMNS
    shape: ClassVar[Shape] = fields(_finetune.TRAINED, before=EVALUATION)

    weight_bits: int
    act_bits: int
    observer: Literal["minmax", "percentile", "mse"] = "minmax"
    per_channel: bool = False
    n_calibration: int
    finetune: Recipe | None = None
    curve_points: int = 5
    seed: int = 0

    def check(self) -> None:
        within("weight_bits", self.weight_bits, 2, 8)
        within("act_bits", self.act_bits, 2, 8)
        one_of("observer", self.observer, ("minmax", "percentile", "mse"))

    def work(self) -> float:
        epochs = self.finetune.epochs if self.finetune else 0
        return self.net.training_images(epochs, 3) + 2 * self.net.test_images

    def perform(self, context: Context) -> Outcome:
        """Read the test set before and (if asked for) after fine-tuning."""
        from snt_core.methods.compress.activations import fake_quantize_static

        images, _, preprocess = context.sample(self.n_calibration)
        student = fake_quantize_static(
            context.net(),
            images,
            weight_bits=self.weight_bits,
            act_bits=self.act_bits,
            observer=self.observer,
            per_channel=self.per_channel,
            preprocess=preprocess,
        )
        return _finetune.perform(student, context, self.finetune, self.seed, self.curve_points)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return _finetune.headline(metrics)

    def rows(self, metrics: Metrics) -> list[Row]:
        return _finetune.rows(self, metrics)
