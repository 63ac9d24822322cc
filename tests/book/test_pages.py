"""The book as a reader gets it: built, then opened in a browser that has no network."""

from __future__ import annotations

import html.parser
import json
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from snt_core.book.chapters import chapters, pages_of
from snt_core.common.files import PROJECT
from tests import axe
from tests.browsing import OVERFLOW, Reader

pytestmark = pytest.mark.book


# what was built -----------------------------------------------------------------------------


def test_every_chapter_has_a_page_and_its_notebook(smoke_book):
    for chapter in chapters():
        assert (smoke_book.html / "book" / f"{chapter.name}.html").exists()
        source = smoke_book.html / "_sources" / "book" / f"{chapter.name}.ipynb"
        cells = json.loads(source.read_text())["cells"]
        assert [cell for cell in cells if cell["cell_type"] == "code"]
        assert not [cell for cell in cells if cell.get("outputs")], "the page has them"


def test_its_store_is_not_that_of_the_tests_that_follow(smoke_book):
    assert not os.environ.get("SNT_STORE", "").startswith(str(smoke_book.html.parents[1]))


class Links(html.parser.HTMLParser):
    """Targets of links and of what a page loads, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("href", "src") and value:
                self.targets.append(value)
            if key == "id" and value:
                self.anchors.add(value)


def test_links_are_relative_and_lead_somewhere(smoke_book):
    anchors = {page: Links(page).anchors for page in smoke_book.html.rglob("*.html")}
    for page in smoke_book.pages:
        for target in Links(page).targets:
            url = urlsplit(target)
            if url.scheme in ("http", "https", "mailto", "data") or target.startswith("#"):
                continue  # a reader may follow a link out; that nothing is loaded is tested below
            assert not url.scheme, f"{page.name}: {target}"
            assert not url.path.startswith("/"), f"{page.name}: {target}"
            file = (page.parent / unquote(url.path)).resolve()
            assert file.is_file(), f"{page.name}: {target}"
            if url.fragment and file.suffix == ".html":
                assert url.fragment in anchors[file], f"{page.name}: {target}"


def test_no_local_path_is_published(smoke_book):
    for page in smoke_book.pages:
        assert str(PROJECT) not in page.read_text(), page.name


# what a reader sees -------------------------------------------------------------------------

# contrast (WCAG 2) of the text of each badge and verdict with what lies behind it
CONTRAST = """() => {
  const rgba = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('.badge, .verdict, .verdict *, .verdict-chip')].map(node => {
    const [a, b] = [rgba(getComputedStyle(node).color), behind(node)].map(light);
    return [node.textContent.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
}"""

# a narrow screen is shown another picture than a wide one, which loads when the width changes
IMAGES = """async () => {
  const images = [...document.querySelectorAll('article img')];
  await Promise.all(images.map(img => img.decode().catch(() => null)));
  return images.map(
    img => ({alt: img.alt, width: img.naturalWidth, src: img.currentSrc || img.src}));
}"""


PHONE, SCREEN = 390, 1400  # pixels wide
PAGES = [*pages_of(PROJECT / "_toc.yml"), "search", "genindex"]


def test_every_page_is_looked_at(smoke_book):
    assert {f"book/{page.stem}" for page in smoke_book.pages} == set(PAGES[:-2])


@pytest.fixture(scope="module")
def reader(browser):
    opened = Reader(browser, PHONE, "dark")
    yield opened
    opened.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_read_a_page_without_a_network(smoke_book, reader, name):
    """On a phone and on a screen, in the dark and in the light; axe-core finds nothing wrong."""
    reader.leave(PHONE)
    page = reader.open(smoke_book.html / f"{name}.html")
    assert page.title()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    formulas = page.locator("article .math").count()
    assert page.locator("article .math mjx-container").count() == formulas
    assert page.locator("mjx-merror").count() == 0
    for width in (PHONE, SCREEN):
        page.set_viewport_size({"width": width, "height": 900})
        for image in page.evaluate(IMAGES):
            assert image["width"] > 0, f"{width} px: {image['src'][:80]} does not show"
            assert len(image["alt"].split()) >= 3, f"alt text '{image['alt']}'"
            assert not image["alt"].startswith(("_", "/", "."))
        for theme in ("dark", "light"):
            page.evaluate(axe.THEME, theme)
            assert page.evaluate(OVERFLOW) == [], (width, theme)
            for text, contrast in page.evaluate(CONTRAST):
                assert contrast >= 4.5, f"{width} px, {theme}: '{text}' has {contrast:.1f}"
    assert reader.wrong == []
    # last: it asks for style sheets in a way that a browser refuses a file
    for width, theme in ((SCREEN, "light"), (PHONE, "dark")):
        assert axe.violations(page, width, theme) == [], width


def test_a_page_follows_what_its_reader_likes(smoke_book, browser):
    for theme in ("light", "dark"):
        reader = Reader(browser, 1280, theme)
        page = reader.open(smoke_book.html / "book" / "intro.html")
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        reader.context.close()


def test_index_leads_to_the_introduction(smoke_book, browser):
    page = browser.new_page()
    page.goto((smoke_book.html / "index.html").as_uri())
    page.wait_for_url("**/book/intro.html")


def test_some_page_has_formulas_figures_badges_and_verdicts(smoke_book):
    """What the checks above look for is there to be found."""
    looked_for = {"article .math", "article img", ".badge", ".verdict"}
    for page in smoke_book.pages:
        soup = BeautifulSoup(page.read_text(), "html.parser")
        if not (looked_for := {what for what in looked_for if not soup.select_one(what)}):
            break
    assert not looked_for


def test_code_is_folded_and_opens(smoke_book, browser):
    reader = Reader(browser, 1280, "light")
    chapter = next(c for c in chapters() if c.artefact)
    page = reader.open(smoke_book.html / "book" / f"{chapter.name}.html")
    fold = page.locator("details.hide").first
    assert not fold.locator(".highlight").first.is_visible()
    fold.locator("summary").click()
    assert fold.locator(".highlight").first.is_visible()


def test_search_works_from_the_file_system(smoke_book, browser):
    reader = Reader(browser, 1280, "light")
    page = reader.open(smoke_book.html / "search.html", "?q=paper")
    page.locator("#search-results li a").first.wait_for(timeout=10_000)
    assert reader.wrong == []
