"""The Hessian's spectrum beyond its largest eigenvalue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snt_core.runs.shapes import Shape, fields, many, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class DensitySpec(Measurement):
    """Spectral density by stochastic Lanczos quadrature, and the trace, on training images."""

    kind: ClassVar[str] = "density"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        "trace",
        "error",
        "largest",
        "smallest",
        "nodes",
        "weights",
    )
    shape: ClassVar[Shape] = fields(
        nodes=many(many(number(), least=1), least=1),
        weights=many(many(number(), least=1), least=1),
        trace=number(),
        trace_error=number(0),
    )

    n_samples: int
    probes: int
    steps: int
    seed: int = 0

    def work(self) -> float:
        return float(self.n_samples * self.probes * self.steps)

    def perform(self, context: Context) -> Outcome:
        """Estimate density and trace from the same probes."""
        from snt_core.methods.curvature.spectrum import spectral_density

        images, labels, preprocess = context.sample(self.n_samples)
        found = spectral_density(
            context.net(),
            (images, labels),
            probes=self.probes,
            steps=self.steps,
            seed=self.seed,
            preprocess=preprocess,
        )
        metrics = {
            "nodes": found.nodes,
            "weights": found.weights,
            "trace": found.trace.value,
            "trace_error": found.trace.error,
        }
        return Outcome(metrics=metrics, n_samples=len(images))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {"trace": metrics["trace"]}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: trace with its standard error, outermost Ritz values, nodes, weights."""
        return [
            {
                "trace": metrics["trace"],
                "error": metrics["trace_error"],
                "largest": max(map(max, metrics["nodes"])),  # probes may differ in length
                "smallest": min(map(min, metrics["nodes"])),
                "nodes": metrics["nodes"],
                "weights": metrics["weights"],
            }
        ]
