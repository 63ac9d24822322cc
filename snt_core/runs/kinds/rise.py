"""The rise of the loss under a compression, beside what curvature predicts of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from snt_core.common.checks import within
from snt_core.runs.shapes import TEXT, Shape, count, fields, many, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class RiseSpec(Measurement):
    """Loss under rounding to each of `weight_bits` and pruning to each of `sparsities`.

    On the first `n_samples` training images; nothing is trained.
    """

    kind: ClassVar[str] = "rise"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = (
        "compression",
        "loss",
        "rise",
        "slope",
        "quadratic",
        "squared_length",
        "n_samples",
        "predicted",
    )
    shape: ClassVar[Shape] = fields(
        points=many(
            fields(
                compression=TEXT,
                loss=number(0),
                rise=number(),
                slope=number(),
                quadratic=number(),
                squared_length=number(0),
                n_samples=count(1),
            )
        )
    )

    weight_bits: tuple[int, ...] = (3, 4, 8)
    sparsities: tuple[float, ...] = (0.3, 0.5, 0.7)
    n_samples: int

    def check(self) -> None:
        for bits in self.weight_bits:
            within("weight_bits", bits, 2, 8)
        for sparsity in self.sparsities:
            within("sparsity", sparsity, 0, 1)
        within("n_samples", self.n_samples, 1, 10**8)

    def work(self) -> float:
        return float(self.n_samples * (len(self.weight_bits) + len(self.sparsities)))

    def perform(self, context: Context) -> Outcome:
        """Measure the rise, its slope and its curvature along each compression's own step."""
        from snt_core.methods.compress.prune import prune_magnitude
        from snt_core.methods.compress.quantize import quantize_weights
        from snt_core.methods.curvature.rise import loss_rises

        images, labels, preprocess = context.sample(self.n_samples)
        model = context.net()
        compressed = {f"W{bits}": quantize_weights(model, bits) for bits in self.weight_bits}
        compressed |= {f"{s:.0%} pruned": prune_magnitude(model, s) for s in self.sparsities}
        found = loss_rises(model, compressed, (images, labels), preprocess=preprocess)
        points = [{"compression": name, **asdict(rise)} for name, rise in found.items()]
        return Outcome(metrics={"points": points}, n_samples=len(images))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {point["compression"]: point["rise"] for point in metrics["points"]}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return a row per compression: rise of the loss, slope, quadratic term, squared length."""
        return [
            {**point, "predicted": point["slope"] + point["quadratic"]}
            for point in metrics["points"]
        ]
