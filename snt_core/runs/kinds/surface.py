"""A slice through the loss around a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.runs.kinds.context import Outcome, Place
from snt_core.runs.kinds.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class SurfaceSpec(Measurement):
    """Loss on a `points` x `points` grid in two filter-normalised random directions."""

    kind: ClassVar[str] = "surface"
    schema: ClassVar[int] = 1

    n_samples: int
    span: float = 0.5
    points: int
    seed: int = 0

    def work(self) -> float:
        return float(self.n_samples * self.points**2)

    def carry_out(self, place: Place) -> Outcome:
        from snt_core.methods.curvature.surface import loss_surface

        images, labels, preprocess = place.sample(self, self.n_samples)
        found = loss_surface(
            place.net(self),
            images,
            labels,
            span=self.span,
            points=self.points,
            seed=self.seed,
            preprocess=preprocess,
        )
        metrics = {
            "alphas": found.alphas,
            "betas": found.betas,
            "losses": found.losses,
        }
        return Outcome(metrics=metrics, n_samples=len(images))

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        middle = metrics["losses"][len(metrics["alphas"]) // 2]
        return {"loss at the centre": middle[len(middle) // 2]}
