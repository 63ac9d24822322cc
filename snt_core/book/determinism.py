"""What repeats bit for bit, what within rounding, and what only as another sample would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from snt_core.common.documents import read_json
from snt_core.common.errors import UserError
from snt_core.runs.repeats import repeats
from snt_core.runs.store import Store

BITWISE = "bit for bit"


def changes(folder: Path) -> pd.DataFrame:
    """Return a row for each change of how one training is carried out, in a reader's words.

    `folder` holds `determinism.json`, as `python -m benchmarks.determinism` writes it.

    Raises:
        UserError: it does not.
    """
    return pd.DataFrame(
        {
            "what changes": row["change"],
            "weights": BITWISE if row["bitwise"] else f"differ by {_percent(row['relative'])}",
            "largest difference": f"{row['largest']:.1g}" if row["largest"] else "0",
            "top-1 (%)": " and ".join(f"{value:.2f}" for value in row["top1"]),
            "test images judged otherwise": f"{row['images_that_differ']} of {row['images']}",
        }
        for row in _read(folder)["rows"]
    )


def summary(folder: Path) -> str:
    """Return in two sentences what was changed, on what, and how much of it changed no bit."""
    body = _read(folder)
    same = sum(row["bitwise"] for row in body["rows"])
    return (
        f"A ResNet-20 with SNT was trained on digits for {body['steps']} steps, again and again "
        f"with one thing changed ({body['machine']}). Of {len(body['rows'])} changes {same} left "
        f"every weight as it was, to the last bit."
    )


def across_devices(store: Store) -> pd.DataFrame:
    """Return a row for each record that `snt verify` ran again: where, and the largest difference.

    The difference is of the headline numbers, as a share of the record's own.
    """
    there = {record.name: record for record in store.records()}
    return pd.DataFrame(
        {
            "kind of run": repeat.record.rpartition("-")[0].replace("_", " "),
            "first on": there[repeat.record].provenance["device"],
            "again on": repeat.provenance["device"],
            "numbers compared": len(repeat.numbers),
            "largest difference": _told(max(map(_share, repeat.numbers.values()), default=0.0)),
        }
        for repeat in repeats(store)
        if repeat.record in there
    )


def _share(pair: tuple[float, float]) -> float:
    old, new = pair
    return abs(new - old) / max(abs(old), 1e-12)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _told(share: float) -> str:
    if share < 1e-12:  # percentages of the same count may differ in their last digit
        return "none"
    return f"{share:.0e} of the number" if share < 1e-4 else _percent(share)


def _read(folder: Path) -> dict[str, Any]:
    file = folder / "determinism.json"
    if not file.is_file():
        raise UserError(f"there is no {file}; run 'python -m benchmarks.determinism'")
    return dict(read_json(file))
