"""What came out of the claims: sentences, cards, the scoreboard and its picture."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any

from IPython.display import HTML

from snt_core.book.cards.tables import html_table, listing
from snt_core.paper import forest, numbers, words
from snt_core.paper.selection import Selection
from snt_core.paper.verdict import NOT_RUN, VERDICTS, Judged, Verdict, judge


def outcome(claim: str, *selections: Selection) -> HTML:
    """Return what came out of a claim, in words."""
    return HTML(_told("What came out", claim, *selections))


def outcomes(*evidence: tuple[Any, ...]) -> HTML:
    """Return what came out of several claims: tuples of a claim and the selections it rests on."""
    named = [_told(claim, claim, *selections) for claim, *selections in evidence]
    return HTML(f"<p><strong>What came out</strong>, claim by claim:</p>{''.join(named)}")


def _told(opening: str, claim: str, *selections: Selection) -> str:
    found = judge(claim, *selections)
    told = words.outcome(found)
    start = f"<strong>{escape(opening)}: {escape(found.verdict)}.</strong>"
    if len(told) == 1:
        return f"<p>{start} {escape(told[0])}</p>"
    return f"<p>{start}</p>{listing(told).data}"


def verdict(claim: str, *selections: Selection) -> HTML:
    """Return a card: what the paper claims, and what the records say of each assertion in it."""
    found = judge(claim, *selections)
    entry = numbers.claims()[claim]
    lines = [
        f"<p><strong>{escape(found.verdict)}</strong>: {escape(entry['says'])} "
        f"<em>({escape(entry['where'])})</em></p>",
        _assertions(found.assertions, f"Assertions of the claim {claim}"),
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


def _assertions(assertions: Sequence[Judged], name: str) -> str:
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
        rows.append(cells)
    return html_table(heads, rows, "assertions", hidden=name)


def _chip(verdict: str) -> str:
    return f'<span class="verdict-chip verdict-{_kind(verdict)}">{escape(verdict)}</span>'


def _kind(verdict: str) -> str:
    """The verdict as a class of the style sheet."""
    return verdict.replace(" ", "-")


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
        html += _claims(judged, links, "The claims that were judged")
    if others:
        summary = f"<summary>{words.plural(len(others), 'claim')} not run</summary>"
        folded = _claims(others, links, "The claims that were not run")
        html += f'<details class="unrun">{summary}{folded}</details>'
    return HTML(html)


def _claims(verdicts: Sequence[Verdict], links: Mapping[str, str], name: str) -> str:
    heads = ("claim", "the paper says", "verdict", "assertions", "what decides [95 %]", "the paper")
    rows = []
    for found in verdicts:
        entry, shown = numbers.claims()[found.id], found.leading
        claim = escape(found.id)
        if page := links.get(found.chapter):
            claim = f'<a href="{escape(page)}">{claim}</a>'
        effect = "-"
        if shown.measured:
            flags = f"<br><small>{escape(', '.join(shown.flags))}</small>" if shown.flags else ""
            effect = f"{escape(shown.says)}<br>{shown.measured} {escape(shown.unit)}{flags}"
        cells = (
            f"{claim}<br><small>{escape(entry['where'])}</small>",
            escape(entry["says"]),
            _chip(found.verdict),
            escape(found.tally),
            effect,
            escape(shown.claimed) or "-",
        )
        rows.append(cells)
    return html_table(heads, rows, "scoreboard", hidden=name)


def picture(verdicts: Sequence[Verdict], links: Mapping[str, str] = MappingProxyType({})) -> HTML:
    """Return all measured assertions in one picture, drawn into the page so that its links work."""
    svg = io.StringIO()
    forest.figure(verdicts, links).savefig(svg, format="svg", bbox_inches="tight", pad_inches=0.03)
    drawn = svg.getvalue()[svg.getvalue().index("<svg") :]
    for name, title in forest.titles(verdicts).items():
        drawn = drawn.replace(f'<g id="{name}">', f'<g id="{name}"><title>{escape(title)}</title>')
    label = escape(forest.alt(verdicts), quote=True)
    return HTML(
        f'<div class="picture" role="region" tabindex="0" aria-label="{label}">{drawn}</div>'
    )
