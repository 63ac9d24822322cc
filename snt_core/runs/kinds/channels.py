"""Outliers among a transformer's activation channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.runs.shapes import TEXT, Shape, fields, many, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class ChannelsSpec(Measurement):
    """Range and kurtosis of every channel after each block, on the first test images."""

    kind: ClassVar[str] = "channels"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("ratio", "kurtosis", "block", "low", "high")
    shape: ClassVar[Shape] = fields(
        ratios=many(number(0), least=1),
        kurtosis=many(number(0), least=1),
        worst=TEXT,
        low=many(number(), least=1),
        high=many(number(), least=1),
    )

    n_samples: int

    def work(self) -> float:
        return float(self.n_samples)

    def perform(self, context: Context) -> Outcome:
        """Find each block's widest-to-median ratio, and keep the channels of the worst block."""
        from snt_core.data.split import normalise
        from snt_core.methods.analysis.channels import channel_ranges, widest_to_median

        data = context.data()
        images = data.test.tensors(self.n_samples).images
        model: Any = context.net()  # one of timm's transformers
        blocks = [f"blocks.{i}" for i in range(len(model.blocks))]
        ranges = channel_ranges(
            model, blocks, images, preprocess=lambda batch: normalise(batch, data.facts)
        )
        ratios = {name: widest_to_median(ranges[name]) for name in blocks}
        worst = max(ratios, key=ratios.__getitem__)
        found = ranges[worst]
        metrics = {
            "ratios": list(ratios.values()),
            "kurtosis": [max(k for k in ranges[name].kurtosis if k == k) for name in blocks],
            "worst": worst,
            "low": [round(x, 5) for x in found.low],
            "high": [round(x, 5) for x in found.high],
        }
        return Outcome(metrics=metrics, n_samples=len(images))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {"widest to median": max(metrics["ratios"])}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: the largest widest-to-median ratio, and that block's channels."""
        return [
            {
                "ratio": max(metrics["ratios"]),
                "kurtosis": max(metrics["kurtosis"]),
                "block": metrics["worst"],
                "low": metrics["low"],
                "high": metrics["high"],
            }
        ]
