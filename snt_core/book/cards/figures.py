"""A figure as a page shows it: for wide and narrow screens, with what it rests on and its files."""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Callable
from html import escape
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from snt_core.book.cards.summary import facts
from snt_core.paper import looks
from snt_core.paper.artefacts import PARTS
from snt_core.paper.selection import Selection
from snt_core.runs.record import ABOUT

PHONE = "600px"  # up to this width of the screen the narrow drawing is shown
NET = ("profile", "data", "model", "approach", "seed")  # columns that say whose records a row has


def figure(draw: Callable[..., Figure], table: Any, *selections: Selection, **options: Any) -> HTML:
    """Return the figure that `draw` makes of `table`, what it rests on, its files, its command.

    It is drawn twice, for a page and for a phone; its alternative text is what `draw` says of it
    (see `looks.described`). A figure of a profile that proves nothing says so across itself. Its
    table comes as CSV where it is a frame, with the records behind each row.
    """
    looks.style()
    wide = draw(table, **options)
    with looks.narrow():
        narrow = draw(table, **options)
    about = facts(*selections)
    for drawn in (wide, narrow):
        _mark(drawn, *selections)
    alt = escape(f"{wide.get_label()} {about}".strip(), quote=True)
    title = f"{_name(draw, *selections)}: {about}".rstrip(": ")
    picture = (
        f'<picture><source media="(max-width: {PHONE})" srcset="{svg_uri(narrow, title)}">'
        f'<img src="{svg_uri(wide, title)}" alt="{alt}"></picture>'
    )
    rests = f'<p class="rests-on">{escape(about)}</p>' if about else ""
    return HTML(f"{picture}{rests}{_files(draw, table, wide, title, selections)}")


def _mark(figure: Figure, *selections: Selection) -> None:
    """Write across a figure of smoke that it shows nothing."""
    for name in sorted({s.profile.name for s in selections if not s.profile.verdicts}):
        what = f"profile {name}: proves that the code runs, shows no finding"
        look: dict[str, Any] = {"color": "#b03a00", "alpha": 0.75, "fontsize": 10, "zorder": 9}
        figure.text(0.5, 0.5, what, ha="center", va="center", rotation=8, wrap=True, **look)


def _name(draw: Callable[..., Figure], *selections: Selection) -> str:
    """Return the name of a figure's files: its artefact and part, or its module."""
    module = draw.__module__.rpartition(".")[2]
    own = draw.__name__.removesuffix("figure").strip("_")
    parts = [s.options[p] for s in selections[:1] for p in PARTS if s.options.get(p)]
    return "-".join(filter(None, [module, own, *map(str, parts)]))


# files ---------------------------------------------------------------------------------------


def _files(
    draw: Callable[..., Figure],
    table: Any,
    wide: Figure,
    title: str,
    selections: tuple[Selection, ...],
) -> str:
    name = _name(draw, *selections)
    module = inspect.unwrap(draw).__module__.replace(".", "/") + ".py"
    links = []
    if not selections or any(s.is_measured for s in selections):
        if isinstance(table, pd.DataFrame):
            rows = with_records(table, *selections).to_csv(index=False)
            links.append(_link(f"{name}.csv", _uri("text/csv", rows.encode()), "numbers (CSV)"))
        wide.text(0.0, -0.02, title, fontsize=7, color="0.35", va="top")  # read without its page
        png = _uri("image/png", _saved(wide, "png", title))
        links += [
            _link(f"{name}.svg", svg_uri(wide, title), "figure (SVG)"),
            _link(f"{name}.png", png, "figure (PNG)"),
        ]
    made = [f'<span class="module">made by <code>{escape(module)}</code></span>']
    commands = [f"<code>{escape(command(s))}</code>" for s in selections[:1]]
    return f'<p class="files">{" · ".join([*links, *made, *commands])}</p>'


def command(selection: Selection) -> str:
    """Return the command that makes a selection's chapter again, with its profile and options."""
    options = {k: v for k, v in selection.options.items() if k not in PARTS}
    chosen = {"profile": selection.profile.name, "seeds": selection.seeds, **options}
    given = " ".join(f"-p {name}={_word(value)}" for name, value in chosen.items())
    return f"snt chapter {selection.artefact} {given}"


def with_records(table: pd.DataFrame, *selections: Selection) -> pd.DataFrame:
    """Return a figure's numbers, and in each row the profile and the records of its nets.

    Columns of whole vectors (right or wrong for each test image, curves) are left out: the records
    hold them.
    """
    vectors = [c for c in table.columns if table[c].map(_is_vector).any()]
    plain = table.drop(columns=[*vectors, "id", "correct"], errors="ignore")
    records = [record for selection in selections for record in selection.records]
    if not records or table.empty:
        return plain
    nets = pd.DataFrame(
        {"name": r.name, "profile": r.profile, **{k: getattr(r.spec.net, k) for k in NET[1:]}}
        for r in records
    ).drop_duplicates()
    keys = [key for key in NET if key in plain.columns]
    names = nets.groupby(keys, sort=False).name.agg(" ".join) if keys else None
    every = " ".join(nets.name)
    found = [
        every if names is None else names.get(row if len(keys) > 1 else row[0], every)
        for row in plain[keys].itertuples(index=False, name=None)
    ]
    profiles = " ".join(dict.fromkeys(nets.profile))
    plain = plain if "profile" in plain.columns else plain.assign(profile=profiles)
    first = [c for c in ABOUT if c in plain.columns]
    return plain[[*first, *plain.columns.difference(first, sort=False)]].assign(records=found)


def _is_vector(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _link(name: str, uri: str, label: str) -> str:
    return f'<a download="{escape(name)}" href="{uri}">{label}</a>'


def svg_uri(figure: Figure, title: str) -> str:
    """Return an address that holds a figure as SVG."""
    return _uri("image/svg+xml", _saved(figure, "svg", title))


def _saved(figure: Figure, kind: str, title: str) -> bytes:
    """Return a figure's file: the same bytes whenever it is drawn of the same numbers."""
    file = io.BytesIO()
    about: dict[str, Any] = {"Title": title, "Description": f"{figure.get_label()} {title}"}
    about |= {"Date": None} if kind == "svg" else {}
    figure.savefig(file, format=kind, bbox_inches="tight", facecolor="white", metadata=about)
    figure.set_layout_engine("none")  # it lies as it will in the other files
    return file.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
