"""What is audited, ready to be measured: net, samples, task; and how a copy of it is scored."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.methods.models import folding
from snt_core.methods.tasks.objective import Objective

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many samples each sort of measurement sees, and what one costs on this machine.

    Attributes:
        forward: seconds a sample of a forward pass.
        product: seconds a sample of a Hessian-vector product; 0 where there is none.
        evaluate: samples of an evaluation.
        layer: samples on which single layers are tried.
        curve: samples of the Hessian.
        calibrate: samples that activation ranges are read from.
    """

    forward: float
    product: float
    evaluate: int
    layer: int
    curve: int
    calibrate: int


@dataclass(frozen=True)
class Score:
    """Loss, top-1 in percent where there are classes, and one bit a sample in base64."""

    loss: float
    top1: float | None
    correct: str

    def row(self, **about: Any) -> dict[str, Any]:
        """Return the score as a row of a record."""
        finite = self.loss if abs(self.loss) < 1e300 else None  # NaN compares as False too
        return {**about, "loss": finite, "top1": self.top1, "correct": self.correct}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A net on its device with samples; not `labelled` where its own answers are the targets.

    With a task of the user's own the batches stay as the loader gave them, in `raw`; then `inputs`
    and `targets` hold nothing but as many rows as there are samples.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    raw: tuple[Any, ...] = ()
    task: Any = None
    labelled: bool = True
    classes: int | None = None
    device: str = "cpu"
    sizes: Sizes = field(
        default_factory=lambda: Sizes(
            forward=0, product=0, evaluate=64, layer=32, curve=16, calibrate=32
        )
    )

    def part(self, n: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of `n` samples from `first` on, as far as there are any."""
        return self.inputs[first : first + n], self.targets[first : first + n]

    def chunks(self, n: int, first: int = 0) -> list[Any]:
        """Return batches of `n` samples from `first` on; of `raw` those that begin there."""
        if not self.raw:
            inputs, targets = self.part(n, first)
            return list(zip(inputs.split(BATCH), targets.split(BATCH)))
        found, start = [], 0
        for batch in self.raw:
            if first <= start < first + n:
                found.append(batch)
            start += count_of(batch)
        return found or list(self.raw)

    @cached_property
    def plain(self) -> nn.Module:
        """The net with plain weights, of which one can be changed alone; itself if they are so."""
        return folding.plain(self.model)

    @property
    def weights(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def score(model: nn.Module, scene: Scene, n: int, first: int = 0) -> Score:
    """Return how well `model` does in eval mode on samples of the scene."""
    objective = Objective(scene.chunks(n, first), scene.task)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    total, right = 0.0, []
    model.eval()
    with torch.no_grad():
        for batch, weight in objective.batches(torch.device(scene.device)):
            output = objective.output(model, batch, dtype)
            total += float(objective.exact_loss(output, batch, weight))
            if scene.classes:
                right.append((output.argmax(1) == batch[1]).cpu())
    mean = total / objective.total
    if not right:
        return Score(mean, None, "")
    bits = torch.cat(right)
    return Score(mean, 100 * float(bits.double().mean()), packed(bits))


def answer(model: nn.Module, task: Any, batch: Any) -> Any:
    """Return what the net gives for a batch, by the task's `forward` if it has one."""
    if forward := getattr(task, "forward", None):
        return forward(model, batch)
    return model(batch if isinstance(batch, Tensor) else batch[0])


def count_of(batch: Any) -> int:
    """Return the samples of a batch: the length of the first tensor in it."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, Mapping) else batch
    return next(count_of(one) for one in parts if isinstance(one, (Tensor, Mapping, list, tuple)))


def packed(bits: Tensor) -> str:
    """Return bools as base64, eight a byte."""
    import numpy as np

    return base64.b64encode(np.packbits(bits.numpy()).tobytes()).decode()
