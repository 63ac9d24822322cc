"""A slice through the loss around a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snt_core.runs.shapes import Shape, fields, many, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class SurfaceSpec(Measurement):
    """Loss on a `points` x `points` grid in two filter-normalised random directions."""

    kind: ClassVar[str] = "surface"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("alphas", "betas", "losses")
    shape: ClassVar[Shape] = fields(
        alphas=many(number(), least=1),
        betas=many(number(), least=1),
        losses=many(many(number(0), least=1), least=1),
    )

    n_samples: int
    span: float = 0.5
    points: int
    seed: int = 0

    def work(self) -> float:
        return float(self.n_samples * self.points**2)

    def perform(self, context: Context) -> Outcome:
        """Compute the loss on the grid, the net itself in the middle."""
        from snt_core.methods.curvature.surface import loss_surface

        images, labels, preprocess = context.sample(self.n_samples)
        found = loss_surface(
            context.net(),
            (images, labels),
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
    def headline(metrics: Metrics) -> dict[str, float]:
        middle = metrics["losses"][len(metrics["alphas"]) // 2]
        return {"loss at the centre": middle[len(middle) // 2]}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: the grid of the slice."""
        return [{key: metrics[key] for key in ("alphas", "betas", "losses")}]
