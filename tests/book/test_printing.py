"""The book as one PDF."""

from __future__ import annotations

import shutil

import pytest
from pypdf import PdfReader

from snt_core.book.printing import FRONT, NAME, print_book
from snt_core.common.errors import UserError

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def printed_html(smoke_book, tmp_path_factory):
    html = tmp_path_factory.mktemp("pdf") / "html"
    shutil.copytree(smoke_book.html, html)
    print_book(html, ["book/intro", "book/table4_ablation"])
    return html


@pytest.fixture(scope="module")
def printed(printed_html):
    return PdfReader(printed_html / NAME)


def test_pages_follow_the_contents_and_are_numbered(printed):
    assert [entry.title for entry in printed.outline] == [
        "The SNT reproducibility book",
        "Table 4: the transformation, step by step",
    ]
    for number, page in enumerate(printed.pages, 1):
        assert page.extract_text().split()[-1] == str(number)


def test_code_is_left_out_and_provenance_is_in(printed):
    text = "".join(page.extract_text() for page in printed.pages)
    assert "Where the numbers come from" in text
    assert "import" not in text
    assert "day (UTC)" in " ".join(text.split())


def test_links_stay_inside_or_lead_to_the_web(printed):
    marks = [m.get_object() for page in printed.pages for m in page.get("/Annots") or ()]
    inside = [mark for mark in marks if "/Dest" in mark]
    assert inside
    for mark in marks:
        address = mark.get("/A", {}).get("/URI", "")
        assert not address.startswith(("file:", "data:")), address


def test_the_front_page_links_to_the_pdf_only_where_it_was_made(smoke_book, printed_html):
    assert NAME not in (smoke_book.html / FRONT).read_text()
    assert f'href="../{NAME}"' in (printed_html / FRONT).read_text()


def test_a_book_that_is_not_built_cannot_be_printed(tmp_path):
    with pytest.raises(UserError, match="run 'snt book' first"):
        print_book(tmp_path, ["book/intro"])
