"""What a chapter shows beside its figure: badge, comparison, verdict, provenance, downloads."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from snt_core.paper import numbers
from snt_core.paper.artefacts import PARTS
from snt_core.paper.recipes import BACKBONES, LABELS, stands_in
from snt_core.paper.selection import Selection
from snt_core.paper.verdict import Verdict, judge
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
        f"{_plural(len(selection.seeds), 'seed')} ({', '.join(map(str, selection.seeds))})",
        f"device {', '.join(devices)}",
        days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
    ]
    marks = "".join(f'<span class="badge">{escape(fact)}</span>' for fact in facts)
    note = (
        "" if selection.profile.verdicts else f"<p><em>{escape(selection.profile.says)}.</em></p>"
    )
    return HTML(f'<div class="badge-row">{marks}</div>{note}')


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def nets(selection: Selection) -> HTML:
    """Return what was trained: what all nets share in a line, what differs in a table."""
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


def comparison(selection: Selection, frame: pd.DataFrame) -> HTML:
    """Return paper beside ours; no difference where smoke's data or another net stand in."""
    nets = [record.spec.net for record in selection.records]
    comparable = selection.profile.verdicts and not any(stands_in(net) for net in nets)
    return table(frame if comparable else frame.drop(columns="ours - paper"))


def table(frame: pd.DataFrame) -> HTML:
    """Return a frame as a table that scrolls inside the page."""
    frame = frame.rename(columns=LABELS).replace({"approach": LABELS, "model": BACKBONES})
    html = frame.to_html(
        index=False,
        na_rep="-",
        float_format=lambda x: f"{x:.4g}" if abs(x) < 0.1 else f"{x:.2f}",
        border=0,
        classes="dataframe",
    )
    return HTML(f'<div class="table-scroll">{html}</div>')


def tables(*frames: pd.DataFrame) -> HTML:
    """Return several frames, one table below the other."""
    return HTML("".join(table(frame).data for frame in frames))


def verdict(claim: str, *selections: Selection) -> HTML:
    """Return a card: the claim's text, its test, and what the records say of it."""
    found = judge(claim, *selections)
    entry = numbers.claims()[claim]
    lines = [
        f"<strong>{escape(found.verdict)}</strong>: {escape(entry['says'])} "
        f"<em>({escape(entry['where'])})</em>",
        f"Test: {escape(entry['test'])}.",
    ]
    if found.text:
        lines.append(f"Found: {escape(found.text)}.")
    if found.effect is not None:
        within = "no interval"
        if found.low is not None:
            within = f"95 % interval {found.low:+.2f} to {found.high:+.2f}"
        lines.append(
            f"Effect: {found.effect:+.2f} {escape(found.unit)} ({within}, "
            f"{_plural(found.n, 'seed')}, profile {found.profile})."
        )
    for name in sorted({r.profile.name for r in selections if not r.profile.verdicts}):
        lines.append(f"Profile {name} gives no verdict.")
    body = "".join(f"<p>{line}</p>" for line in lines)
    return HTML(f'<div class="verdict verdict-{found.verdict.replace(" ", "-")}">{body}</div>')


def scoreboard(
    verdicts: Sequence[Verdict], links: Mapping[str, str] = MappingProxyType({})
) -> HTML:
    """Return the claims in one table; `links` maps an artefact to its chapter's page."""
    if not verdicts:
        return HTML("<p>None.</p>")
    rows = []
    for found in verdicts:
        entry = numbers.claims()[found.id]
        page = links.get(found.chapter or "")
        name = escape(found.id)
        if page:
            name = f'<a href="{escape(page)}">{name}</a>'
        effect = "-"
        if found.measured:
            effect = f"{found.measured}<br><small>{escape(found.unit)}</small>"
        kind = found.verdict.replace(" ", "-")
        rows.append(
            f"<tr><td>{name}<br><small>{escape(entry['where'])}</small></td>"
            f"<td>{escape(entry['says'])}</td>"
            f'<td><span class="verdict-chip verdict-{kind}">{escape(found.verdict)}</span></td>'
            f"<td>{effect}</td><td>{escape(found.profile or '-')}</td>"
            f"<td>{found.n or '-'}</td></tr>"
        )
    head = "".join(
        f"<th>{h}</th>"
        for h in ("claim", "the paper says", "verdict", "effect [95 %]", "profile", "seeds")
    )
    kinds = Counter(found.verdict for found in verdicts)
    order = ("reproduced", "partly", "not", "not run")
    tally = ", ".join(f"{kinds[kind]} {kind}" for kind in order if kinds[kind])
    return HTML(
        f"<p>Of {len(verdicts)} claims: {tally}.</p>"
        f'<div class="table-scroll"><table class="dataframe scoreboard"><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


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


def downloads(selection: Selection, frame: pd.DataFrame, figure: Figure) -> HTML:
    """Return links that hold their files, so that they work offline, and the command."""
    svg = io.StringIO()
    figure.savefig(svg, format="svg", bbox_inches="tight")
    csv = frame.drop(columns=["correct", "id"], errors="ignore").to_csv(index=False)
    options = {k: v for k, v in selection.options.items() if k not in PARTS}
    chosen = {"profile": selection.profile.name, "seeds": selection.seeds, **options}
    words = [f"-p {name}={_word(value)}" for name, value in chosen.items()]
    command = f"snt chapter {selection.artefact} {' '.join(words)}"
    part = [selection.options[name] for name in PARTS if selection.options.get(name)]
    name = "-".join([selection.artefact, *part])
    links = [
        _link(f"{name}.csv", "text/csv", csv, "numbers (CSV)"),
        _link(f"{name}.svg", "image/svg+xml", svg.getvalue(), "figure (SVG)"),
    ]
    label = f"{escape(' '.join(part))}: " if part else ""
    return HTML(f"<p>{label}{' · '.join(links)} · <code>{escape(command)}</code></p>")


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _link(name: str, kind: str, content: str, label: str) -> str:
    data = base64.b64encode(content.encode()).decode()
    return f'<a download="{name}" href="data:{kind};base64,{data}">{label}</a>'
