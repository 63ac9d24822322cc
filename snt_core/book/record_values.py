"""The nested values of a record as rows and tables that can be read; long ones are shortened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TEXT = 60  # characters of a text that are shown
VALUES = 6  # of a list of numbers
ROWS = 24  # of a table


@dataclass(frozen=True)
class Grid:
    """A list of like entries as a table; `more` rows are not shown."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    more: int = 0


@dataclass(frozen=True)
class Shown:
    """Nested values for a page: single ones as pairs of a name and a text, lists as tables."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)


def shown(values: Mapping[str, Any]) -> Shown:
    """Return values for a page; what is nested is named by its path, such as `recipe.lr`."""
    found = Shown()
    for name, value in values.items():
        _add(found, name, value)
    return found


def _add(found: Shown, name: str, value: Any) -> None:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            _add(found, f"{name}.{key}", inner)
    elif _is_table(value):
        found.grids.append(grid(name, value))
    else:
        found.pairs.append((name, text(value)))


def _is_table(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str) and bool(value)
    return listed and all(isinstance(entry, Mapping) for entry in value)


def grid(title: str, entries: Sequence[Mapping[str, Any]]) -> Grid:
    """Return entries as a table with a column for each key that some entry has."""
    heads = list(dict.fromkeys(str(key) for entry in entries for key in entry))
    rows = [[text(entry.get(head)) for head in heads] for entry in entries[:ROWS]]
    return Grid(title, heads, rows, max(len(entries) - ROWS, 0))


def text(value: Any) -> str:
    """Return one value as text. What is long is cut, and its length is told."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _listed(value)
    told = str(value)
    return told if len(told) <= TEXT else f"{told[:12]}… ({len(told):,} characters)"


def _listed(values: Sequence[Any]) -> str:
    if not values:
        return "none"
    if all(isinstance(value, Sequence) and not isinstance(value, str) for value in values):
        widths = sorted({len(value) for value in values})
        return f"{len(values)} lists of {' to '.join(map(str, widths[:: len(widths) - 1 or 1]))}"
    told = ", ".join(text(value) for value in values[:VALUES])
    return told if len(values) <= VALUES else f"{told}, … ({len(values):,} values)"
