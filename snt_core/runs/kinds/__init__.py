"""The kinds of run, one module each: what it asks, what it costs, how it is carried out.

A kind is a frozen dataclass with the class variables `kind` and `schema` and the methods

    work()                 size in images passed, comparable between runs of one kind and net
    carry_out(place)       -> Outcome; imports torch inside, so that reading records needs none
    headline(metrics)      the numbers that figures and claims read, by name

To add one, write its module and name its class here.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from snt_core.common.errors import UserError
from snt_core.runs.spec import Recipe, Spec, one_of

# kind -> "module:class"
KINDS = {
    "train": "train:TrainSpec",
    "checkpoint": "checkpoint:CheckpointSpec",
    "lambda_max": "lambda_max:LambdaMaxSpec",
    "one_shot": "one_shot:OneShotSpec",
    "imp": "imp:IMPSpec",
    "ptq": "ptq:PTQSpec",
    "static": "static:StaticSpec",
    "qat": "qat:QATSpec",
    "tokens": "tokens:TokenSpec",
    "pca": "pca:PCASpec",
    "channels": "channels:ChannelsSpec",
    "entropy": "entropy:EntropySpec",
    "density": "density:DensitySpec",
    "surface": "surface:SurfaceSpec",
    "step_time": "step_time:StepTimeSpec",
}


@cache
def spec_class(kind: str) -> type[Spec]:
    """The dataclass of a kind. Raises UserError for an unknown one."""
    one_of("kind of run", kind, KINDS)
    module, name = KINDS[kind].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def from_dict(kind: str, values: Mapping[str, Any]) -> Spec:
    """Inverse of `specs.to_dict`. Raises UserError for an unknown kind or odd fields."""
    return _build((spec_class(kind),), values)


def _build(classes: tuple[type, ...], values: Mapping[str, Any]) -> Any:
    """An instance of the one of `classes` whose fields are those given."""
    for cls in classes:
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) == names:
            return cls(**{name: _value(name, value) for name, value in values.items()})
    odd = ", ".join(sorted(set(values) ^ names))
    raise UserError(f"{cls.__name__} does not have exactly the fields given: {odd}")


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "parent":
        return _build((spec_class("train"), spec_class("checkpoint")), value)
    if name in ("recipe", "finetune"):
        return _build((Recipe,), value)
    return tuple(value) if isinstance(value, list) else value
