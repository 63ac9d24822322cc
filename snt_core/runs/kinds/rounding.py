"""Weights rounded, nothing trained: test accuracy over bit widths."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

from snt_core.common.checks import within
from snt_core.runs.kinds._evaluation import EVALUATED, packed, top1, unpacked
from snt_core.runs.shapes import TRUTH, Shape, count, fields, many, nothing_or
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class RoundingSpec(Measurement):
    """Test accuracy of the float net, and rounded to each of `weight_bits` by both granularities.

    One scale for a tensor, and one for each output channel.
    """

    kind: ClassVar[str] = "rounding"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        "weight_bits",
        "per_channel",
        "float",
        "top1",
        "drop",
        "correct",
        "float_correct",
    )
    shape: ClassVar[Shape] = fields(
        points=many(
            fields(weight_bits=nothing_or(count(2, 8)), per_channel=TRUTH, **EVALUATED), least=1
        )
    )

    weight_bits: tuple[int, ...] = (2, 3, 4, 8)

    def check(self) -> None:
        for bits in self.weight_bits:
            within("weight_bits", bits, 2, 8)

    def work(self) -> float:
        return float((2 * len(self.weight_bits) + 1) * self.net.test_images)

    def perform(self, context: Context) -> Outcome:
        """Read the test set at every setting, the float net first, in fp32."""
        from snt_core.methods.compress.quantize import quantize_weights
        from snt_core.training.evaluate import evaluate

        data, model = context.data(), context.net()
        settings = list(product(self.weight_bits, (False, True)))
        float_net = packed(evaluate(model, data.test, data.facts))
        points: list[dict[str, Any]] = [{"weight_bits": None, "per_channel": False, **float_net}]
        for bits, per_channel in settings:
            rounded = quantize_weights(model, bits, per_channel=per_channel)
            test = packed(evaluate(rounded, data.test, data.facts))
            points.append({"weight_bits": bits, "per_channel": per_channel, **test})
            context.progress(len(points), len(settings) + 1)
        return Outcome(metrics={"points": points}, n_samples=len(data.test))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        _, *rounded = metrics["points"]
        return {
            f"top1 at W{p['weight_bits']}{', per channel' * p['per_channel']}": top1(p)
            for p in rounded
        }

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return a row per setting: test top-1, drop from the float net, which were right."""
        float_net, *rounded = metrics["points"]
        return [
            {
                "weight_bits": point["weight_bits"],
                "per_channel": point["per_channel"],
                "float": top1(float_net),
                "top1": top1(point),
                "drop": top1(float_net) - top1(point),
                "correct": unpacked(point),
                "float_correct": unpacked(float_net),
            }
            for point in rounded
        ]
