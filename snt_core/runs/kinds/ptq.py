"""Weight-only quantization after training, with an epoch of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.runs.kinds.context import Outcome, Place, training_images
from snt_core.runs.kinds.finetune import before_and_after, tuned
from snt_core.runs.kinds.measurement import Measurement
from snt_core.runs.spec import Recipe, within


@dataclass(frozen=True, kw_only=True)
class PTQSpec(Measurement):
    """Weight-only post-training quantization, then fine-tuning with straight-through gradients.

    `curve_points` is how often validation accuracy is read while fine-tuning.
    """

    kind: ClassVar[str] = "ptq"
    schema: ClassVar[int] = 1

    weight_bits: int
    per_channel: bool = False
    finetune: Recipe
    curve_points: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        within("weight_bits", self.weight_bits, 2, 8)

    def work(self) -> float:
        return training_images(self.parent, self.finetune.epochs)

    def carry_out(self, place: Place) -> Outcome:
        """Test accuracy before and after fine-tuning, and the curve between."""
        from snt_core.methods.compress.quantize import fake_quantize_weights

        student = fake_quantize_weights(
            place.net(self), weight_bits=self.weight_bits, per_channel=self.per_channel
        )
        return tuned(self, student, place, evaluations=self.curve_points)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return before_and_after(metrics)
