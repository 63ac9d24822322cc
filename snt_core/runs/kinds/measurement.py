"""What all measurements share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from snt_core.runs.kinds.checkpoint import CheckpointSpec
from snt_core.runs.kinds.train import TrainSpec


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A run on the weights that `parent` left."""

    leaves_weights: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    parent: TrainSpec | CheckpointSpec
