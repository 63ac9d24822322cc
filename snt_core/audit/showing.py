"""An audit as the book's chapter shows it: of the reader's net, or of an example."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from snt_core.audit.auditing import audit, store_of
from snt_core.audit.frames import findings, layers, scores
from snt_core.audit.preparing import Asked
from snt_core.common.errors import UserError
from snt_core.common.terminal import say
from snt_core.runs.budget import budget_of
from snt_core.runs.store import open_store

EXAMPLE = "example.json"  # what `snt audit example --json` wrote, beside the audits' records
NOTHING = "No net is named, and nothing is computed for a page that is only opened."


@dataclass(frozen=True)
class Shown:
    """What a page shows: sentences, and the tables behind its figures."""

    told: list[str]
    scores: pd.DataFrame
    layers: pd.DataFrame


def shown(
    target: str = "",
    data: str = "",
    *,
    weights: str = "",
    budget: str = "10m",
    profile: str = "published",
    store: str = "",
) -> Shown:
    """Return an audit of `target` on `data`, measured now as far as it is not recorded.

    Without a target: at profile smoke the example is measured, in seconds; otherwise what the
    store holds of the example is shown, and nothing is computed.

    Raises UserError, as `snt audit` does.
    """
    place = open_store(store)
    if not target and profile != "smoke":
        return _kept(place.folder / "audits" / EXAMPLE)
    limit = budget_of(budget)
    if limit is None:
        raise UserError("budget is empty; give a time above 0, such as 90s or 10m")
    asked = Asked(target=target or "example", data=data, weights=weights)
    done = audit(asked, store_of(place), limit, say)
    return Shown([*done.notes, *findings(done)], scores(done), layers(done))


def _kept(file: object) -> Shown:
    try:
        with open(str(file), encoding="utf-8") as lines:
            body = json.load(lines)
        told = [str(line) for line in body["findings"]]
        return Shown(told, pd.DataFrame(body["settings"]), pd.DataFrame(body["layers"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Shown([NOTHING], pd.DataFrame(), pd.DataFrame())
