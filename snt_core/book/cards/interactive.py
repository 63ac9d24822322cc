"""Plots that a reader explores: data in the page, a picture and a table for who has no scripts.

`book/_static/explore.js` shows the controls and draws. Where it does not run, as in JupyterLab, the
picture stands there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from snt_core.book.cards.figures import svg_uri
from snt_core.book.cards.tables import html_table
from snt_core.paper import explorer
from snt_core.paper.words import plural

EMPTY = "No record of a profile that can be judged tells this yet, so there is nothing to explore."
SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"}
SHARPNESS = {"lambda_max": "λ_max", "normalised": "λ_max, filters normalised"}
WHEN = {when: when for when in (explorer.BEFORE, explorer.AFTER)}
READINGS = {
    "val_top1": "validation top-1 (%)",
    "val_loss": "validation loss",
    "train_loss": "training loss",
}
FILTERS = {"net": "Net", "approach": "Approach", "seed": "Seed", "profile": "Profile"}
WORDS = {  # heads of the tables
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_top1": "validation top-1 (%)",
    "test_top1": "test top-1 (%)",
    "top1": "top-1 (%)",
    "lost": "lost (points)",
    "lambda_max": "λ_max",
    "normalised": "λ_max, filters normalised",
    "when": "read",
}


def scatter(points: pd.DataFrame) -> HTML:
    """Return lambda_max against accuracy lost, to choose from; see `explorer.points`."""
    if points.empty:
        return HTML(f"<p>{EMPTY}</p>")
    controls = [
        _control("points", "x", "Sharpness", SHARPNESS),
        _control("points", "compression", "Compression"),
        _control("points", "when", "Accuracy read", WHEN),
        *(_control("points", name, label) for name, label in FILTERS.items()),
    ]
    says = "Scatter plot of accuracy lost to compression over the sharpness of each net."
    return _card("points", says, controls, points, points, explorer.figure(points))


def trainings(curves: pd.DataFrame) -> HTML:
    """Return loss and accuracy over the epochs of each training; see `explorer.curves`."""
    if curves.empty:
        return HTML(f"<p>{EMPTY}</p>")
    controls = [
        _control("curves", "y", "Shown", READINGS),
        *(_control("curves", name, label) for name, label in FILTERS.items()),
    ]
    keys = [*explorer.ABOUT, "test_top1"]
    lists = curves.groupby(keys, sort=False)[["epoch", *explorer.READINGS]].agg(list).reset_index()
    ends = curves.drop_duplicates("record", keep="last")
    says = "Line plot of loss or accuracy over the epochs of each training."
    return _card("curves", says, controls, lists, ends, explorer.curves_figure(curves))


def _control(view: str, name: str, label: str, options: Mapping[str, str] | None = None) -> str:
    """Return a labelled choice. Without options it is a filter, and the script lists the values."""
    entries = "".join(
        f'<option value="{escape(value)}">{escape(text)}</option>'
        for value, text in (options or {}).items()
    )
    kind = "" if options else f' data-filter="{name}"'
    place = f"{view}-{name}"
    return (
        f'<div><label for="{place}">{escape(label)}</label>'
        f'<select id="{place}" name="{name}"{kind}>{entries}</select></div>'
    )


def _card(
    view: str,
    says: str,
    controls: Sequence[str],
    data: pd.DataFrame,
    listed: pd.DataFrame,
    picture: Figure,
) -> HTML:
    marks = {
        label: {"colour": to_hex(colour), "symbol": SYMBOLS[marker]}
        for label, (colour, marker) in explorer.marks().items()
    }
    return HTML(
        f'<div class="explorer" data-view="{view}">'
        f'<script type="application/json">{_embedded(data, marks)}</script>'
        f'<div class="explorer-controls" hidden>{"".join(controls)}</div>'
        f'<div class="explorer-plot" role="img" aria-label="{escape(says)}" hidden></div>'
        f'<p class="explorer-status" role="status" hidden></p>'
        f"{_picture(picture, says)}"
        f'<details class="records"><summary>The same as a table: {plural(len(listed), "row")}'
        f"</summary>{_table(listed, says)}</details></div>"
    )


def _embedded(frame: pd.DataFrame, marks: Mapping[str, Any]) -> str:
    """Return a frame as JSON that a page can hold: no `<` in it ends or opens an element."""
    rows = [[_plain(value) for value in row] for row in frame.itertuples(index=False)]
    body = {"columns": list(frame.columns), "rows": rows, "marks": marks}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    """Return a value for JSON: six digits are more than a plot shows, and NaN is none of its."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return None
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _picture(figure: Figure, says: str) -> str:
    return (
        f'<div class="explorer-static"><img alt="{escape(says)} Everything at once." '
        f'src="{svg_uri(figure, says)}"></div>'
    )


def _table(frame: pd.DataFrame, caption: str) -> str:
    """Return a table whose rows are headed by their records."""
    rows = [[escape(_shown(value)) for value in row] for row in frame.itertuples(index=False)]
    return html_table([WORDS.get(c, c) for c in frame.columns], rows, caption=caption)


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
