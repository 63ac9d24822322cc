"""Tables and lists as a page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
from IPython.display import HTML

from snt_core.paper.recipes import BACKBONES, LABELS, stands_in
from snt_core.paper.selection import Selection


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


def tables(*frames: pd.DataFrame) -> HTML:
    """Return several frames, one table below the other."""
    return HTML("".join(table(frame).data for frame in frames))


def listing(entries: Sequence[str]) -> HTML:
    """Return texts as a list."""
    return HTML(f"<ul>{''.join(f'<li>{escape(entry)}</li>' for entry in entries)}</ul>")


def comparison(selection: Selection, frame: pd.DataFrame) -> HTML:
    """Return paper beside ours; no difference where smoke's data or another net stand in."""
    nets = [record.spec.net for record in selection.records]
    comparable = selection.profile.verdicts and not any(stands_in(net) for net in nets)
    return table(frame if comparable else frame.drop(columns="ours - paper", errors="ignore"))


def html_table(heads: Sequence[str], rows: Sequence[str], kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="table-scroll"><table class="dataframe {kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
