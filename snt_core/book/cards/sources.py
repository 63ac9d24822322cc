"""Where the numbers come from: the records behind a page."""

from __future__ import annotations

from typing import Any

import pandas as pd
from IPython.display import HTML

from snt_core.book.cards.tables import table
from snt_core.paper.selection import Selection


def provenance(*selections: Selection) -> HTML:
    """Return every record behind the page: id, what it is, where, when, how long."""
    records = {record.id: record for selection in selections for record in selection.records}
    frame = pd.DataFrame(
        {
            "record": record.name,
            "profile": record.profile,
            "model": record.spec.net.model,
            "approach": record.spec.net.approach,
            "seed": record.spec.net.seed,
            "images": record.n_samples,
            "status": record.status,
            "started (UTC)": record.provenance["started"][:16].replace("T", " "),
            "seconds": record.provenance["seconds"],
            "memory (MB)": record.provenance["peak_memory_mb"],
            "dtype": record.provenance["dtype"],
            "torch": record.provenance["torch"],
            "commit": _commit(record.provenance),
        }
        for record in records.values()
    )
    return table(frame)


def _commit(facts: dict[str, Any]) -> str:
    """Return the commits of the code: this process's, and those of the ones before it."""
    sessions = [*facts.get("interrupted", ()), facts]
    names = [(s["commit"] or "unknown")[:10] + "+changes" * bool(s["dirty"]) for s in sessions]
    return ", ".join(dict.fromkeys(names))
