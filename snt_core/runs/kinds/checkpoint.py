"""A net that others trained and published."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from snt_core.nets import MODELS
from snt_core.runs.kinds.context import Outcome, Place
from snt_core.runs.spec import DATA, one_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec:
    """A public checkpoint through timm, or a copy of it (see `files.checkpoint_file`).

    `approach` is the optimizer that its authors used, `mean` and `std` their standardisation.
    """

    kind: ClassVar[str] = "checkpoint"
    schema: ClassVar[int] = 1
    leaves_weights: ClassVar[bool] = True
    needs_data: ClassVar[bool] = False

    data: str = "imagenet"
    model: str
    source: str
    revision: str
    approach: str
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    val_size: int = 0
    variant: str = "base"
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("data set", self.data, DATA)
        one_of("model", self.model, MODELS)

    @property
    def standardisation(self) -> dict[str, tuple[float, float, float]]:
        return {"mean": self.mean, "std": self.std}

    def work(self) -> float:
        return 1.0

    def carry_out(self, place: Place) -> Outcome:
        """Fetches the weights into the store; nothing is trained, no image is read."""
        from snt_core.common.files import checkpoint_file
        from snt_core.nets.vit import load_checkpoint

        local = checkpoint_file(self.source)
        model = load_checkpoint(str(local) if local else self.source, revision=self.revision)
        place.keep(self, model)
        metrics = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "local": local is not None,
            "sha256": _digest(model),
        }
        return Outcome(metrics=metrics, n_samples=0)

    @staticmethod
    def headline(metrics: dict[str, Any]) -> dict[str, float]:
        return {"parameters": float(metrics["parameters"])}


def _digest(model: nn.Module) -> str:
    """Of names and weights, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
