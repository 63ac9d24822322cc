"""Pruning without fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from snt_core.runs.kinds.context import Outcome, Place, packed, test_images
from snt_core.runs.kinds.measurement import Measurement
from snt_core.runs.spec import within

if TYPE_CHECKING:
    from torch import nn

    from snt_core.data.facts import Facts
    from snt_core.data.imagenet import Streamed
    from snt_core.data.load import Split
    from snt_core.training.engine import Engine
    from snt_core.training.fit import Evaluation

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
        data = place.data(self)
        rows = []
        found = sweep(place.net(self), self.sparsities, data.test, data.facts, place.engine)
        for sparsity, evaluation in zip((0.0, *self.sparsities), found):
            rows.append({"sparsity": sparsity, **packed(evaluation)})
            place.progress(len(rows), len(self.sparsities) + 1)
        metrics = {"sweep": rows}
        return Outcome(metrics=metrics, n_samples=len(data.test), dtype=place.engine.dtype)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return sweep_headline(metrics)


def sweep(
    model: nn.Module,
    sparsities: Iterable[float],
    split: Split | Streamed,
    facts: Facts,
    engine: Engine,
) -> Iterator[Evaluation]:
    """Evaluations of the dense net and of its copies pruned to each of `sparsities`.

    In the engine's number format, which moves an accuracy by a tenth of a point or so.
    """
    from snt_core.fast.fold import fold
    from snt_core.methods.compress.prune import prune_magnitude
    from snt_core.training.fit import evaluate

    for sparsity in (0.0, *sparsities):
        with engine.autocast():
            yield evaluate(fold(prune_magnitude(model, sparsity)), split, facts)


def sweep_headline(metrics: dict[str, Any]) -> dict[str, float]:
    return {f"top1 at {row['sparsity']}": row["top1"] for row in metrics["sweep"]}
