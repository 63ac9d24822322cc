"""What every kind of run answers, what it is given and what it returns.

A kind is a frozen dataclass in a module of its own (`runs.kinds`), derived from `Net`, which
leaves weights, or from `Measurement`, which reads those of its `parent`. Reading records needs no
torch, so `perform` imports it inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from snt_core.common.checks import coerce_fields
from snt_core.common.errors import UserError
from snt_core.data.facts import FACTS
from snt_core.runs.shapes import Shape, fields

if TYPE_CHECKING:
    from torch import Tensor, nn

    from snt_core.data.split import Dataset
    from snt_core.training.engine import Engine
    from snt_core.training.fit import Fit

Row = dict[str, Any]
Metrics = dict[str, Any]
Progress = Callable[[int, int], None]  # told parts done and parts in all


@dataclass(frozen=True, kw_only=True)
class Spec(ABC):
    """One run. Equal specs have equal ids: see `coerce_fields` and `identity`."""

    kind: ClassVar[str]
    schema: ClassVar[int]
    columns: ClassVar[tuple[str, ...]]  # the keys of each of its rows
    shape: ClassVar[Shape] = fields()  # of its metrics; records of another are refused
    leaves_weights: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True
    timed: ClassVar[bool] = False  # what it finds are times, so it runs while nothing else does

    def __post_init__(self) -> None:
        coerce_fields(self)
        self.check()

    def check(self) -> None:  # noqa: B027, since many kinds have nothing to check
        """Raise UserError where a field's value makes no sense. Types are right already."""

    @property
    @abstractmethod
    def net(self) -> Net:
        """The net that the run trains, loads or measures; itself where it has no parent."""

    @abstractmethod
    def work(self) -> float:
        """Return the run's size in images passed, comparable within one kind and net."""

    @abstractmethod
    def perform(self, context: Context) -> Outcome:
        """Carry the run out."""

    @staticmethod
    @abstractmethod
    def headline(metrics: Metrics) -> dict[str, float]:
        """Return the numbers that `snt verify` compares, by name."""

    @abstractmethod
    def rows(self, metrics: Metrics) -> list[Row]:
        """Return what tables and claims read of the metrics: a row for each number of interest."""


@dataclass(frozen=True, kw_only=True)
class Net(Spec):
    """A run that leaves weights, or that hangs on no other."""

    data: str
    val_size: int
    model: str
    variant: str
    seed: int

    @property
    def net(self) -> Net:
        return self

    if TYPE_CHECKING:
        # Declared for the type checker alone: a checkpoint's approach is a field, and a property
        # of this class would shadow it.
        @property
        def approach(self) -> str:
            """The paper's name for optimizer and architecture together: adam, sam, arch, ..."""

    @property
    def standardisation(self) -> Mapping[str, Any]:
        """`mean` and `std` of its images, where they are not those of the data set."""
        return {}

    def training_images(self, epochs: int, passes: int = 1) -> float:
        """Return how many images pass through the net in `epochs` of its training split."""
        return float(epochs * (FACTS[self.data].train - self.val_size) * passes)

    @property
    def test_images(self) -> int:
        return FACTS[self.data].test


@dataclass(frozen=True, kw_only=True)
class Measurement(Spec):
    """A run on the weights that `parent` left."""

    parent: Net

    @property
    def net(self) -> Net:
        return self.parent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found.

    `dtype` is the number format of its training, or of its sweep; `fused` says whether it trained
    with one-pass kernels; `earlier` are seconds spent by processes that were interrupted before.
    """

    metrics: Metrics
    n_samples: int
    dtype: str = "fp32"
    fused: bool = False
    status: str = "done"
    earlier: float = 0.0
    resumed_at_step: int = 0

    @classmethod
    def of_fit(cls, metrics: Metrics, n_samples: int, engine: Engine, done: Fit) -> Outcome:
        """Return the outcome of a run that trained, with what the training knows of itself."""
        return cls(
            metrics=metrics,
            n_samples=n_samples,
            dtype=engine.dtype,
            fused=done.fused,
            earlier=done.earlier,
            resumed_at_step=done.resumed,
        )


class Weights(Protocol):
    """Where weights are kept, by the net that left them. The store is one."""

    def put_weights(self, spec: Net, state: dict[str, Tensor]) -> None: ...

    def get_weights(self, spec: Net) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Context:
    """What one run is given.

    Attributes:
        spec: the run itself.
        folder: its own, for what a killed run goes on from; it goes when the run is finished.
        weights: of all nets.
        engine: device and number format.
        progress: to be told parts done and parts in all.
    """

    spec: Spec
    folder: Path
    weights: Weights
    engine: Engine
    progress: Progress

    @property
    def checkpoint(self) -> Path:
        """The file of a training under way."""
        return self.folder / "checkpoint.pt"

    def data(self) -> Dataset:
        """Return the net's data set on the engine's device, standardised as the net expects it."""
        net = self.spec.net
        data = _dataset(net.data, net.val_size, self.engine.device)
        return replace(data, facts=replace(data.facts, **net.standardisation))

    def net(self) -> nn.Module:
        """Return the parent's net with its weights, in eval mode on the engine's device."""
        model = untrained(self.spec.net)
        model.load_state_dict(self.weights.get_weights(self.spec.net))
        return model.to(self.engine.device).eval()

    def keep(self, model: nn.Module) -> None:
        """Store the weights of the run's net; of several ranks the first one does."""
        from snt_core.training.ranks import is_main

        if is_main():
            self.weights.put_weights(self.spec.net, model.state_dict())

    def sample(self, n: int, part: int = 0) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Return `n` training images without augmentation, their labels, and what turns such images
        into the net's input: the arguments of every measurement of the loss.

        They are the first ones; `part` 1 are the next `n`, and so on. Raises UserError where the
        data set has no such part.
        """
        from snt_core.data.split import normalise

        data = self.data()
        if part and (part + 1) * n > len(data.train):
            raise UserError(
                f"part {part} of {n} images is {data.name}'s images {part * n} to "
                f"{(part + 1) * n}; it has {len(data.train)} to train on: choose fewer images"
            )
        drawn = data.train[part * n :].tensors(n)
        return drawn.images, drawn.labels, lambda images: normalise(images, data.facts)


@cache
def _dataset(name: str, val_size: int, device: str) -> Dataset:
    """Cached, because loading a data set takes a second and a process carries out many runs."""
    from snt_core.data.load import load

    return load(name, val_size).to(device)


def untrained(net: Net) -> nn.Module:
    """Return the net as it is before training."""
    from snt_core import nets

    return nets.build(net.model, net.variant, FACTS[net.data].num_classes, net.seed)
