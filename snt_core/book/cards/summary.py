"""What a chapter rests on, at a glance: profile, data, nets, seeds, device."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML

from snt_core.book.cards.tables import table
from snt_core.paper import words
from snt_core.paper.recipes import BACKBONES, DATASETS, LABELS
from snt_core.paper.selection import Selection
from snt_core.runs.identity import run_id, to_dict
from snt_core.runs.spec import Net


def badge(selection: Selection) -> HTML:
    """Return one line: profile, data set, net, seeds, device and date of the records."""
    provenances = [record.provenance for record in selection.records]
    devices = sorted({p["device"] for p in provenances})
    days = sorted({p["started"][:10] for p in provenances})
    shown = [
        f"profile {selection.profile.name}",
        ", ".join(_on(record.spec.net for record in selection.records)),
        f"{words.plural(len(selection.seeds), 'seed')} ({', '.join(map(str, selection.seeds))})",
        f"device {', '.join(devices)}" if devices else "no records yet",
        " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
    ]
    marks = "".join(f'<span class="badge">{escape(fact)}</span>' for fact in shown if fact)
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


def paragraph(text: str) -> HTML:
    """Return a text as a paragraph, where it stays text whatever records have put into it."""
    return HTML(f"<p>{escape(text)}</p>")


def facts(*selections: Selection) -> str:
    """Return what a figure rests on in words: nets, data, profile and seeds of its records.

    Where an approach has other seeds than the rest, they stand behind it.
    """
    found = []
    for profile in dict.fromkeys(s.profile.name for s in selections):
        nets = [r.spec.net for s in selections if s.profile.name == profile for r in s.records]
        seeds = {
            approach: sorted({net.seed for net in nets if net.approach == approach})
            for approach in dict.fromkeys(net.approach for net in nets)
        }
        if nets:
            found.append(f"{', '.join(_on(nets))}; profile {profile}, {_seeds(seeds)}")
    return "; ".join(found)


def _on(nets: Iterable[Net]) -> list[str]:
    """Return each net and its data set in words, once."""
    named = (
        f"{BACKBONES.get(net.model, net.model)} on {DATASETS.get(net.data, net.data)}"
        for net in nets
    )
    return list(dict.fromkeys(named))


def _seeds(by_approach: dict[str, list[int]]) -> str:
    """Name the seeds that most approaches have, and the approaches that have others."""
    sets = [tuple(seeds) for seeds in by_approach.values()]
    usual = max(sets, key=sets.count)
    others = [
        f"{LABELS[approach]} {', '.join(map(str, seeds))}"
        for approach, seeds in by_approach.items()
        if tuple(seeds) != usual
    ]
    noun = "seed" if len(usual) == 1 else "seeds"
    return f"{noun} {', '.join(map(str, usual))}" + f" ({'; '.join(others)})" * bool(others)


# field of a net or its recipe -> how a reader names it, in the order of the table
FIELDS = {
    "approach": "approach",
    "model": "net",
    "data": "data set",
    "variant": "architecture",
    "source": "checkpoint",
    "revision": "revision",
    "optimizer": "optimiser",
    "rho": "SAM's radius",
    "adaptive": "adaptive radius",
    "epochs": "epochs",
    "batch_size": "batch size",
    "lr": "peak learning rate",
    "warmup_epochs": "epochs of warm-up",
    "weight_decay": "weight decay",
    "augment": "augmentation",
    "ema": "decay of averaged weights",
    "val_size": "validation images",
}
UNUSED = (None, False, 0, 0.0, "")  # a setting that is off needs no word where no net has it on


def nets(selection: Selection) -> HTML:
    """Return what was trained: what all nets share in a line, what differs in a table.

    A row stands for the nets that differ by seed alone.
    """
    if not selection.records:
        return HTML("<p>No net was trained for this yet.</p>")
    nets = {run_id(net): net for net in (record.spec.net for record in selection.records)}
    rows: dict[tuple[Any, ...], list[int]] = {}
    for net in nets.values():
        rows.setdefault(tuple(_settings(net).items()), []).append(net.seed)
    frame = pd.DataFrame(dict(row) for row in rows)
    frame = frame[[f for f in FIELDS if f in frame and not frame[f].isin(UNUSED).all()]]
    same = [c for c in frame.columns if c != "approach" and frame[c].nunique() == 1]
    shared = ", ".join(f"{FIELDS[name]} {frame[name].iloc[0]}" for name in same)
    varied = frame.drop(columns=same).replace({"rho": {0.0: "none"}}).rename(columns=FIELDS)
    varied["seeds"] = [", ".join(map(str, sorted(seeds))) for seeds in rows.values()]
    return HTML(f"{table(varied).data}<p>In all of them: {escape(shared)}.</p>")


def _settings(net: Net) -> dict[str, Any]:
    """Return a net's settings but for its seed, in words where there are."""
    spec = to_dict(net)
    settings = {**spec, **spec.pop("recipe", {}), "approach": LABELS[net.approach]}
    settings["model"] = BACKBONES.get(net.model, net.model)
    settings["data"] = DATASETS.get(net.data, net.data)
    return {name: settings[name] for name in FIELDS if name in settings}
