"""Quantization-aware training with PACT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from snt_core.common.checks import LATER, one_of, within
from snt_core.runs.kinds import _finetune
from snt_core.runs.shapes import Shape
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row
from snt_core.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class QATSpec(Measurement):
    """Training goes on from the float net with quantized weights and PACT's learnable clips.

    First and last layer have `edge_bits`; `form` is that of inputs with negative values.
    """

    kind: ClassVar[str] = "qat"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = _finetune.COLUMNS
    shape: ClassVar[Shape] = _finetune.SHAPE

    weight_bits: int
    act_bits: int
    edge_bits: int = 8
    n_calibration: int
    finetune: Recipe
    seed: int = 0
    form: Literal["symmetric", "affine"] = field(default="symmetric", metadata=LATER)

    def check(self) -> None:
        for name in ("weight_bits", "act_bits", "edge_bits"):
            within(name, getattr(self, name), 2, 8)
        one_of("form", self.form, ("symmetric", "affine"))

    def work(self) -> float:
        return self.net.training_images(self.finetune.epochs)

    def perform(self, context: Context) -> Outcome:
        """Read the test set before and after the training."""
        from snt_core.methods.compress.pact import prepare_qat

        images, _, preprocess = context.sample(self.n_calibration)
        student = prepare_qat(
            context.net(),
            images,
            weight_bits=self.weight_bits,
            act_bits=self.act_bits,
            edge_bits=self.edge_bits,
            form=self.form,
            preprocess=preprocess,
        )
        return _finetune.perform(student, context, self.finetune, self.seed, self.finetune.epochs)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return _finetune.headline(metrics)

    def rows(self, metrics: Metrics) -> list[Row]:
        return _finetune.rows(self, metrics)
