"""The explorer in a page: what is embedded, then what a reader does with it in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snt_core.book import cards
from snt_core.book.build import build
from snt_core.common.files import PROJECT
from snt_core.paper import explorer
from snt_core.runs.store import Store
from tests.browsing import OVERFLOW, Reader
from tests.executions import FACTS
from tests.projects import small_book
from tests.records import result

HOSTILE = "</script><!--<script>alert(1)</script>"


def made(seeds=(0, 1)) -> list[Any]:
    """Records of an artefact, each training with a history."""
    history = [
        {"step": e, "epoch": e, "train_loss": 3.0 - e, "val_loss": 2.0, "val_top1": 9.0 * e}
        for e in (1, 2)
    ]
    facts = {**FACTS, "started": "2026-11-25T10:00:00+00:00", "seconds": 1.0}
    records = [replace(r, provenance=facts) for r in result("table4", seeds).records]
    return [
        replace(r, metrics={**r.metrics, "history": history}) if r.spec.kind == "train" else r
        for r in records
    ]


def embedded(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


def test_the_page_holds_what_the_table_says():
    points = explorer.points(made())
    html = cards.scatter(points).data
    data = embedded(html)
    assert data["columns"] == list(points.columns)
    for row, values in zip(points.to_dict("records"), data["rows"], strict=True):
        assert values[0] == row["record"]
        got = dict(zip(data["columns"], values, strict=True))
        assert got["lost"] == pytest.approx(row["lost"], rel=1e-5, abs=1e-9)
        assert got["normalised"] is None  # NaN is no JSON
    assert html.count('scope="row"') == len(points)


def test_trainings_are_lists_and_their_ends_a_table():
    curves = explorer.curves(made())
    html = cards.trainings(curves).data
    data = embedded(html)
    assert len(data["rows"]) == curves.record.nunique() == html.count('scope="row"')
    assert dict(zip(data["columns"], data["rows"][0], strict=True))["val_top1"] == [9.0, 18.0]


def test_hostile_text_ends_no_script_and_no_cell():
    points = explorer.points(made()).assign(training=HOSTILE, compression=HOSTILE)
    html = cards.scatter(points).data
    assert dict(zip(embedded(html)["columns"], embedded(html)["rows"][0]))["training"] == HOSTILE
    assert "<script>alert" not in html
    assert "<!--" not in html


def test_every_choice_has_a_label():
    html = (
        cards.scatter(explorer.points(made())).data + cards.trainings(explorer.curves(made())).data
    )
    places = re.findall(r'<select id="([^"]+)"', html)
    assert len(set(places)) == len(places) > 8
    assert set(places) == set(re.findall(r'<label for="([^"]+)"', html))


def test_an_empty_store_is_told():
    for card in (cards.scatter(explorer.points([])), cards.trainings(explorer.curves([]))):
        assert "nothing to explore" in card.data
        assert "<script" not in card.data


# in a browser -------------------------------------------------------------------------------

pages = pytest.mark.book
Open = Callable[..., tuple[Any, Reader]]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """The real page in a book of its own, of a store with some records."""
    project = small_book(tmp_path_factory.mktemp("explorer"), ["explore"])
    chapter = (PROJECT / "book" / "explore.ipynb").read_text()
    alone = re.sub(r"\{doc\}`(\w+)`", r"\1", chapter)  # other pages are not there
    (project / "book" / "explore.ipynb").write_text(alone)
    store = Store(project / "store")
    for record in made():
        store.put(record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNT_STORE", str(store.folder))
        return build(project=project).parent / "book" / "explore.html"


@pytest.fixture
def opened(page_file, browser) -> Iterator[Open]:
    readers = []

    def open_page(width: int = 1280, theme: str = "light") -> tuple[Any, Reader]:
        readers.append(Reader(browser, width, theme))
        page = readers[-1].open(page_file)
        page.locator(".explorer .main-svg").first.wait_for()
        return page, readers[-1]

    yield open_page
    for reader in readers:
        reader.context.close()


class TestInABrowser:
    pytestmark = pages

    def test_a_click_leads_to_the_record(self, opened):
        page, reader = opened()
        plot = page.locator('[data-view="points"] .explorer-plot')
        plot.scroll_into_view_if_needed()
        name = plot.evaluate("plot => plot.data[0].customdata[0]")
        point = plot.locator(".points path").first.bounding_box()
        page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
        plot.locator(".hovertext").first.wait_for()
        with page.expect_navigation():
            page.mouse.click(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
        assert page.title().startswith("Record ptq-")
        assert name.startswith("ptq-")
        assert page.get_by_role("link", name="Explore the records").count() == 1
        assert reader.wrong == []

    def test_filters_change_what_is_shown(self, opened):
        page, _ = opened()
        root = page.locator('[data-view="points"]')
        shown = "plot => plot.data.reduce((sum, trace) => sum + trace.x.length, 0)"
        count = root.locator(".explorer-plot").evaluate(shown)
        root.get_by_label("Seed").select_option("1")
        assert root.locator(".explorer-plot").evaluate(shown) * 2 == count
        root.get_by_label("Approach").select_option("SAM")
        assert root.locator(".explorer-plot").evaluate(shown) == 1
        assert root.get_by_role("status").inner_text().startswith("1 of ")
        lost = "plot => plot.data[0].y[0]"
        before = root.locator(".explorer-plot").evaluate(lost)
        root.get_by_label("Accuracy read").select_option("after fine-tuning")
        assert root.locator(".explorer-plot").evaluate(lost) == before - 20

    def test_curves_are_filtered_likewise(self, opened):
        page, _ = opened()
        root = page.locator('[data-view="curves"]')
        plot = root.locator(".explorer-plot")
        assert plot.evaluate("plot => plot.data.length") == 8
        root.get_by_label("Approach").select_option("ARCH")
        assert plot.evaluate("plot => plot.data.length") == 2
        assert plot.evaluate("plot => plot.data[0].y") == [9, 18]
        root.get_by_label("Shown").select_option("train_loss")
        assert plot.evaluate("plot => plot.data[0].y") == [2, 1]

    def test_colours_follow_the_theme(self, opened):
        page, reader = opened(theme="dark")
        plot = page.locator(".explorer-plot").first
        colour = "plot => plot.layout.font.color"
        dark = plot.evaluate(colour)
        page.evaluate("document.documentElement.dataset.theme = 'light'")
        page.wait_for_function(
            "dark => document.querySelector('.explorer-plot').layout.font.color !== dark", arg=dark
        )
        assert reader.wrong == []

    def test_the_plot_fills_its_place_when_that_changes(self, opened):
        page, _ = opened()
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_function(
            "() => [...document.querySelectorAll('.explorer-plot')]"
            ".every(plot => plot._fullLayout.width === plot.clientWidth)"
        )
        page.evaluate("document.querySelector('.explorer').style.width = '300px'")
        page.wait_for_function(
            "() => document.querySelector('.explorer-plot')._fullLayout.width === 300"
        )

    @pytest.mark.parametrize("width", [1280, 390])
    def test_controls_are_large_and_nothing_reaches_out(self, opened, width):
        page, reader = opened(width)
        for select in page.locator(".explorer select").all():
            if select.is_visible():
                assert select.bounding_box()["height"] >= 44
        assert page.evaluate(OVERFLOW) == []
        assert reader.wrong == []

    def test_without_scripts_a_picture_stands_there(self, page_file, browser):
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(page_file.as_uri())
        assert page.locator(".explorer-static img").first.is_visible()
        assert not page.locator(".explorer-controls").first.is_visible()
        context.close()
