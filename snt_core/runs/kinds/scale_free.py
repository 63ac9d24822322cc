"""Sharpness that rescaling of filters does not change, and the Hessian's trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snt_core.common.checks import within
from snt_core.runs.shapes import TRUTH, Shape, count, fields, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class ScaleFreeSpec(Measurement):
    """Filter-normalised lambda_max, trace by `probes`, and the sharpness that ASAM descends.

    On the first `n_samples` training images, in fp32.
    """

    kind: ClassVar[str] = "scale_free"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        "normalised",
        "residual",
        "products",
        "converged",
        "trace",
        "trace_error",
        "adaptive",
    )
    shape: ClassVar[Shape] = fields(
        normalised=number(),
        residual=number(0),
        products=count(),
        converged=TRUTH,
        trace=number(),
        trace_error=number(0),
        adaptive=number(),
    )

    n_samples: int
    max_products: int = 60
    tolerance: float = 5e-3
    probes: int = 10
    rho: float = 0.5
    seed: int = 0

    def check(self) -> None:
        within("n_samples", self.n_samples, 1, 10**8)
        within("probes", self.probes, 2, 10_000)
        within("rho", self.rho, 1e-6, 100)

    def work(self) -> float:
        return float(self.n_samples)

    def perform(self, context: Context) -> Outcome:
        """Measure all three on the same images."""
        from snt_core.methods.curvature.lambda_max import lambda_max
        from snt_core.methods.curvature.scale_free import adaptive_sharpness, filter_scale
        from snt_core.methods.curvature.spectrum import hessian_trace

        images, labels, preprocess = context.sample(self.n_samples)
        model = context.net()
        found = lambda_max(
            model,
            (images, labels),
            start="sketch",  # what is published was measured so
            preprocess=preprocess,
            tolerance=self.tolerance,
            max_products=self.max_products,
            seed=self.seed,
            scale=filter_scale(model),
        )
        context.progress(1, 3)
        trace = hessian_trace(
            model, (images, labels), probes=self.probes, seed=self.seed, preprocess=preprocess
        )
        context.progress(2, 3)
        sharp = adaptive_sharpness(model, (images, labels), rho=self.rho, preprocess=preprocess)
        metrics = {
            "normalised": found.value,
            "residual": found.residual,
            "products": found.products,
            "converged": found.converged,
            "trace": trace.value,
            "trace_error": trace.error,
            "adaptive": sharp,
        }
        return Outcome(metrics=metrics, n_samples=len(images))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {key: metrics[key] for key in ("normalised", "trace", "adaptive")}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: the three measures, the errors of the first two, whether settled."""
        return [dict(metrics)]
