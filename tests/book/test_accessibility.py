"""Everybody can use the built book; what axe-core finds, `test_pages` asks on every page."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from snt_core.book import accessible, folds
from tests.browsing import Reader


def code(source, *tags, outputs=()):
    about = {"tags": list(tags)}
    return {"cell_type": "code", "metadata": about, "source": source, "outputs": list(outputs)}


def test_the_cells_that_open_a_chapter_are_one_fold():
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# T"},
        code("import a", "hide-input"),
        code("seeds: list[int] = []", "parameters", "hide-input"),
        code("seeds = [0]", "injected-parameters", "hide-input"),
        code("a.badge(seeds)", "hide-input", outputs=["badge"]),
        code("a.table(a.first(), a.second())", "hide-input"),
    ]
    head, opening, rest = folds.merged(cells)
    assert opening["outputs"] == ["badge"]
    assert opening["source"].split("\n\n") == [cell["source"] for cell in cells[1:5]]
    assert folds.purpose(opening["source"]) == "setup and parameters"
    assert folds.purpose(rest["source"]) == "first, second"
    assert head is cells[0]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("f = table4.figure(ours)\nf", "f"),
        ("cards.nets(runs)", "nets"),
        ("cards.table(frame.summary)", "table"),
        ("numbers.kept[['a']]", "kept"),
        ("%matplotlib inline", "cell"),
        ("a = 1", "preparation"),
    ],
)
def test_a_fold_is_called_by_what_it_shows(source, name):
    assert folds.purpose(source) == name


def test_tables_of_markdown_get_caption_scopes_and_a_box_that_scrolls():
    box = (
        '<h2>Words<a href="#words">#</a></h2><div class="pst-scrollable-table-container"><table>'
        "<thead><tr><th></th><th>b</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table></div>"
    )
    soup = BeautifulSoup(accessible.mended(box * 2), "html.parser")
    assert [c.text for c in soup.select("caption")] == ["Table: Words"] * 2
    assert [h["scope"] for h in soup.select("th")] == ["col"] * 2
    names = [region["aria-label"] for region in soup.select("[role=region][tabindex='0']")]
    assert names == ["Table: Words", "Table: Words (2)"]


@pytest.fixture
def large_page(smoke_book, browser):
    reader = Reader(browser, 390, "dark")
    yield reader.open(smoke_book.html / "book" / "table4_ablation.html")
    reader.context.close()


@pytest.mark.book
@pytest.mark.parametrize("by", ["click on the figure", "Enter on the button"])
def test_a_figure_opens_large_and_closes_by_escape(large_page, by):
    figure = large_page.locator("article .cell_output img").first
    if by == "click on the figure":
        figure.click()
    else:
        large_page.locator(".enlarge").first.press("Enter")
    dialog = large_page.get_by_role("dialog", name=figure.get_attribute("alt"))
    dialog.locator("img").evaluate("async img => { await img.decode(); }")
    large = dialog.locator("img").bounding_box()
    assert large["width"] > 1.5 * figure.bounding_box()["width"]
    large_page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


@pytest.mark.book
def test_wide_tables_are_cards_on_a_phone(large_page):
    table = large_page.locator("table.as-cards").first
    box = table.locator("xpath=..").evaluate("box => box.scrollWidth - box.clientWidth")
    assert box <= 0
    cell = table.get_by_role("cell").first
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") != "none"
    assert table.get_by_role("columnheader").count() >= 5
