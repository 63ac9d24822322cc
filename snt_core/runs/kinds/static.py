"""Static quantization of weights and activations after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from snt_core.runs.kinds.context import Outcome, Place, test_images, training_images
from snt_core.runs.kinds.finetune import before_and_after, tuned
from snt_core.runs.kinds.measurement import Measurement
from snt_core.runs.spec import Recipe, one_of, within


@dataclass(frozen=True, kw_only=True)
class StaticSpec(Measurement):
    """Weights and activations quantized, activation ranges fixed on `n_calibration` images.

    With `finetune` an epoch or more of straight-through training follows; without it, nothing.
    """

    kind: ClassVar[str] = "static"
    schema: ClassVar[int] = 1

    weight_bits: int
    act_bits: int
    observer: Literal["minmax", "percentile", "mse"] = "minmax"
    per_channel: bool = False
    n_calibration: int
    finetune: Recipe | None = None
    curve_points: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        within("weight_bits", self.weight_bits, 2, 8)
        within("act_bits", self.act_bits, 2, 8)
        one_of("observer", self.observer, ("minmax", "percentile", "mse"))

    def work(self) -> float:
        epochs = self.finetune.epochs if self.finetune else 0
        return training_images(self.parent, epochs, 3) + 2 * test_images(self.parent)

    def carry_out(self, place: Place) -> Outcome:
        """Test accuracy before and (if asked for) after fine-tuning."""
        from snt_core.methods.compress.activations import fake_quantize_static

        images, _, preprocess = place.sample(self, self.n_calibration)
        student = fake_quantize_static(
            place.net(self),
            images,
            weight_bits=self.weight_bits,
            act_bits=self.act_bits,
            observer=self.observer,
            per_channel=self.per_channel,
            preprocess=preprocess,
        )
        return tuned(self, student, place, evaluations=self.curve_points)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return before_and_after(metrics)
