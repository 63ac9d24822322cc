"""Everybody can use the built book: axe-core finds nothing to complain of on any page."""

from __future__ import annotations

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from bs4 import BeautifulSoup

from snt_core.book import accessible, folds
from tests.browsing import Reader

# Every rule of axe-core, those it leaves off by default and best practices too; only AAA is not
# asked for. Folds are open, so that what they hold is seen; movement would blur the contrast. Of
# long tables the first rows are looked at: contrast is slow, and the others are made alike.
OPENED = """() => {
  document.querySelectorAll('article details').forEach(fold => fold.open = true);
  document.querySelectorAll('article tbody').forEach(
    body => [...body.rows].slice(9).forEach(row => row.remove()));
  const still = document.createElement('style');
  still.textContent = '* { animation: none !important; transition: none !important; }';
  document.head.append(still);
}"""
RULES = """() => axe.getRules().filter(r => !r.tags.includes('wcag2aaa')).map(r => r.ruleId)"""
RUN = """async rules => {
  const found = await axe.run(document, {
    runOnly: {type: 'rule', values: rules}, resultTypes: ['violations'],
  });
  return found.violations.flatMap(broken => broken.nodes.map(
    node => `${broken.id}: ${node.html.slice(0, 160)} (${node.failureSummary})`));
}"""
DARK = "() => { document.documentElement.dataset.theme = 'dark'; }"


@pytest.mark.book
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing_on_any_page(smoke_book, browser, width):
    """The whole in the light; colours once more in the dark, which changes nothing else."""
    found = {}
    reader = Reader(browser, width, "light")
    others = [smoke_book.html / f"{name}.html" for name in ("search", "genindex")]
    for file in [*smoke_book.pages, *others]:
        page = reader.open(file)
        page.evaluate(OPENED)
        page.evaluate(AXE_SCRIPT)
        wrong = page.evaluate(RUN, page.evaluate(RULES))
        page.evaluate(DARK)
        wrong += page.evaluate(RUN, ["color-contrast"])
        if wrong:
            found[file.name] = wrong
        page.close()
    assert found == {}


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
