"""All assertions in one picture: what was measured beside what the paper says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from snt_core.paper.looks import absent, canvas
from snt_core.paper.verdict import CONTRADICTED, INCONCLUSIVE, SUPPORTED, Judged, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = tuple[Verdict, Judged]
ROW = 0.155  # inches
# told apart by shape and filling as well
LOOKS = {
    SUPPORTED: ("#007a5a", "o", "#007a5a"),
    CONTRADICTED: ("#b03a00", "X", "#b03a00"),
    INCONCLUSIVE: ("#5f5f5f", "o", "white"),
}
PANELS = {  # first word of a unit -> name of the axis, its ends; what lies beyond is an arrow
    "points": ("points", (-7.0, 13.0)),
    "times": ("times (log scale)", (0.4, 12.0)),
    "rank": ("rank correlation", (-1.0, 1.0)),
    "bits": ("bits", (-0.3, 0.3)),
    "of": ("share of the variance", (-0.5, 0.5)),
}


def figure(verdicts: Sequence[Verdict], links: Mapping[str, str] = MappingProxyType({})) -> Figure:
    """Draw a row per measured assertion: effect, 95 % interval, and the paper's size as a tick.

    Where the assertion says that the effect lies is shaded. `links` maps an artefact to its
    chapter's page; a row's name leads there.
    """
    rows = [(v, one) for v in verdicts for one in v.assertions if one.effect is not None]
    if not rows:
        return absent("no assertion was measured yet")
    panels = {unit: [r for r in rows if r[1].unit.split()[0].strip(",") == unit] for unit in PANELS}
    left = {"points": panels.pop("points")}
    right = {unit: found for unit, found in panels.items() if found}
    height = max(_height(left), _height(right))
    figure = canvas(11, height, layout=None)
    for x, column in ((0.20, left), (0.70, right)):
        top = 1 - 0.45 / height
        for unit, found in column.items():
            if found:
                share = len(found) * ROW / height
                ax = figure.add_axes((x, top - share, 0.29, share))
                _panel(ax, found, unit, links)
                top -= share + 0.55 / height
    _key(figure, height)
    return figure


def _height(column: Mapping[str, Sequence[Row]]) -> float:
    return 0.45 + sum(len(found) * ROW + 0.55 for found in column.values() if found)


def _panel(ax: Axes, rows: Sequence[Row], unit: str, links: Mapping[str, str]) -> None:
    name, (low, high) = PANELS[unit]
    if unit == "times":
        ax.set_xscale("log")
        ax.set_xticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"], minor=False)
        ax.minorticks_off()
    ax.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
    ax.axvline(1 if unit == "times" else 0, color="0.45", lw=0.8, zorder=1)
    for y, (_, one) in enumerate(rows):
        _draw(ax, y, one, low, high)
    ax.set_yticks(range(len(rows)), [f"{v.id}: {one.id}" for v, one in rows], fontsize=7)
    for label, (v, one) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_gid(gid(v, one))
        label.set_url(links.get(v.chapter, ""))
    ax.tick_params(axis="x", labelsize=7.5, length=2, pad=1)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(name, fontsize=8, labelpad=1)
    ax.grid(visible=False)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _draw(ax: Axes, y: int, one: Judged, low: float, high: float) -> None:
    assert one.effect is not None
    colour, marker, fill = LOOKS[one.verdict]
    first, last = (min(max(end, low), high) for end in one.allowed)
    ax.fill_betweenx([y - 0.42, y + 0.42], first, last, color="#007a5a", alpha=0.09, lw=0)
    if one.low is not None and one.high is not None:
        ends = [min(max(end, low), high) for end in (one.low, one.high)]
        ax.plot(ends, [y, y], color=colour, lw=1.3, zorder=2)
    if one.size is not None:
        _mark(ax, y, one.size, low, high, {"marker": "|", "ms": 8, "mew": 1.6, "color": "black"})
    look = {"marker": marker, "ms": 4.2, "mfc": fill, "mec": colour, "color": colour}
    _mark(ax, y, one.effect, low, high, look)


def _mark(ax: Axes, y: int, x: float, low: float, high: float, look: Mapping[str, object]) -> None:
    """Mark a number; one beyond an end of the axis as an arrow there."""
    inside = min(max(x, low), high)
    arrow = {} if inside == x else {"marker": ">" if x > high else "<", "ms": 4, "clip_on": False}
    ax.plot(inside, y, **{"ls": "", "zorder": 3, **look, **arrow})  # type: ignore[arg-type]


def _key(figure: Figure, height: float) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], ls="", marker=marker, mfc=fill, mec=colour, ms=5, label=verdict)
        for verdict, (colour, marker, fill) in LOOKS.items()
    ]
    paper = Line2D([], [], ls="", marker="|", color="black", ms=8, mew=1.6, label="the paper")
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 1.0)}
    look: dict[str, Any] = {"ncols": 4, "fontsize": 8, "frameon": False, "borderaxespad": 0.2}
    figure.legend(handles=[*marks, paper], **place, **look)


def gid(verdict: Verdict, one: Judged) -> str:
    """Return the id of a row's name in the picture."""
    return f"{verdict.id}--{one.id}"


def titles(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Return what each row's name says in full, by its id."""
    return {gid(v, one): f"{one.says} {_told(one)}" for v in verdicts for one in v.assertions}


def _told(one: Judged) -> str:
    paper = f"; the paper: {one.claimed}" if one.claimed else ""
    return f"{one.verdict.capitalize()}: {one.measured} {one.unit}{paper}."


def alt(verdicts: Sequence[Verdict]) -> str:
    """Return what the picture shows, for those who cannot see it."""
    ones = [one for v in verdicts for one in v.assertions]
    shown = [one for one in ones if one.effect is not None]
    kinds = ", ".join(f"{sum(o.verdict == kind for o in shown)} {kind}" for kind in LOOKS)
    signed = [o for o in shown if o.size is not None and math.isinf(o.allowed[1])]
    short = sum(_below(o) for o in signed)
    return (
        f"{len(shown)} of {len(ones)} assertions with their effect and interval: {kinds}. Of the "
        f"{len(signed)} whose size the paper prints, {short} came out smaller than there."
    )


def _below(one: Judged) -> bool:
    return one.effect is not None and one.size is not None and one.effect < one.size
