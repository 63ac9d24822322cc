"""The Hessian's spectrum beyond its largest eigenvalue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from snt_core.runs.kinds.context import Outcome, Place
from snt_core.runs.kinds.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class DensitySpec(Measurement):
    """Spectral density by stochastic Lanczos quadrature, and the trace, on training images."""

    kind: ClassVar[str] = "density"
    schema: ClassVar[int] = 1

    n_samples: int
    probes: int
    steps: int
    seed: int = 0

    def work(self) -> float:
        return float(self.n_samples * self.probes * self.steps)

    def carry_out(self, place: Place) -> Outcome:
        from snt_core.methods.curvature.spectrum import spectral_density

        images, labels, preprocess = place.sample(self, self.n_samples)
        found = spectral_density(
            place.net(self),
            images,
            labels,
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
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return {"trace": metrics["trace"]}
