"""Outliers among a transformer's activation channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.runs.kinds.context import Outcome, Place
from snt_core.runs.kinds.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class ChannelsSpec(Measurement):
    """Range and kurtosis of every channel after each block, on the first test images."""

    kind: ClassVar[str] = "channels"
    schema: ClassVar[int] = 1

    n_samples: int

    def work(self) -> float:
        return float(self.n_samples)

    def carry_out(self, place: Place) -> Outcome:
        """Per block the widest-to-median ratio; every channel of the block where it is largest."""
        from snt_core.data.load import normalise
        from snt_core.methods.analysis.channels import channel_ranges, widest_to_median

        data = place.data(self)
        images = data.test.tensors(self.n_samples).images
        model = place.net(self)
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
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return {"widest to median": max(metrics["ratios"])}
