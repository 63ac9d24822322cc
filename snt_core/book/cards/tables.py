"""Tables and lists as a page shows them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML

from snt_core.paper.recipes import BACKBONES, LABELS, stands_in
from snt_core.paper.selection import Selection
from snt_core.paper.words import symbols

RECORD = re.compile(r"\w+-[0-9a-f]{16}")
LONG_WORD = re.compile(r"[^\s<&;]{20,}")  # may be broken after a mark, or it widens its column
MARK = re.compile(r"(?<=[_./:])(?=\w)")
MANY = 10  # columns: of more, each is as narrow as its words
WIDE = 5  # columns: on a phone each row of such a table becomes a card
LONG = 30  # rows: so many cards would be endless, so a longer table scrolls sideways there
HEADS = {  # column of a frame -> what a reader calls it
    "model": "net",
    "part": "weights of",
    "top1": "top-1 (%)",
    "float": "float (%)",
    "before": "before (%)",
    "after": "after (%)",
    "lost before": "lost before (points)",
    "lost after": "lost after (points)",
    "weight_bits": "bits of a weight",
    "act_bits": "bits of an activation",
    "per_channel": "one scale for each",
    "observer": "range of activations by",
    "form": "form of PACT",
    "augment": "augmentation",
    "top1 dense": "dense (%)",
    "top1 at 50 %": "half pruned (%)",
    "drop at 50 %": "drop (points)",
    "n_samples": "images",
    "n seeds": "seeds",
    "residual": "error bound / value",
    "products": "Hessian products",
    "converged": "settled",
    "explained": "variance explained",
    "effective_rank": "effective rank",
    "error": "standard error",
    "largest": "largest eigenvalue",
    "smallest": "smallest eigenvalue",
    "contender": "step of",
    "memory_mb": "memory (MB)",
    "mean": "points",
    "low": "95 % from",
    "high": "to",
    "others_before": "cores kept busy by others",
}
VALUES: dict[str, dict[Any, str]] = {  # column of a frame -> its values in words
    "approach": LABELS,
    "model": BACKBONES,
    "per_channel": {True: "channel", False: "tensor"},
    "augment": {"crop-flip": "crops and flips", "trivial-augment": "TrivialAugment"},
    "part": {"ffn": "the feed-forward layers", "qkv": "query, key, value"},
}


def table(frame: pd.DataFrame, caption: str = "") -> HTML:
    """Return a frame as a table that scrolls inside the page; a word where it is empty.

    A `caption` is shown above the table. Without one, those who hear the page are told which
    columns there are.
    """
    if frame.empty:
        return HTML("<p>Nothing was recorded for this table yet.</p>")
    known = {name: words for name, words in VALUES.items() if name in frame}
    frame = frame.assign(**{n: frame[n].map(lambda v, w=w: w.get(v, v)) for n, w in known.items()})
    frame = frame.rename(columns=LABELS).rename(columns=HEADS)
    frame.columns = [symbols(str(name)) for name in frame.columns]
    columns = [[_cell(text) for text in _texts(frame[name])] for name in frame.columns]
    rows = list(zip(*columns))
    return HTML(html_table(frame.columns, rows, caption=caption, hidden=_contents(frame)))


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


def html_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    kind: str = "",
    *,
    caption: str = "",
    hidden: str = "",
) -> str:
    """Return a table of cells that are HTML, in a box of its own that scrolls.

    Its name is `caption`, or `hidden` where the page shows none. The first cell of a row names
    the row. Roles are spelt out because a phone shows wide tables as cards: an element that is
    displayed as a block is otherwise no longer a table to a screen reader.
    """
    name = escape(caption or hidden, quote=True)
    look = "" if caption else ' class="visually-hidden"'
    cards = " as-cards" if len(heads) >= WIDE and len(rows) <= LONG else ""
    cards += " narrow" if len(heads) > MANY else ""
    head = "".join(f'<th role="columnheader" scope="col">{escape(h)}</th>' for h in heads)
    body = "".join(f'<tr role="row">{_cells(heads, row)}</tr>' for row in rows)
    return (
        f'<div class="table-scroll" role="region" tabindex="0" aria-label="{name}">'
        f'<table role="table" class="dataframe {kind}{cards}"><caption{look}>{name}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _cells(heads: Sequence[str], row: Sequence[str]) -> str:
    """Return the cells of a row, each with its column's name for the cards of a phone."""
    first, *others = row
    cells = [f'<th role="rowheader" scope="row">{first}</th>']
    for head, cell in zip(heads[1:], others):
        cells.append(f'<td role="cell" data-label="{escape(head, quote=True)}">{cell}</td>')
    return "".join(cells)


def _texts(column: pd.Series) -> list[str]:
    """Return the values of a column as a table shows them, points and percents to a hundredth."""
    hundredths = any(word in str(column.name) for word in ("points", "%")) or column.name == "to"
    return [_text(value, hundredths) for value in column]


def _text(value: Any, hundredths: bool) -> str:
    """Return a value as text: four digits of small ones, a dash where there is none."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "-"
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if pd.api.types.is_float(value):
        return f"{value:.4g}" if abs(value) < 0.1 and not hundredths else f"{value:z.2f}"
    return str(value)


def _cell(text: str) -> str:
    """Return a text as HTML; a record's name is code, and keeps its own."""
    if RECORD.fullmatch(text):
        return f"<code>{text}</code>"
    return LONG_WORD.sub(lambda word: MARK.sub("<wbr>", word[0]), escape(symbols(text)))


def _contents(frame: pd.DataFrame) -> str:
    """Return what a table without a caption holds, such as "top1, lost by approach, seed"."""
    real = [name for name in frame.columns if pd.api.types.is_float_dtype(frame[name])]
    keys = [name for name in frame.columns if name not in real]
    if not real or not keys:
        return f"Table of {', '.join(frame.columns)}"
    return f"Table of {', '.join(real)} by {', '.join(keys)}"
