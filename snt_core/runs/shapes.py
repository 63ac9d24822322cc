"""What a record's values must look like, as JSON Schema: types, ranges, which must be there.

Each kind declares the shape of its metrics beside the code that writes them::

    shape = fields(lambda_max=number(), residual=number(0), products=count(), converged=TRUTH)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import fastjsonschema

Shape = dict[str, Any]

# draft 4 alone tells 1.0 from a whole number
DRAFT = "http://json-schema.org/draft-04/schema"
MOST = 1e300  # beyond it sums and squares are not finite
MOST_COUNTED = 10**15

TRUTH: Shape = {"type": "boolean"}
TEXT: Shape = {"type": "string"}
ANY: Shape = {}


def number(low: float = -MOST, high: float = MOST) -> Shape:
    """Return the shape of a finite number in [low, high]."""
    return {"type": "number", "minimum": low, "maximum": high}


def count(low: int = 0, high: int = MOST_COUNTED) -> Shape:
    """Return the shape of a whole number in [low, high]."""
    return {"type": "integer", "minimum": low, "maximum": high}


def text(pattern: str) -> Shape:
    """Return the shape of a text that a regular expression matches whole."""
    return {"type": "string", "pattern": f"^(?:{pattern})\\Z"}


def many(of: Shape, least: int = 0) -> Shape:
    """Return the shape of a list of at least so many values."""
    return {"type": "array", "items": of, "minItems": least}


def fields(optional: Mapping[str, Shape] | None = None, /, **needed: Shape) -> Shape:
    """Return the shape of an object that has every key of `needed`. Other keys are free."""
    properties = {**needed, **(optional or {})}
    shape: Shape = {"type": "object", "properties": properties}
    return {**shape, "required": list(needed)} if needed else shape  # draft 4 knows no empty list


def mapping(of: Shape) -> Shape:
    """Return the shape of an object with any keys, of which each value is of one shape."""
    return {"type": "object", "additionalProperties": of, "minProperties": 1}


def nothing_or(of: Shape) -> Shape:
    """Return the shape of a value that may be null."""
    return {"anyOf": [{"type": "null"}, of]}


PERCENT = number(0, 100)
SHARE = number(0, 1)
MOMENT: Shape = {  # of this millennium, with its time zone
    **text("2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}[+-][0-9]{2}:[0-9]{2}"),
    "format": "moment",
}


def require(what: str, shape: Shape, value: Any) -> None:
    """Raise ValueError, which names the place in `what` and the rule, unless `value` has `shape`.

    A shape is compiled once; it is known by identity, since declarations live as long as modules.
    """
    _kept[id(shape)] = shape
    try:
        _compiled(id(shape))(value)
    except fastjsonschema.JsonSchemaValueException as error:
        raise ValueError(str(error.message).replace("data", what, 1)) from error


_kept: dict[int, Shape] = {}  # holds each shape, so that no other one gets its number


@cache
def _compiled(key: int) -> Callable[[Any], Any]:
    compiled: Callable[[Any], Any] = fastjsonschema.compile(
        {"$schema": DRAFT, **_kept[key]}, formats={"moment": _is_moment}
    )
    return compiled


def _is_moment(value: str) -> bool:
    """Whether a text is a time as records spell it, such as `2026-11-26T09:30:00+00:00`."""
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
