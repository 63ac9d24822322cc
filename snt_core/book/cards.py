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

from snt_core.paper import forest, numbers, words
from snt_core.paper.artefacts import PARTS
from snt_core.paper.recipes import BACKBONES, LABELS, stands_in
from snt_core.paper.selection import Selection
from snt_core.paper.verdict import NOT_RUN, VERDICTS, Judged, Verdict, judge
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


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


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


def comparison(selection: Selection, frame: pd.DataFrame) -> HTML:
    """Return paper beside ours; no difference where smoke's data or another net stand in."""
    nets = [record.spec.net for record in selection.records]
    comparable = selection.profile.verdicts and not any(stands_in(net) for net in nets)
    return table(frame if comparable else frame.drop(columns="ours - paper", errors="ignore"))


def table(frame: pd.DataFrame) -> HTML:
    """Return a frame as a table that scrolls inside the page; a word where it is empty."""
    if frame.empty:
        return HTML("<p>Nothing was recorded for this table yet.</p>")
    frame = frame.rename(columns=LABELS).replace({"approach": LABELS, "model": BACKBONES})
    html = frame.to_html(
        index=False,
        na_rep="-",
        float_format=lambda x: f"{x:.4g}" if abs(x) < 0.1 else f"{x:.2f}",
        border=0,
        classes="dataframe",
    )
    return HTML(f'<div class="table-scroll">{html}</div>')


def listing(entries: Sequence[str]) -> HTML:
    """Return texts as a list."""
    return HTML(f"<ul>{''.join(f'<li>{escape(entry)}</li>' for entry in entries)}</ul>")


def tables(*frames: pd.DataFrame) -> HTML:
    """Return several frames, one table below the other."""
    return HTML("".join(table(frame).data for frame in frames))


def outcome(claim: str, *selections: Selection) -> HTML:
    """Return what came out of a claim, in words."""
    found = judge(claim, *selections)
    told = words.outcome(found)
    opening = f"<strong>What came out: {escape(found.verdict)}.</strong>"
    if len(told) == 1:
        return HTML(f"<p>{opening} {escape(told[0])}</p>")
    return HTML(f"<p>{opening}</p>{listing(told).data}")


def outcomes(*evidence: tuple[Any, ...]) -> HTML:
    """Return what came out of several claims: tuples of a claim and the selections it rests on."""
    return HTML("".join(outcome(claim, *selections).data for claim, *selections in evidence))


def verdict(claim: str, *selections: Selection) -> HTML:
    """Return a card: what the paper claims, and what the records say of each assertion in it."""
    found = judge(claim, *selections)
    entry = numbers.claims()[claim]
    lines = [
        f"<p><strong>{escape(found.verdict)}</strong>: {escape(entry['says'])} "
        f"<em>({escape(entry['where'])})</em></p>",
        _assertions(found.assertions),
    ]
    if any("one seed" in one.flags for one in found.assertions):
        lines.append(f"<p>{ONE_SEED}</p>")
    for name in sorted({s.profile.name for s in selections if not s.profile.verdicts}):
        lines.append(f"<p>Profile {name} gives no verdict.</p>")
    return HTML(f'<div class="verdict verdict-{_kind(found.verdict)}">{"".join(lines)}</div>')


ONE_SEED = (
    "With one seed the interval covers the sampling of test images, not variation between "
    "trainings, so nothing is settled."
)


def _assertions(assertions: Sequence[Judged]) -> str:
    heads = ("assertion", "verdict", "observed [95 %]", "the paper", "seeds", "flags")
    rows = []
    for one in assertions:
        observed = escape(one.measured) or escape(one.text)
        cells = (
            escape(one.says),
            _chip(one.verdict),
            f"{observed}<br><small>{escape(one.unit)}</small>" if one.measured else observed,
            escape(one.claimed) or "-",
            str(one.n or "-"),
            escape(", ".join(one.flags)) or "-",
        )
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    return _html_table(heads, rows, "assertions")


def _chip(verdict: str) -> str:
    return f'<span class="verdict-chip verdict-{_kind(verdict)}">{escape(verdict)}</span>'


def _kind(verdict: str) -> str:
    """The verdict as a class of the style sheet."""
    return verdict.replace(" ", "-")


def _html_table(heads: Sequence[str], rows: Sequence[str], kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="table-scroll"><table class="dataframe {kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def scoreboard(
    verdicts: Sequence[Verdict], links: Mapping[str, str] = MappingProxyType({})
) -> HTML:
    """Return the claims in one table, those not run folded below it.

    `links` maps an artefact to its chapter's page.
    """
    if not verdicts:
        return HTML("<p>None.</p>")
    judged = [found for found in verdicts if found.verdict != NOT_RUN]
    others = [found for found in verdicts if found.verdict == NOT_RUN]
    kinds = Counter(found.verdict for found in verdicts)
    tally = ", ".join(f"{kinds[kind]} {kind}" for kind in VERDICTS if kinds[kind])
    html = f"<p>Of {len(verdicts)} claims: {tally}.</p>"
    if judged:
        html += _claims(judged, links)
    if others:
        summary = f"<summary>{_plural(len(others), 'claim')} not run</summary>"
        html += f'<details class="unrun">{summary}{_claims(others, links)}</details>'
    return HTML(html)


def _claims(verdicts: Sequence[Verdict], links: Mapping[str, str]) -> str:
    heads = ("claim", "the paper says", "verdict", "assertions", "what decides [95 %]", "the paper")
    rows = []
    for found in verdicts:
        entry, shown = numbers.claims()[found.id], found.leading
        name = escape(found.id)
        if page := links.get(found.chapter):
            name = f'<a href="{escape(page)}">{name}</a>'
        effect = "-"
        if shown.measured:
            flags = f"<br><small>{escape(', '.join(shown.flags))}</small>" if shown.flags else ""
            effect = f"{escape(shown.says)}<br>{shown.measured} {escape(shown.unit)}{flags}"
        cells = (
            f"{name}<br><small>{escape(entry['where'])}</small>",
            escape(entry["says"]),
            _chip(found.verdict),
            escape(found.tally),
            effect,
            escape(shown.claimed) or "-",
        )
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    return _html_table(heads, rows, "scoreboard")


def picture(verdicts: Sequence[Verdict], links: Mapping[str, str] = MappingProxyType({})) -> HTML:
    """Return all measured assertions in one picture, drawn into the page so that its links work."""
    svg = io.StringIO()
    forest.figure(verdicts, links).savefig(svg, format="svg", bbox_inches="tight", pad_inches=0.03)
    drawn = svg.getvalue()[svg.getvalue().index("<svg") :]
    for name, title in forest.titles(verdicts).items():
        drawn = drawn.replace(f'<g id="{name}">', f'<g id="{name}"><title>{escape(title)}</title>')
    label = escape(forest.alt(verdicts), quote=True)
    return HTML(f'<div class="picture" role="group" aria-label="{label}">{drawn}</div>')


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
    if not selection.is_measured:
        links = ["no numbers yet"]
    label = f"{escape(' '.join(part))}: " if part else ""
    return HTML(f"<p>{label}{' · '.join(links)} · <code>{escape(command)}</code></p>")


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _link(name: str, kind: str, content: str, label: str) -> str:
    data = base64.b64encode(content.encode()).decode()
    return f'<a download="{name}" href="data:{kind};base64,{data}">{label}</a>'
