"""How evenly the levels of quantization are used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from snt_core.common.checks import within
from snt_core.runs.shapes import SHARE, Shape, fields, many, mapping, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row

PART = fields(mean=number(0, 8), layers=mapping(number(0, 8)), histogram=many(SHARE, least=1))


@dataclass(frozen=True, kw_only=True)
class EntropySpec(Measurement):
    """Entropy, in bits, of the codes of weights and of layer inputs on training images."""

    kind: ClassVar[str] = "entropy"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("part", "entropy", "histogram")
    shape: ClassVar[Shape] = fields(weights=PART, activations=PART)

    weight_bits: int = 4
    act_bits: int = 4
    n_samples: int

    def check(self) -> None:
        within("weight_bits", self.weight_bits, 2, 8)
        within("act_bits", self.act_bits, 2, 8)

    def work(self) -> float:
        return float(self.n_samples)

    def perform(self, context: Context) -> Outcome:
        """Count the codes of all layers; the mean weighs each layer by its codes."""
        from snt_core.methods.analysis.entropy import activation_entropy, weight_entropy

        images, _, preprocess = context.sample(self.n_samples)
        model = context.net()
        parts = {
            "weights": weight_entropy(model, weight_bits=self.weight_bits),
            "activations": activation_entropy(
                model, images, act_bits=self.act_bits, preprocess=preprocess
            ),
        }
        metrics = {
            part: {
                "mean": found.mean,
                "layers": found.layers,
                "histogram": _shares(found.counts.values()),
            }
            for part, found in parts.items()
        }
        return Outcome(metrics=metrics, n_samples=len(images))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {part: found["mean"] for part, found in metrics.items()}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return a row per part (weights, activations): mean entropy in bits, shares of codes."""
        return [
            {"part": part, "entropy": found["mean"], "histogram": found["histogram"]}
            for part, found in metrics.items()
        ]


def _shares(counts: Iterable[list[int]]) -> list[float]:
    """Return how often each code occurs in all layers together."""
    sums = [sum(codes) for codes in zip(*counts, strict=True)]
    return [n / sum(sums) for n in sums]
