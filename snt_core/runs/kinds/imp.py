"""Iterative magnitude pruning with fine-tuning between the rounds."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from snt_core.common.files import atomic_write
from snt_core.runs.kinds.context import Outcome, Place, packed, training_images
from snt_core.runs.kinds.measurement import Measurement
from snt_core.runs.kinds.one_shot import TENTHS, sweep_headline
from snt_core.runs.spec import Recipe, within

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn


@dataclass(frozen=True, kw_only=True)
class IMPSpec(Measurement):
    """One round for each of `sparsities`, each round trained by `finetune`."""

    kind: ClassVar[str] = "imp"
    schema: ClassVar[int] = 1

    sparsities: tuple[float, ...] = TENTHS
    finetune: Recipe
    seed: int = 0

    def __post_init__(self) -> None:
        for sparsity in self.sparsities:
            within("sparsity", sparsity, 0, 1)
        object.__setattr__(self, "sparsities", tuple(map(float, self.sparsities)))

    def work(self) -> float:
        return training_images(self.parent, self.finetune.epochs, len(self.sparsities))

    def carry_out(self, place: Place) -> Outcome:
        """Test accuracy of the dense net and after every round; a finished round is kept."""
        from snt_core.methods.compress.prune import prune_iterative
        from snt_core.training.fit import Diverged, evaluate, fit, steps_of

        data = place.data(self)
        model = place.net(self)
        rounds = _Rounds(place.store.run_dir(self) / "checkpoint-rounds.safetensors")
        rounds.restore(model)
        if not rounds.rows:
            rounds.rows.append({"sparsity": 0.0, **packed(evaluate(model, data.test, data.facts))})
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
                place.engine,
                seed=self.seed * 1000 + turn,  # another order of the images in every round
                evaluations=1,
                checkpoint=rounds.file.with_name(f"checkpoint-{turn}.pt"),
                progress=lambda i, n: place.progress(before + i, n * len(self.sparsities)),
                after_step=lambda i: after_step(i / steps),
            )
            fused = done.fused
            resumed = max(resumed, before + done.resumed if done.resumed else 0)
            rounds.earlier += done.earlier

        left = self.sparsities[len(rounds.rows) - 1 :]
        status, metrics = "done", {"sweep": rounds.rows}
        try:
            for sparsity, pruned in prune_iterative(model, left, finetune):
                test = packed(evaluate(pruned, data.test, data.facts))
                rounds.keep({"sparsity": sparsity, **test}, pruned)
        except Diverged as error:
            status, metrics = "diverged", {**metrics, "diverged_at": error.step}
        return Outcome(
            metrics=metrics,
            n_samples=len(data.test),
            dtype=place.engine.dtype,
            fused=fused,
            status=status,
            earlier=rounds.earlier,
            resumed_at_step=resumed,
        )

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return sweep_headline(metrics)


class _Rounds:
    """The finished rounds of a run under way: their rows, the net after the last, the time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = []
        self.earlier = 0.0
        self.started = time.monotonic()

    def restore(self, model: nn.Module) -> None:
        """Put `model` where the last finished round left it, if there is one."""
        from safetensors import safe_open

        if self.file.exists():
            with safe_open(self.file, framework="pt") as kept:
                state = json.loads(kept.metadata()["state"])
                model.load_state_dict({name: kept.get_tensor(name) for name in kept.keys()})  # noqa: SIM118
            self.rows, self.earlier = state["rows"], state["seconds"]

    def resumed(self, steps: int) -> int:
        return max(0, len(self.rows) - 1) * steps

    def keep(self, row: dict[str, Any], model: nn.Module) -> None:
        from safetensors.torch import save

        from snt_core.training.ranks import is_main

        self.rows.append(row)
        seconds = self.earlier + time.monotonic() - self.started
        state = json.dumps({"rows": self.rows, "seconds": seconds})
        tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        if is_main():
            atomic_write(self.file, save(tensors, metadata={"state": state}))
            self.file.with_name(f"checkpoint-{len(self.rows) - 1}.pt").unlink(missing_ok=True)
