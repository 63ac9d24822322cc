"""The identity of a run: frozen values, hashed whole.

Every field of a spec, defaults included, enters `run_id`, so that a changed default can never
reuse a stale result. How a run is carried out (device, dtype, threads) is not part of it: that
is provenance and stands in the record. The kinds of run themselves are in `snt_core.runs.kinds`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from snt_core.common.errors import UserError, unknown

DATA = ("digits", "few-digits", "cifar10", "cifar100", "imagenet")
VARIANTS = ("base", "preact", "snt", "snt-nofinal", "snt-channels")
OPTIMIZERS = ("adam", "sam")
AUGMENTATIONS = ("crop-flip", "none", "trivial-augment", "random-resized-crop")


class Net(Protocol):
    """What every run knows of the net that it trains, loads or measures."""

    kind: ClassVar[str]
    schema: ClassVar[int]
    data: str
    val_size: int
    model: str
    variant: str
    seed: int

    @property
    def approach(self) -> str: ...


class Spec(Protocol):
    """One run. `parent`, where there is one, is the net whose weights it measures."""

    kind: ClassVar[str]
    schema: ClassVar[int]
    leaves_weights: ClassVar[bool]
    needs_data: ClassVar[bool]


def one_of(what: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError, with the nearest name, unless `value` is allowed."""
    if value not in (allowed := tuple(allowed)):
        raise unknown(what, value, allowed)


def within(what: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless `value` lies in [low, high]."""
    if not low <= value <= high:
        raise UserError(f"{what} is {value}; it must lie in [{low:g}, {high:g}]")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How weights are optimised, from scratch or in fine-tuning.

    `lr` is the peak of a linear warm-up followed by a cosine to zero; `rho` is SAM's radius
    (0 with Adam); `weight_decay` is decoupled from the gradient and spares biases,
    normalisation and the three parameters of Eq. (1).
    """

    optimizer: str = "adam"
    rho: float = 0.0
    adaptive: bool = False
    epochs: int
    batch_size: int = 128
    lr: float
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0
    augment: str = "crop-flip"

    def __post_init__(self) -> None:
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("augmentation", self.augment, AUGMENTATIONS)
        within("epochs", self.epochs, 1, 10_000)
        within("batch_size", self.batch_size, 1, 65_536)
        within("lr", self.lr, 0, 100)
        within("rho", self.rho, 0, 10)
        if (self.optimizer == "sam") != (self.rho > 0):
            raise UserError(
                f"rho is {self.rho} with optimizer '{self.optimizer}'; only sam has one"
            )


def canonical(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def record_name(spec: Spec) -> str:
    """`<kind>-<id>`, as its record's file is called."""
    return f"{spec.kind}-{run_id(spec)}"


def root(spec: Spec) -> Net:
    """The net that a run hangs on (itself, where it has no parent)."""
    return getattr(spec, "parent", spec)


def run_id(spec: Spec) -> str:
    """16 hex digits of the SHA-256 of kind, schema and every field; a parent counts by its id."""
    fields = to_dict(spec)
    if (parent := root(spec)) is not spec:
        fields["parent"] = run_id(parent)
    text = canonical({"kind": spec.kind, "schema": spec.schema, **fields})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_dict(spec: Spec) -> dict[str, Any]:
    """Plain JSON values, nested specs included whole."""
    return json.loads(canonical(dataclasses.asdict(spec)))
