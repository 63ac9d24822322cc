"""The same tasks with this package and with its peers, as `benchmarks.capabilities` found them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from snt_core.common.documents import read_json
from snt_core.common.errors import UserError

OURS = "snt_core"


def tasks(folder: Path) -> pd.DataFrame:
    """Return a row for each task: its name for the command, right answer, ours, and the peers'.

    A number in brackets counts the lines of code that a user writes, imports included. "-" stands
    for a library that has nothing for the task. `folder` holds `capabilities.json`.

    Raises:
        UserError: it does not.
    """
    rows = _read(folder, "capabilities")["rows"]
    return pd.DataFrame(
        {
            "task": row["asks"],
            "NAME": row["task"],
            "right": row["right"],
            "here": _told(row["libraries"].get(OURS)),
            "peers": _peers(row["libraries"]),
        }
        for row in rows
    )


def nets(folder: Path) -> pd.DataFrame:
    """Return a row for each net and a column for each method: ✓ (works), refused, or n/a.

    `folder` holds `models.json`, as `python -m benchmarks.models` writes it.

    Raises:
        UserError: it does not.
    """
    return pd.DataFrame(
        {"net": row["net"]}
        | {name: cell["is"].replace("works", "✓") for name, cell in row["cells"].items()}
        for row in _read(folder, "models")["rows"]
    )


def versions(folder: Path) -> str:
    """Return in a sentence which versions were compared, and on what."""
    body = _read(folder, "capabilities")
    named = ", ".join(f"{name} {number}" for name, number in body["versions"].items())
    return f"Compared: {named}; on {body['machine']}."


def _peers(libraries: dict[str, Any]) -> str:
    told = [f"{name} {_told(found)}" for name, found in libraries.items() if name != OURS]
    return "; ".join(told) or "-"


def _told(found: dict[str, Any] | None) -> str:
    return "-" if found is None else f"[{found['lines']}] {found['says']}"


def _read(folder: Path, name: str) -> dict[str, Any]:
    file = folder / f"{name}.json"
    if not file.is_file():
        raise UserError(f"there is no {file}; run 'python -m benchmarks.{name}'")
    return dict(read_json(file))
