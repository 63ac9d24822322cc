"""A net that a user brings along, of which its digest is known and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snt_core.common.errors import UserError
from snt_core.runs.shapes import Shape, count, fields
from snt_core.runs.spec import Context, Metrics, Net, Outcome, Row


@dataclass(frozen=True, kw_only=True)
class BroughtSpec(Net):
    """A net by what decides its numbers: weights, code, pictures, task. No path is part of it.

    `weights` is the SHA-256 of the state dict, `code` that of the user's own files (empty where
    timm or torchvision makes the net), `data` names the digest of the tensors that it is given.
    """

    kind: ClassVar[str] = "brought"
    schema: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("parameters",)
    shape: ClassVar[Shape] = fields(parameters=count(1))
    needs_data: ClassVar[bool] = False

    weights: str
    code: str = ""
    variant: str = "base"
    val_size: int = 0
    seed: int = 0

    @property
    def approach(self) -> str:
        return "brought"

    @property
    def test_images(self) -> int:
        return 0

    def work(self) -> float:
        return 1.0

    def perform(self, context: Context) -> Outcome:
        raise UserError(f"{self.model} is a net of a user's own; 'snt audit' measures it")

    @staticmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        return {}

    def rows(self, metrics: Metrics) -> list[Row]:
        """Return one row: how many parameters it has."""
        return [{"parameters": metrics["parameters"]}]
