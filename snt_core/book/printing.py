"""The book as one PDF: a headless Chromium prints each page, the pages follow the contents."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from snt_core.book.chromium import chromium
from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from pypdf import PdfWriter

NAME = "snt-book.pdf"
FRONT, PLACE = "book/intro.html", '<span id="book-pdf"></span>'
LINK = f'<span id="book-pdf">: <a href="../{NAME}">the book as PDF</a></span>'
PAPER: dict[str, Any] = {
    "format": "A4",
    "print_background": True,
    "scale": 0.75,  # text of 9 points
    "margin": {"top": "15mm", "bottom": "18mm", "left": "15mm", "right": "15mm"},
}
WIDTH = 907  # pixels of CSS between the margins of A4, at that scale
NUMBER = (
    '<div style="width: 100%; font-size: 8pt; text-align: center">'
    '<span class="pageNumber"></span></div>'
)
# What is folded is printed, save code. Links that hold their own file would be larger than the
# book. A table or picture that is too wide is made smaller: paper does not scroll.
PREPARE = """async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll('article details:not(.hide)').forEach(fold => fold.open = true);
  document.querySelectorAll('a[href^="data:"]').forEach(link => link.removeAttribute('href'));
  for (const picture of document.querySelectorAll('img')) picture.loading = 'eager';
  await Promise.all([...document.images].map(picture => picture.decode().catch(() => 0)));
  for (const wide of document.querySelectorAll('article :is(table, pre, mjx-container)')) {
    const room = wide.parentElement.clientWidth;
    const needs = Math.max(wide.scrollWidth, wide.getBoundingClientRect().width);
    if (room && needs > room) wide.style.zoom = Math.max(0.4, room / needs);
  }
}"""


def print_book(html: Path, pages: Iterable[str]) -> Path:
    """Print `pages` of the built book, such as "book/intro", into one file; returns its path.

    The front page then links to it.

    Raises:
        UserError: the book is not built, or there is no Chromium.
    """
    files = [html / f"{page}.html" for page in pages]
    if missing := [file for file in files if not file.exists()]:
        raise UserError(f"{missing[0]} is missing; run 'snt book' first")
    try:
        from pypdf import PdfWriter
    except ImportError as error:
        raise UserError("pypdf is missing; 'make pdf' installs it") from error
    writer = PdfWriter()
    starts = {}
    with chromium() as browser:
        for file in files:
            title, printed = _printed(browser, file)
            starts[file.resolve()] = len(writer.pages)
            writer.append(io.BytesIO(printed), outline_item=title)
        _lead_inside(writer, starts)
        _number(writer, browser)
    about = {"/Title": "The SNT reproducibility book", "/Author": "The authors of the book"}
    writer.add_metadata(about)
    writer.compress_identical_objects()
    content = io.BytesIO()
    writer.write(content)
    atomic_write(html / NAME, content.getvalue())
    front = html / FRONT
    atomic_write(front, front.read_text(encoding="utf-8").replace(PLACE, LINK).encode())
    return html / NAME


def _printed(browser: Browser, file: Path) -> tuple[str, bytes]:
    """Return the title of a page and its PDF."""
    page: Page = browser.new_page(
        viewport={"width": WIDTH, "height": 1000}, color_scheme="light", reduced_motion="reduce"
    )
    page.emulate_media(media="print")
    page.goto(file.as_uri(), wait_until="load")
    page.evaluate(PREPARE)
    title = page.locator("article h1").first.evaluate("head => head.firstChild.textContent")
    printed = page.pdf(**PAPER)
    page.close()
    return title, printed


def _lead_inside(writer: PdfWriter, starts: dict[Path, int]) -> None:
    """Let links between pages lead to where the other page starts; none names this machine."""
    from pypdf.generic import ArrayObject, NameObject, NullObject

    for page in writer.pages:
        kept = ArrayObject()
        for mark in page.get("/Annots") or ():
            link = mark.get_object()
            address = urlsplit(str(link.get("/A", {}).get("/URI", "")))
            if address.scheme != "file":
                kept.append(mark)
                continue
            start = starts.get(Path(unquote(address.path)).resolve())
            if start is not None:
                del link["/A"]
                fit = [writer.pages[start].indirect_reference, NameObject("/XYZ")]
                link[NameObject("/Dest")] = ArrayObject([*fit, *[NullObject()] * 3])
                kept.append(mark)
        if kept or "/Annots" in page:
            page[NameObject("/Annots")] = kept


def _number(writer: PdfWriter, browser: Browser) -> None:
    """Number the pages through: as many empty ones are printed, each with its number below."""
    from pypdf import PdfReader

    empty = '<div style="break-after: page">&nbsp;</div>' * (len(writer.pages) - 1)
    page = browser.new_page()
    page.set_content(f"{empty}<div>&nbsp;</div>")
    foot: dict[str, Any] = {"header_template": "<span></span>", "footer_template": NUMBER}
    sheet = page.pdf(**{**PAPER, "print_background": False}, display_header_footer=True, **foot)
    page.close()
    for numbered, under in zip(PdfReader(io.BytesIO(sheet)).pages, writer.pages):
        under.merge_page(numbered)
        under.compress_content_streams()
