"""Pruning without fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.runs.measurement import Measurement
from snt_core.runs.place import Outcome, Place, packed, test_images
from snt_core.specs import within

TENTHS = tuple(round(0.1 * i, 1) for i in range(1, 10))


@dataclass(frozen=True, kw_only=True)
class OneShotSpec(Measurement):
    """Global magnitude pruning without fine-tuning, at each of `sparsities`."""

    kind: ClassVar[str] = "one_shot"
    schema: ClassVar[int] = 1

    sparsities: tuple[float, ...] = TENTHS

    def __post_init__(self) -> None:
        for sparsity in self.sparsities:
            within("sparsity", sparsity, 0, 1)
        # 1 and 1.0 are one value and must be one id.
        object.__setattr__(self, "sparsities", tuple(map(float, self.sparsities)))

    def work(self) -> float:
        return float((len(self.sparsities) + 1) * test_images(self.parent))

    def carry_out(self, place: Place) -> Outcome:
        """Test accuracy at every sparsity, 0 first."""
        from snt_core.compress.prune import prune_magnitude
        from snt_core.train import evaluate

        data = place.data(self)
        model = place.net(self)
        rows = []
        for i, sparsity in enumerate((0.0, *self.sparsities)):
            pruned = prune_magnitude(model, sparsity)
            rows.append({"sparsity": sparsity, **packed(evaluate(pruned, data.test, data.facts))})
            place.progress(i + 1, len(self.sparsities) + 1)
        return Outcome(metrics={"sweep": rows}, n_samples=len(data.test))

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return sweep_headline(metrics)


def sweep_headline(metrics: dict[str, Any]) -> dict[str, float]:
    return {f"top1 at {row['sparsity']}": row["top1"] for row in metrics["sweep"]}
