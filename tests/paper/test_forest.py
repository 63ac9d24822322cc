"""The picture of all assertions: a row each, in its place, with its words."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from snt_core.book import cards
from snt_core.paper import forest
from snt_core.paper.verdict import Judged, Verdict

SVG = "{http://www.w3.org/2000/svg}"


def one(name: str, verdict: str = "inconclusive", **facts) -> Judged:
    given = {"unit": "points", "size": 2.0, "effect": 1.0, "low": 0.5, "high": 1.5, **facts}
    return Judged(id=name, says=f"It is {name} & so.", verdict=verdict, **given)


def verdicts(*ones: Judged) -> list[Verdict]:
    return [Verdict(id="claim", verdict="inconclusive", chapter="table9", assertions=ones)]


def rows(figure) -> list[str]:
    return [label.get_text() for ax in figure.axes for label in ax.get_yticklabels()]


def test_each_measured_assertion_has_a_row_on_the_axis_of_its_unit():
    told = verdicts(
        one("a"),
        one("b", unit="times, at most 1.10"),
        one("c", unit="rank correlation"),
        one("d", effect=None, low=None, high=None),
    )
    figure = forest.figure(told)
    assert rows(figure) == ["claim: a", "claim: b", "claim: c"]
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "points",
        "times (log scale)",
        "rank correlation",
    ]


def test_marks_stand_where_the_numbers_are():
    (ax,) = forest.figure(verdicts(one("a", effect=1.0, size=3.0, low=-0.5, high=2.5))).axes
    marks = {line.get_marker(): line for line in ax.lines}
    assert marks["o"].get_xdata() == [1.0]
    assert marks["|"].get_xdata() == [3.0]
    assert any(list(line.get_xdata()) == [-0.5, 2.5] for line in ax.lines)


@pytest.mark.parametrize(("effect", "arrow"), [(50.0, ">"), (-50.0, "<")])
def test_what_lies_beyond_the_axis_is_an_arrow_at_its_end(effect, arrow):
    (ax,) = forest.figure(verdicts(one("a", effect=effect, low=None, high=None))).axes
    (mark,) = [line for line in ax.lines if line.get_marker() == arrow]
    assert mark.get_xdata()[0] in ax.get_xlim()


def test_shade_covers_what_the_assertion_allows():
    (ax,) = forest.figure(verdicts(one("a", allowed=(-1.0, 1.0)))).axes
    (shade,) = ax.collections
    x = shade.get_paths()[0].vertices[:, 0]
    assert (x.min(), x.max()) == (-1, 1)
    (ax,) = forest.figure(verdicts(one("a", allowed=(0.0, math.inf)))).axes
    x = ax.collections[0].get_paths()[0].vertices[:, 0]
    assert (x.min(), x.max()) == (0, ax.get_xlim()[1])


def test_in_the_page_each_name_leads_to_its_chapter_and_says_itself_in_full():
    told = verdicts(one("a", "supported"), one("b"))
    html = cards.picture(told, {"table9": "table9_small.html"}).data
    drawn = ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    links = [a.attrib["{http://www.w3.org/1999/xlink}href"] for a in drawn.iter(f"{SVG}a")]
    assert links == ["table9_small.html"] * 2
    titles = [title.text for title in drawn.iter(f"{SVG}title")]
    assert titles[0].startswith("It is a & so. Supported: +1.00 [+0.50, +1.50] points; the paper")
    assert 'aria-label="2 of 2 assertions' in html


def test_alt_text_counts_what_came_out_smaller():
    told = verdicts(one("a"), one("b", effect=4.0), one("c", size=None))
    assert forest.alt(told).endswith(
        "Of the 2 whose size the paper prints, 1 came out smaller than there."
    )
    assert "3 of 3" in forest.alt(told)


def test_without_a_measurement_it_says_so():
    nothing = replace(one("a"), effect=None, verdict="not run")
    (ax,) = forest.figure(verdicts(nothing)).axes
    assert [text.get_text() for text in ax.texts] == ["no assertion was measured yet"]
