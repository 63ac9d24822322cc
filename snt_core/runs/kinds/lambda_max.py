"""lambda_max of a net."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from snt_core.common.checks import LATER, one_of, within
from snt_core.runs.shapes import TRUTH, Shape, count, fields, number, text
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class LambdaMaxSpec(Measurement):
    """Largest Hessian eigenvalue of the mean cross-entropy on `n_samples` training images.

    `part` 0 are the first ones, 1 those that follow, and so on.
    """

    kind: ClassVar[str] = "lambda_max"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        "lambda_max",
        "residual",
        "products",
        "converged",
        "bn_mode",
        "part",
    )
    shape: ClassVar[Shape] = fields(
        lambda_max=number(),
        residual=number(0),
        products=count(),
        converged=TRUTH,
        bn_mode=text("eval|train"),
    )

    n_samples: int
    bn_mode: Literal["eval", "train"] = "eval"
    tolerance: float = 5e-3
    max_products: int = 60
    seed: int = 0
    part: int = field(default=0, metadata=LATER)

    def check(self) -> None:
        one_of("bn_mode", self.bn_mode, ("eval", "train"))
        within("n_samples", self.n_samples, 1, 10**8)
        within("part", self.part, 0, 10**6)

    def work(self) -> float:
        return float(self.n_samples)

    def perform(self, context: Context) -> Outcome:
        """Measure on training images without augmentation, in fp32."""
        from snt_core.methods.curvature.lambda_max import lambda_max

        images, labels, preprocess = context.sample(self.n_samples, self.part)
        found = lambda_max(
            context.net(),
            (images, labels),
            start="sketch",  # what is published was measured so
            preprocess=preprocess,
            bn_mode=self.bn_mode,
            tolerance=self.tolerance,
            max_products=self.max_products,
            seed=self.seed,
        )
        metrics = {
            "lambda_max": found.value,
            "residual": found.residual,
            "products": found.products,
            "converged": found.converged,
            "bn_mode": found.bn_mode,
        }
        return Outcome(metrics=metrics, n_samples=len(images))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {"lambda_max": metrics["lambda_max"]}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: the eigenvalue, its relative residual, products used, whether settled."""
        return [{**metrics, "part": self.part}]
