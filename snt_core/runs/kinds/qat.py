"""Quantization-aware training with PACT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.runs.kinds.context import Outcome, Place, training_images
from snt_core.runs.kinds.finetune import before_and_after, tuned
from snt_core.runs.kinds.measurement import Measurement
from snt_core.runs.spec import Recipe, within


@dataclass(frozen=True, kw_only=True)
class QATSpec(Measurement):
    """Training goes on from the float net with quantized weights and PACT's learnable clips.

    First and last layer have `edge_bits`.
    """

    kind: ClassVar[str] = "qat"
    schema: ClassVar[int] = 1

    weight_bits: int
    act_bits: int
    edge_bits: int = 8
    n_calibration: int
    finetune: Recipe
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits", "edge_bits"):
            within(name, getattr(self, name), 2, 8)

    def work(self) -> float:
        return training_images(self.parent, self.finetune.epochs)

    def carry_out(self, place: Place) -> Outcome:
        """Test accuracy before and after the training."""
        from snt_core.methods.compress.pact import prepare_qat

        images, _, preprocess = place.sample(self, self.n_calibration)
        student = prepare_qat(
            place.net(self),
            images,
            weight_bits=self.weight_bits,
            act_bits=self.act_bits,
            edge_bits=self.edge_bits,
            preprocess=preprocess,
        )
        return tuned(self, student, place, evaluations=self.finetune.epochs)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return before_and_after(metrics)
