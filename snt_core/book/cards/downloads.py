"""What a reader takes along: a figure, its numbers, the command that makes them."""

from __future__ import annotations

import base64
import io
from html import escape

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from snt_core.paper.artefacts import PARTS
from snt_core.paper.selection import Selection


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
