"""What a chapter rests on, at a glance: profile, data, nets, seeds, device."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML

from snt_core.book.cards.tables import table
from snt_core.paper import words
from snt_core.paper.recipes import LABELS
from snt_core.paper.selection import Selection
from snt_core.runs.identity import run_id, to_dict


def badge(selection: Selection) -> HTML:
    """Return one line: profile, data set, net, seeds, device and date of the records."""
    provenances = [record.provenance for record in selection.records]
    devices = sorted({p["device"] for p in provenances})
    days = sorted({p["started"][:10] for p in provenances})
    data = sorted({record.spec.net.data for record in selection.records})
    models = sorted({record.spec.net.model for record in selection.records})
    facts = [
        f"profile {selection.profile.name}",
        ", ".join(data),
        ", ".join(models),
        f"{words.plural(len(selection.seeds), 'seed')} ({', '.join(map(str, selection.seeds))})",
        f"device {', '.join(devices)}" if devices else "no records yet",
        " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
    ]
    marks = "".join(f'<span class="badge">{escape(fact)}</span>' for fact in facts if fact)
    note = (
        "" if selection.profile.verdicts else f"<p><em>{escape(selection.profile.says)}.</em></p>"
    )
    if not selection.is_measured and selection.specs:
        asked = f"--profile {selection.profile.name} --only {selection.artefact}"
        note = (
            f"<p>Not run yet. <code>snt plan {asked}</code> says what it would cost, "
            f"<code>snt run {asked}</code> does it.</p>"
        )
    return HTML(f'<div class="badge-row">{marks}</div>{note}')


def nets(selection: Selection) -> HTML:
    """Return what was trained: what all nets share in a line, what differs in a table."""
    if not selection.records:
        return HTML("<p>No net was trained for this yet.</p>")
    nets = {run_id(net): net for net in (record.spec.net for record in selection.records)}
    specs = list(nets.values())
    frame = pd.DataFrame({"seed": s.seed, **_flat(to_dict(s))} for s in specs)
    frame = frame.drop(columns="approach", errors="ignore")
    frame.insert(0, "approach", [LABELS[spec.approach] for spec in specs])
    same = [c for c in frame.columns if c != "approach" and frame[c].nunique() == 1]
    shared = ", ".join(f"{name} {frame[name].iloc[0]}" for name in same)
    shown = table(frame.drop(columns=same)).data
    return HTML(f"{shown}<p>In all of them: {escape(shared)}.</p>")


def _flat(spec: dict[str, Any]) -> dict[str, Any]:
    values = {**{k: v for k, v in spec.items() if k != "recipe"}, **spec.get("recipe", {})}
    return {k: str(v) if isinstance(v, list) else v for k, v in values.items()}
