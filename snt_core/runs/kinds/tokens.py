"""Token pruning and token merging in a vision transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from snt_core.runs.kinds.context import Outcome, Place, packed, test_images
from snt_core.runs.kinds.measurement import Measurement
from snt_core.runs.spec import one_of


@dataclass(frozen=True, kw_only=True)
class TokenSpec(Measurement):
    """Accuracy and measured speed-up at each of `settings`, without training.

    A setting is the keep ratio of `prune`, or r, the tokens merged in a block, of `merge`. Speed
    is measured on batches of `batch_size` images, `repeats` times, alternating with the plain net.
    """

    kind: ClassVar[str] = "tokens"
    schema: ClassVar[int] = 1

    method: Literal["prune", "merge"]
    settings: tuple[float, ...]
    batch_size: int
    repeats: int

    def __post_init__(self) -> None:
        one_of("method", self.method, ("prune", "merge"))
        object.__setattr__(self, "settings", tuple(map(float, self.settings)))

    def work(self) -> float:
        return float((len(self.settings) + 1) * test_images(self.parent))

    def carry_out(self, place: Place) -> Outcome:
        """Test accuracy and speed-up of the plain net (setting None) and at every setting."""
        from snt_core.data.load import normalise
        from snt_core.methods.compress.speed import speedup
        from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens
        from snt_core.training.fit import evaluate

        data = place.data(self)
        model = place.net(self)
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
            place.progress(i + 1, len(self.settings))
        return Outcome(metrics={"sweep": rows}, n_samples=len(data.test))

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return {f"top1 at {row['setting']}": row["top1"] for row in metrics["sweep"]}
