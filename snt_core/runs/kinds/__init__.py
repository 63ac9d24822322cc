"""The kinds of run, one module each: what it asks, what it costs, how it is carried out, its rows.

To add one, write its module (see `runs.spec`) with one dataclass in it. The module's name is the
kind's. No module is imported before its kind is asked for.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from snt_core.common.checks import declared_fields, one_of
from snt_core.common.errors import UserError
from snt_core.runs.spec import Net, Spec
from snt_core.training.recipe import Recipe


@cache
def kinds() -> tuple[str, ...]:
    """Return the names of all kinds: the modules of this folder but for the shared parts."""
    return tuple(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


@cache
def spec_class(kind: str) -> type[Spec]:
    """Return the dataclass of a kind. Raises UserError for an unknown one."""
    one_of("kind of run", kind, kinds())
    module = importlib.import_module(f"{__name__}.{kind}")
    (found,) = {value for value in vars(module).values() if getattr(value, "kind", "") == kind}
    cls: type[Spec] = found
    return cls


def from_dict(kind: str, values: Mapping[str, Any]) -> Spec:
    """Return the spec that `identity.to_dict` wrote.

    Raises UserError for an unknown kind or odd fields.
    """
    cls = spec_class(kind)
    declared = declared_fields(cls)
    _check_fields(cls, values)
    return cls(**{name: _value(declared[name], value) for name, value in values.items()})


def _value(declared: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if declared is Net:
        inner = dict(value)
        return from_dict(inner.pop("kind", _kind_before_format_2(inner)), inner)
    _check_fields(Recipe, value)
    return Recipe(**value)


def _check_fields(cls: Any, values: Mapping[str, Any]) -> None:
    """Raise UserError unless `values` has the fields of `cls`; those of later days may lack."""
    later = {field.name for field in dataclasses.fields(cls) if field.metadata.get("later")}
    declared = set(declared_fields(cls))
    if odd := ", ".join(sorted((set(values) ^ declared) - (later - set(values)))):
        raise UserError(f"{cls.__name__} does not have exactly the fields given: {odd}")


def _kind_before_format_2(parent: Mapping[str, Any]) -> str:
    """The first records do not name their parent's kind, and only a training has a recipe."""
    return "train" if "recipe" in parent else "checkpoint"
