"""A page runs and loads nothing but the book's own, and shows hostile text as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from sphinx.jinja2glue import BuiltinTemplateLoader

from snt_core.book.build import build
from snt_core.book.policy import Templates, with_policy
from snt_core.common.files import PROJECT
from snt_core.runs.repeats import keep
from snt_core.runs.store import Store
from tests.browsing import Reader
from tests.executions import FACTS, fill, repetition
from tests.projects import small_book
from tests.records import result

RAN = "window.ran = 1"
SCRIPT = f"<script>{RAN}</script>"
IMAGE = f"\"'><img src=x onerror='{RAN}'>"
LINK = f"[a](javascript:{RAN})<a href='javascript:{RAN}'>b</a>"
END = f"</td></table></article>{SCRIPT}"
ATTACKS = f"""
<script>{RAN}</script>
<script src="https://elsewhere.example/a.js"></script>
<script src="data:text/javascript,{RAN.replace(" ", "%20")}"></script>
<img class="attack" src="nowhere.png" onerror="{RAN}" alt="an image that is not there">
<img src="https://elsewhere.example/pixel.png" alt="an image from elsewhere">
<iframe src="data:text/html,<script>parent.ran = 1</script>" title="a frame"></iframe>
<iframe srcdoc="<script>parent.ran = 1</script>" title="another"></iframe>
<object data="https://elsewhere.example/a.svg"></object>
<svg onload="{RAN}"></svg>
<base href="https://elsewhere.example/">
<a id="attack" href="javascript:{RAN}">a link</a>
<form id="attack-form" action="https://elsewhere.example/" method="get">
<button id="attack-button" onclick="{RAN}">a button</button></form>
<style>@import url("https://elsewhere.example/a.css");</style>
"""


def test_the_scripts_of_a_head_run_and_no_other():
    page = with_policy(
        '<html><head><meta charset="utf-8"><script>1</script></head><body><main><script>2</script>'
    )
    head, _, _ = page.partition("<script>")
    assert head.startswith('<html><head><meta charset="utf-8"><meta http-equiv="Content-Security')
    assert "'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='" in head  # of "1"
    assert "'sha256-1HNeOiZeFu7gP1lxi5tdAwGcB9i2xR+Q2jpmbuwTqzU='" not in head  # of "2"
    for loose in ("'unsafe-inline'; script-src", "'unsafe-eval'", " *", "http:", "https:"):
        assert loose not in head.partition("script-src")[2]


def test_a_page_that_only_leads_on_has_a_policy():
    page = with_policy('<meta http-equiv="Refresh" content="0; url=book/intro.html" />')
    assert page.startswith('<meta http-equiv="Content-Security-Policy"')


def test_an_empty_part_of_a_page_stays_empty(monkeypatch):
    """The theme leaves out a sidebar whose parts are."""
    parts = {"part.html": "", "page.html": "<html><head></head></html>"}
    monkeypatch.setattr(BuiltinTemplateLoader, "render", lambda self, name, context: parts[name])
    assert Templates().render("part.html", {}) == ""
    assert "Content-Security-Policy" in Templates().render("page.html", {})


# a small book of a store and of notebooks that wish a reader ill -----------------------------

pages = pytest.mark.book


@dataclass(frozen=True)
class Book:
    html: Path
    record: str


def hostile_store(folder: Path) -> tuple[Store, str]:
    """Records whose every free text is hostile, and that are sound otherwise."""
    store = Store(folder)
    facts = {"device": SCRIPT, "torch": IMAGE, "commit": LINK, "platform": END, IMAGE: SCRIPT}
    odd = {**FACTS, **facts, "started": "2026-11-25T10:00:00+00:00", "seconds": 1.0}
    fill(store, **facts, interrupted=[odd])
    records = result("figure2", (0,), profile="imagenet").records
    measured = next(r for r in records if r.spec.net is not r.spec)
    net = replace(measured.spec.net, source=SCRIPT, revision=IMAGE)
    named = replace(measured, spec=replace(measured.spec, parent=net), provenance=odd)
    store.put(named)
    first = store.records()[0].name
    keep(repetition(record=first, result=SCRIPT, provenance={**odd, "device": LINK}), store)
    return store, named.name


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Book:
    """Real chapters on such records, and a page that attacks as its author may."""
    project = tmp_path_factory.mktemp("hostile")
    names = ("table4_ablation", "certificate", "explore")
    small_book(project, names, front=f"# Start\n\nEq. $x^2$.\n{ATTACKS}")
    for name in names:
        notebook = nbformat.read(PROJECT / "book" / f"{name}.ipynb", 4)
        notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"# {name}"))
        notebook.metadata |= {"title": END, "authors": [{"name": IMAGE}], SCRIPT: LINK}
        for cell in notebook.cells:
            cell.metadata[IMAGE] = SCRIPT
        text = f"class Odd:\n    pass\nOdd.__qualname__ = Odd.__name__ = {END!r}\nOdd, Odd()"
        notebook.cells.append(nbformat.v4.new_code_cell(text))
        nbformat.write(notebook, project / "book" / f"{name}.ipynb")
    store, record = hostile_store(project / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNT_STORE", str(store.folder))
        return Book(build(project=project).parent, record)


@pytest.fixture
def reader(browser) -> Iterator[Reader]:
    found = Reader(browser, 1280, "light")
    yield found
    found.context.close()


@pages
def test_every_page_has_its_policy_before_any_script(hostile):
    for file in [f for f in hostile.html.rglob("*.html") if "_static" not in f.parts]:
        before, found, _ = file.read_text().partition("Content-Security-Policy")
        assert found, file
        assert "<script" not in before, file


@pages
def test_hostile_text_is_text(hostile, reader):
    """In the page as written, and in the browser, where nothing of it becomes an element."""
    files = [*hostile.html.glob("book/[!i]*.html"), *hostile.html.glob("records/*.html")]
    for file in files:
        scripts = BeautifulSoup(file.read_text(), "html.parser").find_all("script")
        assert not [one for one in scripts if RAN in (one.string or "")], file.name
        page = reader.open(file)
        assert page.evaluate("window.ran") is None, file.name
        odd = "[onerror], img[src=x], a[href^='javascript:']"
        assert page.locator(odd).count() == 0, file.name
        assert SCRIPT in page.locator("main").text_content(), file.name
        assert reader.wrong == [], file.name
    assert any(file.stem == hostile.record for file in files)


def attack(page) -> None:
    """Do what the attack waits for; scripts and images have had their chance."""
    for wait in ("#attack", "#attack-button"):
        page.evaluate("place => document.querySelector(place).click()", wait)
    page.wait_for_timeout(500)


@pages
def test_the_attack_succeeds_where_there_is_no_policy(hostile, browser, tmp_path):
    text = (hostile.html / "book" / "intro.html").read_text()
    file = tmp_path / "intro.html"
    file.write_text(text.replace("Content-Security-Policy", "nothing", 1))
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.evaluate("window.ran") == 1
    context.close()


@pages
def test_what_a_page_itself_attacks_with_does_nothing(hostile, reader):
    """The policy alone stands in the way here: authors may write HTML."""
    page = reader.open(hostile.html / "book" / "intro.html")
    attack(page)
    assert page.evaluate("window.ran") is None
    assert page.url.startswith("file:")
    assert not [said for said in reader.wrong if said.startswith("asks for")]
    assert page.locator("article .math mjx-container").count() == 1, "the book's own scripts run"
    refused = [said for said in reader.wrong if "Content Security Policy" in said]
    assert len(refused) >= 8, reader.wrong
