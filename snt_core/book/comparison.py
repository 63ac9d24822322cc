"""The same tasks with this package and with its peers, as `benchmarks.capabilities` found them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from snt_core.common.documents import read_json
from snt_core.common.errors import UserError

OURS = "snt_core"


def tasks(folder: Path) -> pd.DataFrame:
    """Return a row for each task: right answer, ours, the peers', and the command that shows it.

    A number in brackets counts the lines of code that a user writes, imports included. "-" stands
    for a library that has nothing for the task. `folder` holds `capabilities.json`.

    Raises:
        UserError: it does not.
    """
    return pd.DataFrame(
        {
            "task": row["asks"],
            "right": row["right"],
            "here": _told(row["libraries"].get(OURS)),
            "peers": _peers(row["libraries"]),
            "command": f"python -m benchmarks.capabilities {row['task']}",
        }
        for row in _read(folder)["rows"]
    )


def versions(folder: Path) -> str:
    """Return in a sentence which versions were compared, and on what."""
    body = _read(folder)
    named = ", ".join(f"{name} {number}" for name, number in body["versions"].items())
    return f"Compared: {named}; on {body['machine']}."


def _peers(libraries: dict[str, Any]) -> str:
    told = [f"{name} {_told(found)}" for name, found in libraries.items() if name != OURS]
    return "; ".join(told) or "-"


def _told(found: dict[str, Any] | None) -> str:
    return "-" if found is None else f"[{found['lines']}] {found['says']}"


def _read(folder: Path) -> dict[str, Any]:
    file = folder / "capabilities.json"
    if not file.is_file():
        raise UserError(f"there is no {file}; run 'python -m benchmarks.capabilities'")
    return dict(read_json(file))
