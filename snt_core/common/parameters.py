"""A chapter's parameters: what its cell declares, and given values as the declared types.

Whatever brings a value, `snt chapter`, plain papermill or a notebook's own cell, it is read here,
so that the same mistake is told in the same words.
"""

from __future__ import annotations

import ast
import collections.abc
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from snt_core.common.errors import UserError, unknown

INJECTED = "# Parameters"  # the first line of the cell that papermill writes


@dataclass(frozen=True)
class Parameter:
    """One line of a chapter's `parameters` cell: `name: annotation = default  # comment`."""

    name: str
    annotation: str
    default: Any
    comment: str


def _whole(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    return float(value)


def _truth(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        raise ValueError
    return "" if value is None else str(value)  # papermill's null is nothing given


# how a value is read, what to call it in an error, and an example
_READ: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "str": (_text, "text", "name"),
    "int": (_whole, "a whole number", "3"),
    "float": (_number, "a number", "0.1"),
    "bool": (_truth, "true or false", "true"),
    "list[str]": (_text, "names", "a,b"),
    "list[int]": (_whole, "whole numbers", "0,1,2"),
    "list[float]": (_number, "numbers", "0.1,0.5"),
}


def typed(subject: str, name: str, annotation: str, value: Any) -> Any:
    """Return `value` ("0,1", 1 or [0, 1] for a `list[int]`) as the type that is declared.

    Raises:
        UserError: it is of another type; `subject` is what was asked for.
    """
    read, kind, example = _READ[annotation]
    is_list = annotation.startswith("list")
    try:
        values = [read(item) for item in (_items(value) if is_list else [value])]
    except (ValueError, KeyError, OverflowError) as error:
        raise UserError(
            f"{subject} takes {kind} for {name}, not '{value}' (write {name}={example})"
        ) from error
    return values if is_list else values[0]


def _items(value: Any) -> Sequence[Any]:
    """Return the items of a list, written `0,1` or `[0, 1]`, given as a list or as one item."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, list | tuple) else [value]
    inside = value.strip().removeprefix("[").removesuffix("]")
    return [item.strip().strip("'\"") for item in inside.split(",") if inside.strip()]


def spelt(hint: Any) -> str:
    """Return the annotation that a parameter has for an argument of the type `hint`."""
    if typing.get_origin(hint) in (collections.abc.Sequence, list, tuple):
        return f"list[{typing.get_args(hint)[0].__name__}]"
    return str(hint.__name__)


def declared(source: str, where: str) -> dict[str, Parameter]:
    """Return what a `parameters` cell declares. Nothing of it is run; `where` names the cell.

    Raises:
        UserError: a line is not `name: type = value` with a type that can be given from outside.
    """
    try:
        lines, body = source.splitlines(), ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{where} is no Python: {error}") from error
    found = {}
    for node in body:
        line = lines[node.lineno - 1].strip()
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            raise UserError(
                f"{where} has the line '{line}'; each line declares one parameter with its type, "
                f"such as 'profile: str = \"published\"'"
            )
        name, annotation = node.target.id, ast.unparse(node.annotation)
        if annotation not in _READ:
            raise UserError(f"{where}: {unknown(f'type of {name}', annotation, _READ)}")
        try:
            plain = ast.literal_eval(node.value or ast.Name("nothing"))
            default = typed(where, name, annotation, plain)
        except (ValueError, TypeError) as error:
            raise UserError(f"{where} has the line '{line}'; give {name} a plain value") from error
        comment = lines[(node.end_lineno or 1) - 1].encode()[node.end_col_offset or 0 :].decode()
        found[name] = Parameter(name, annotation, default, comment.strip().lstrip("# "))
    return found


def misspelt(subject: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise UserError, with the nearest name, where something was given that is not declared."""
    for name in given:
        if name not in known:
            raise unknown(f"parameter of {subject}", name, known)


def check_injected(subject: str, cells: Sequence[str]) -> None:
    """Raise UserError where papermill's cell sets a name that the cell before it does not declare.

    papermill itself only warns of it, and the chapter would run as if nothing had been given.

    Args:
        cells: the sources of the cells that ran, in their order.
    """
    for before, cell in pairwise(cells):
        if not cell.startswith(INJECTED):
            continue
        names, known = _assigned(cell, ast.Assign), _assigned(before, ast.AnnAssign)
        if known:  # else another cell was run before it, by hand
            misspelt(subject, names, known)


def _assigned(source: str, kind: type[ast.stmt]) -> dict[str, None]:
    """Return the names that a cell's statements of one kind assign, in their order."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell that failed stands in the history too
        return {}
    targets = [
        target
        for node in body
        if isinstance(node, kind)
        for target in getattr(node, "targets", None) or [getattr(node, "target", None)]
    ]
    return {target.id: None for target in targets if isinstance(target, ast.Name)}
