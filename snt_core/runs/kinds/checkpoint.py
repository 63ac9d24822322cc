"""A net that others trained and published."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from snt_core.common.checks import one_of
from snt_core.data.facts import FACTS
from snt_core.nets import MODELS
from snt_core.runs.shapes import TRUTH, Shape, count, fields, text
from snt_core.runs.spec import Context, Metrics, Net, Outcome, Row

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec(Net):
    """A public checkpoint through timm, or a copy of it (see `files.checkpoint_file`).

    `approach` is the optimizer that its authors used, `mean` and `std` their standardisation.
    """

    kind: ClassVar[str] = "checkpoint"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("parameters",)
    shape: ClassVar[Shape] = fields(
        {"local": TRUTH, "sha256": text("[0-9a-f]{64}")}, parameters=count(1)
    )
    leaves_weights: ClassVar[bool] = True
    needs_data: ClassVar[bool] = False

    data: str = "imagenet"
    source: str
    revision: str
    approach: str
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    val_size: int = 0
    variant: str = "base"
    seed: int = 0

    def check(self) -> None:
        one_of("data set", self.data, FACTS)
        one_of("model", self.model, MODELS)

    @property
    def standardisation(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}

    def work(self) -> float:
        return 1.0

    def perform(self, context: Context) -> Outcome:
        """Fetch the weights into the store; nothing is trained, no image is read."""
        from snt_core.common.files import checkpoint_file
        from snt_core.nets.vit import load_checkpoint

        local = checkpoint_file(self.source)
        model = load_checkpoint(str(local) if local else self.source, revision=self.revision)
        context.keep(model)
        metrics = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "local": local is not None,
            "sha256": _digest(model),
        }
        return Outcome(metrics=metrics, n_samples=0)

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {"parameters": float(metrics["parameters"])}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: the number of parameters. Test accuracy comes with a sweep."""
        return [{"parameters": metrics["parameters"]}]


def _digest(model: nn.Module) -> str:
    """Return the SHA-256 of names and weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
