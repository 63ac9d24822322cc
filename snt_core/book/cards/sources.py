"""Where the numbers come from: the records behind a page."""

from __future__ import annotations

from typing import Any

import pandas as pd
from IPython.display import HTML

from snt_core.book.cards.tables import table
from snt_core.paper.recipes import BACKBONES
from snt_core.paper.selection import Selection
from snt_core.paper.words import plural


def provenance(*selections: Selection) -> HTML:
    """Return every record behind the page, folded: what it is, where, when, how long.

    In the built book each leads to its page (see `record_extension`), which has the rest.
    """
    records = {record.id: record for selection in selections for record in selection.records}
    frame = pd.DataFrame(
        {
            "record": record.name,
            "profile": record.profile,
            "net": BACKBONES.get(record.spec.net.model, record.spec.net.model),
            "approach": record.spec.net.approach,
            "seed": record.spec.net.seed,
            "ended": record.status,
            "day (UTC)": record.provenance["started"][:10],
            "seconds of work": record.provenance["seconds"],
            "device": record.provenance["device"],
            "commit": _commit(record.provenance),
        }
        for record in records.values()
    )
    if frame.empty:
        return table(frame)
    if frame.profile.nunique() == 1:  # the badge says it
        frame = frame.drop(columns="profile")
    if (frame.ended == "done").all():
        frame = frame.drop(columns="ended")
    opening = f"<summary>{plural(len(frame), 'record')}: what ran, where and when</summary>"
    files = "<p>Each is a file of the store: <code>records/PROFILE/RECORD.json</code>.</p>"
    return HTML(f'<details class="records">{opening}{files}{table(frame).data}</details>')


def _commit(facts: dict[str, Any]) -> str:
    """Return the commits of the code: this process's, and those of the ones before it."""
    sessions = [*facts.get("interrupted", ()), facts]
    names = [(s["commit"] or "unknown")[:10] + "+changes" * bool(s["dirty"]) for s in sessions]
    return ", ".join(dict.fromkeys(names))
