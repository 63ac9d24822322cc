"""Pruning without fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from snt_core.common.checks import within
from snt_core.runs.kinds import _sweep
from snt_core.runs.kinds._sweep import TENTHS
from snt_core.runs.shapes import Shape
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row

if TYPE_CHECKING:
    from torch import nn

    from snt_core.data.facts import Facts
    from snt_core.data.split import Images
    from snt_core.training.engine import Engine
    from snt_core.training.evaluate import Evaluation


@dataclass(frozen=True, kw_only=True)
class OneShotSpec(Measurement):
    """Global magnitude pruning without fine-tuning, at each of `sparsities`."""

    kind: ClassVar[str] = "one_shot"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = _sweep.COLUMNS
    shape: ClassVar[Shape] = _sweep.SHAPE

    sparsities: tuple[float, ...] = TENTHS

    def check(self) -> None:
        for sparsity in self.sparsities:
            within("sparsity", sparsity, 0, 1)

    def work(self) -> float:
        return float((len(self.sparsities) + 1) * self.net.test_images)

    def perform(self, context: Context) -> Outcome:
        """Read the test set at every sparsity, 0 first."""
        data, model, engine = context.data(), context.net(), context.engine
        sweep = []
        found = evaluations(model, self.sparsities, data.test, data.facts, engine)
        for sparsity, evaluation in zip((0.0, *self.sparsities), found):
            sweep.append(_sweep.point(sparsity, evaluation))
            context.progress(len(sweep), len(self.sparsities) + 1)
        return Outcome(metrics={"sweep": sweep}, n_samples=len(data.test), dtype=engine.dtype)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return _sweep.headline(metrics["sweep"])

    def rows(self, metrics: Metrics) -> list[Row]:
        return _sweep.rows(self.net, metrics["sweep"])


def evaluations(
    model: nn.Module,
    sparsities: Iterable[float],
    images: Images,
    facts: Facts,
    engine: Engine,
) -> Iterator[Evaluation]:
    """Yield the evaluations of the dense net and of its copies pruned to each of `sparsities`.

    They run in the engine's number format, which moves an accuracy by a tenth of a point or so.
    """
    from snt_core.fast.fold import fold
    from snt_core.methods.compress.prune import prune_sweep
    from snt_core.training.evaluate import evaluate

    for _, pruned in prune_sweep(model, (0.0, *sparsities)):
        with engine.autocast():
            yield evaluate(fold(pruned), images, facts)
