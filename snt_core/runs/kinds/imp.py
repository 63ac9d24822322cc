"""Iterative magnitude pruning with fine-tuning between the rounds."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from snt_core.common.checks import within
from snt_core.common.sealed import read_sealed, write_sealed
from snt_core.runs.kinds import _sweep
from snt_core.runs.kinds._sweep import TENTHS
from snt_core.runs.shapes import Shape
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row
from snt_core.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn


@dataclass(frozen=True, kw_only=True)
class IMPSpec(Measurement):
    """One round for each of `sparsities`, each round trained by `finetune`."""

    kind: ClassVar[str] = "imp"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = _sweep.COLUMNS
    shape: ClassVar[Shape] = _sweep.SHAPE

    sparsities: tuple[float, ...] = TENTHS
    finetune: Recipe
    seed: int = 0

    def check(self) -> None:
        for sparsity in self.sparsities:
            within("sparsity", sparsity, 0, 1)

    def work(self) -> float:
        return self.net.training_images(self.finetune.epochs, len(self.sparsities))

    def perform(self, context: Context) -> Outcome:
        """Read the test set for the dense net and after every round; a finished round is kept."""
        from snt_core.methods.compress.prune import prune_iterative
        from snt_core.training.evaluate import evaluate
        from snt_core.training.fit import Diverged, fit, steps_of

        data = context.data()
        model = context.net()
        rounds = _Rounds(context.folder / "checkpoint-rounds.safetensors")
        rounds.restore(model)
        if not rounds.rows:
            rounds.rows.append(_sweep.point(0.0, evaluate(model, data.test, data.facts)))
        steps = steps_of(self.finetune, data)
        fused, resumed = False, rounds.resumed(steps)

        def finetune(student: nn.Module, after_step: Callable[[float], None]) -> None:
            nonlocal fused, resumed
            turn = len(rounds.rows)
            before = (turn - 1) * steps
            done = fit(
                student,
                data,
                self.finetune,
                context.engine,
                seed=self.seed * 1000 + turn,  # another order of the images in every round
                evaluations=1,
                checkpoint=rounds.file.with_name(f"checkpoint-{turn}.pt"),
                progress=lambda i, n: context.progress(before + i, n * len(self.sparsities)),
                after_step=lambda i: after_step(i / steps),
            )
            fused = done.fused
            resumed = max(resumed, before + done.resumed if done.resumed else 0)
            rounds.earlier += done.earlier

        left = self.sparsities[len(rounds.rows) - 1 :]
        status = "done"
        metrics: Metrics = {"sweep": rounds.rows}
        try:
            for sparsity, pruned in prune_iterative(model, left, finetune):
                test = evaluate(pruned, data.test, data.facts)
                rounds.keep(_sweep.point(sparsity, test), pruned)
        except Diverged as error:
            status = "diverged"
            metrics |= {"diverged_at": error.step}
        return Outcome(
            metrics=metrics,
            n_samples=len(data.test),
            dtype=context.engine.dtype,
            fused=fused,
            status=status,
            earlier=rounds.earlier,
            resumed_at_step=resumed,
        )

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return _sweep.headline(metrics["sweep"])

    def rows(self, metrics: Metrics) -> list[Row]:
        return _sweep.rows(self.net, metrics["sweep"])


class _Rounds:
    """The finished rounds of a run under way: their rows, the net after the last, the time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = []
        self.earlier = 0.0
        self.started = time.monotonic()

    def restore(self, model: nn.Module) -> None:
        """Put `model` where the last finished round left it, if there is one."""
        from safetensors.torch import load

        if self.file.exists():
            line, _, tensors = read_sealed(self.file).partition(b"\n")
            model.load_state_dict(load(tensors))
            state = json.loads(line)
            self.rows, self.earlier = state["rows"], state["seconds"]

    def resumed(self, steps: int) -> int:
        return max(0, len(self.rows) - 1) * steps

    def keep(self, row: dict[str, Any], model: nn.Module) -> None:
        from safetensors.torch import save

        from snt_core.training.ranks import is_main

        self.rows.append(row)
        seconds = self.earlier + time.monotonic() - self.started
        state = json.dumps({"rows": self.rows, "seconds": seconds}).encode()
        tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        if is_main():
            write_sealed(self.file, state + b"\n" + save(tensors))
            self.file.with_name(f"checkpoint-{len(self.rows) - 1}.pt").unlink(missing_ok=True)
