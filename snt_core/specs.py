"""What a run is: frozen values, hashed whole.

Every field of a spec, defaults included, enters `run_id`, so that a changed default can never
reuse a stale result. How a run is carried out (device, dtype, threads) is not part of it: that
is provenance and stands in the record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from snt_core.errors import UserError, unknown

DATA = ("digits", "cifar10", "cifar100")
MODELS = ("resnet20",)
VARIANTS = ("base", "preact", "snt")
OPTIMIZERS = ("adam", "sam")
AUGMENTATIONS = ("crop-flip", "none")


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise unknown(what, value, allowed)


def _within(what: str, value: float, low: float, high: float) -> None:
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
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("augmentation", self.augment, AUGMENTATIONS)
        _within("epochs", self.epochs, 1, 10_000)
        _within("batch_size", self.batch_size, 1, 65_536)
        _within("lr", self.lr, 0, 100)
        _within("rho", self.rho, 0, 10)
        if (self.optimizer == "sam") != (self.rho > 0):
            raise UserError(
                f"rho is {self.rho} with optimizer '{self.optimizer}'; only sam has one"
            )


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """One training from random weights; its record holds the test accuracy of the float net."""

    kind: ClassVar[str] = "train"
    schema: ClassVar[int] = 1

    data: str
    val_size: int
    model: str
    variant: str
    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        _one_of("data set", self.data, DATA)
        _one_of("model", self.model, MODELS)
        _one_of("variant", self.variant, VARIANTS)
        _within("seed", self.seed, 0, 2**31)

    @property
    def approach(self) -> str:
        """The paper's name for optimizer and architecture together: adam, sam, arch (or preact)."""
        if self.variant == "base":
            return self.recipe.optimizer
        name = {"preact": "preact", "snt": "arch"}[self.variant]
        return name if self.recipe.optimizer == "adam" else f"{name}+sam"


@dataclass(frozen=True, kw_only=True)
class LambdaMaxSpec:
    """Largest Hessian eigenvalue of the mean cross-entropy on `n_samples` training images."""

    kind: ClassVar[str] = "lambda_max"
    schema: ClassVar[int] = 1

    parent: TrainSpec
    n_samples: int
    bn_mode: Literal["eval", "train"] = "eval"
    tolerance: float = 5e-3
    max_products: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("bn_mode", self.bn_mode, ("eval", "train"))
        _within("n_samples", self.n_samples, 1, 10**8)


@dataclass(frozen=True, kw_only=True)
class OneShotSpec:
    """Global magnitude pruning without fine-tuning, at each of `sparsities`."""

    kind: ClassVar[str] = "one_shot"
    schema: ClassVar[int] = 1

    parent: TrainSpec
    sparsities: tuple[float, ...] = tuple(round(0.1 * i, 1) for i in range(1, 10))

    def __post_init__(self) -> None:
        for sparsity in self.sparsities:
            _within("sparsity", sparsity, 0, 1)
        # 1 and 1.0 are one value and must be one id.
        object.__setattr__(self, "sparsities", tuple(map(float, self.sparsities)))


@dataclass(frozen=True, kw_only=True)
class PTQSpec:
    """Weight-only post-training quantization, then fine-tuning with straight-through gradients.

    `curve_points` is how often validation accuracy is read while fine-tuning.
    """

    kind: ClassVar[str] = "ptq"
    schema: ClassVar[int] = 1

    parent: TrainSpec
    weight_bits: int
    per_channel: bool = False
    finetune: Recipe
    curve_points: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        _within("weight_bits", self.weight_bits, 2, 8)


Spec = TrainSpec | LambdaMaxSpec | OneShotSpec | PTQSpec
KINDS: dict[str, type[Spec]] = {s.kind: s for s in (TrainSpec, LambdaMaxSpec, OneShotSpec, PTQSpec)}


def canonical(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def record_name(spec: Spec) -> str:
    """`<kind>-<id>`, as its record's file is called."""
    return f"{spec.kind}-{run_id(spec)}"


def root(spec: Spec) -> TrainSpec:
    """The training that a spec hangs on (itself, for a training)."""
    return spec if isinstance(spec, TrainSpec) else spec.parent


def run_id(spec: Spec) -> str:
    """16 hex digits of the SHA-256 of kind, schema and every field; a parent counts by its id."""
    fields = to_dict(spec)
    if not isinstance(spec, TrainSpec):
        fields["parent"] = run_id(spec.parent)
    text = canonical({"kind": spec.kind, "schema": spec.schema, **fields})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_dict(spec: Spec) -> dict[str, Any]:
    """Plain JSON values, nested specs included whole."""
    return json.loads(canonical(dataclasses.asdict(spec)))


def from_dict(kind: str, values: Mapping[str, Any]) -> Spec:
    """Inverse of `to_dict`. Raises UserError for an unknown kind or fields that do not fit."""
    _one_of("kind of run", kind, tuple(KINDS))
    return _build(KINDS[kind], values)


_NESTED = {"recipe": Recipe, "finetune": Recipe, "parent": TrainSpec}


def _build(cls: type, values: Mapping[str, Any]) -> Any:
    names = {f.name for f in dataclasses.fields(cls)}
    if set(values) != names:
        odd = sorted(set(values) ^ names)
        raise UserError(f"{cls.__name__} does not have exactly the fields given: {', '.join(odd)}")
    nested = {k: _build(_NESTED[k], v) if k in _NESTED else v for k, v in values.items()}
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in nested.items()})
