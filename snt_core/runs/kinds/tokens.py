"""Token pruning and token merging in a vision transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from snt_core.common.checks import one_of
from snt_core.runs.kinds._evaluation import EVALUATED, packed, top1, unpacked
from snt_core.runs.shapes import Shape, fields, many, nothing_or, number
from snt_core.runs.spec import Context, Measurement, Metrics, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class TokenSpec(Measurement):
    """Accuracy and measured speed-up at each of `settings`, without training.

    A setting is the keep ratio of `prune`, or r, the tokens merged in a block, of `merge`. Speed
    is measured on batches of `batch_size` images, `repeats` times, alternating with the plain net.
    """

    kind: ClassVar[str] = "tokens"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("method", "setting", "speedup", "top1", "drop", "correct")
    shape: ClassVar[Shape] = fields(
        sweep=many(fields(setting=nothing_or(number(0)), speedup=number(0), **EVALUATED), least=1)
    )
    timed: ClassVar[bool] = True

    method: Literal["prune", "merge"]
    settings: tuple[float, ...]
    batch_size: int
    repeats: int

    def check(self) -> None:
        one_of("method", self.method, ("prune", "merge"))

    def work(self) -> float:
        return float((len(self.settings) + 1) * self.net.test_images)

    def perform(self, context: Context) -> Outcome:
        """Read the test set and time the plain net (setting None) and every setting."""
        from snt_core.data.split import normalise
        from snt_core.methods.compress.speed import speedup
        from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens
        from snt_core.training.evaluate import evaluate

        data = context.data()
        model = context.net()
        images = normalise(data.test.tensors(self.batch_size).images, data.facts)
        plain = packed(evaluate(model, data.test, data.facts))
        rows: list[dict[str, Any]] = [{"setting": None, "speedup": 1.0, **plain}]
        for i, setting in enumerate(self.settings):
            if self.method == "merge":
                fewer = merge_tokens(model, int(setting))
            else:
                fewer = prune_tokens(model, setting)
            faster = speedup(model, fewer, images, repeats=self.repeats)
            test = packed(evaluate(fewer, data.test, data.facts))
            rows.append({"setting": setting, "speedup": faster, **test})
            context.progress(i + 1, len(self.settings))
        return Outcome(metrics={"sweep": rows}, n_samples=len(data.test))

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {f"top1 at {row['setting']}": row["top1"] for row in metrics["sweep"]}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return a row per setting: speed-up, test top-1, drop in points, which were right."""
        plain = metrics["sweep"][0]
        return [
            {
                "method": self.method,
                "setting": found["setting"],
                "speedup": found["speedup"],
                "top1": top1(found),
                "drop": top1(plain) - top1(found),
                "correct": unpacked(found),
            }
            for found in metrics["sweep"]
        ]
