"""Checks of values that users give, and the one place where a spec's fields get their types."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
import typing
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from snt_core.common.errors import UserError, unknown

BOOLS = (bool, np.bool_)
# Metadata of a field that came after the first records: at its default it enters no id.
LATER = {"later": True}


def one_of(what: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError, with the nearest name, unless `value` is one of `allowed`."""
    if value not in (allowed := tuple(allowed)):
        raise unknown(what, value, allowed)


def within(what: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless `value` lies in [low, high]. NaN lies nowhere."""
    if not low <= value <= high:
        raise UserError(f"{what} is {value}; it must lie in [{low:g}, {high:g}]")


def coerce_fields(spec: Any) -> None:
    """Give every field of the frozen dataclass `spec` the type that it declares, in place.

    1, 1.0 and numpy's 1 compare and hash alike, but are spelt differently in JSON. Equal specs
    must have equal ids, so each value is turned into the one spelling of its type first.

    Raises:
        UserError: a value is not of its field's type, such as 1.5 epochs; the message names it.
    """
    cls: Any = type(spec)
    for name, declared in declared_fields(cls).items():
        value = getattr(spec, name)
        try:
            object.__setattr__(spec, name, _coerced(value, declared))
        except (TypeError, ValueError) as error:
            wanted = _in_words(declared)
            raise UserError(f"{name} is {value!r}; it must be {wanted}") from error


@cache
def declared_fields(cls: Any) -> dict[str, Any]:
    """Return the type that each field of a dataclass declares, by the field's name."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _coerced(value: Any, declared: Any) -> Any:
    """`value` as the type `declared`. Raises TypeError or ValueError where it is none."""
    origin, choices = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in choices:
            return None
        (declared, *others) = [c for c in choices if c is not type(None)]
        return value if isinstance(value, (declared, *others)) else _coerced(value, declared)
    if origin is typing.Literal:
        return _coerced(value, str)  # which ones are allowed is the spec's own check
    if origin is tuple:
        return _coerced_tuple(value, choices)
    if declared is bool:
        if not isinstance(value, BOOLS):
            raise TypeError
        return bool(value)
    if declared in (int, float):
        return _number(value, declared)
    if not isinstance(value, declared):
        raise TypeError
    return str(value) if declared is str else value


def _coerced_tuple(values: Any, of: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(values, str):
        raise TypeError
    values = tuple(values)
    if of[-1] is Ellipsis:
        of = of[:1] * len(values)
    if len(values) != len(of):
        raise ValueError
    return tuple(_coerced(value, declared) for value, declared in zip(values, of))


def _number(value: Any, declared: type) -> int | float:
    if isinstance(value, (*BOOLS, str, bytes)):
        raise TypeError  # True is no 1 here
    if declared is float:
        if not math.isfinite(value):
            raise ValueError
        return float(value) + 0.0  # -0.0 becomes 0.0
    if isinstance(value, (float, np.floating)) and value.is_integer():
        return int(value)
    return operator.index(value)


def _in_words(declared: Any) -> str:
    origin, choices = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(choice) for choice in choices)
    if origin is tuple:
        many = "numbers" if choices[0] in (int, float) else "values"
        return many if choices[-1] is Ellipsis else f"{len(choices)} {many}"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        type(None): "None",
    }
    return (
        names.get(declared, "text" if origin is typing.Literal or declared is str else "")
        or f"a {declared.__name__}"
    )


def all_or_one(what: str, value: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """Return all of `allowed` if `value` is empty, else `value` alone.

    Raises UserError, with the nearest name, where it is none of them.
    """
    if not value:
        return tuple(allowed)
    one_of(what, value, allowed)
    return (value,)
