"""lambda_max of a net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from snt_core.runs.kinds.context import Outcome, Place
from snt_core.runs.kinds.measurement import Measurement
from snt_core.runs.spec import one_of, within


@dataclass(frozen=True, kw_only=True)
class LambdaMaxSpec(Measurement):
    """Largest Hessian eigenvalue of the mean cross-entropy on `n_samples` training images."""

    kind: ClassVar[str] = "lambda_max"
    schema: ClassVar[int] = 1

    n_samples: int
    bn_mode: Literal["eval", "train"] = "eval"
    tolerance: float = 5e-3
    max_products: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("bn_mode", self.bn_mode, ("eval", "train"))
        within("n_samples", self.n_samples, 1, 10**8)

    def work(self) -> float:
        return float(self.n_samples)

    def carry_out(self, place: Place) -> Outcome:
        """On the first training images, without augmentation, in fp32."""
        from snt_core.methods.curvature.lambda_max import lambda_max

        images, labels, preprocess = place.sample(self, self.n_samples)
        found = lambda_max(
            place.net(self),
            images,
            labels,
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
        return Outcome(metrics=metrics, n_samples=found.n_samples)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return {"lambda_max": metrics["lambda_max"]}
