"""Pages that everybody can use: a Sphinx extension, named in `_config.yml`.

Sphinx, its themes and MyST-NB leave a few things that a screen reader or a keyboard stumbles over.
They are mended in each page's own HTML; `book/_static/snt.js` does the same for what the theme puts
around it. `tests/book/test_accessibility.py` proves the result with axe-core.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from sphinx.application import Sphinx

LATE = 900  # after every extension that writes into the page


def setup(app: Sphinx) -> dict[str, bool]:
    """Mend each page after all others have written it."""
    app.connect("html-page-context", _mend, priority=LATE)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mend(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if body := context.get("body"):
        context["body"] = mended(body)


def mended(html: str) -> str:
    """Return the body of a page, mended."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "html.parser")
    _name_folds(soup)
    _list_references(soup)
    _complete_tables(soup)
    _tell_apart(soup)
    return str(soup)


def _name_folds(soup: BeautifulSoup) -> None:
    """Let a fold be called what it says; MyST-NB names all of them "Toggle hidden content"."""
    for summary in soup.select("details.hide > summary[aria-label]"):
        del summary["aria-label"]


def _list_references(soup: BeautifulSoup) -> None:
    """Make the entries of a bibliography items of its list; their own role is deprecated.

    Their numbers go: pages cite by author and year, and the list is in that order.
    """
    for entry in soup.select("[role=list] > [role=doc-biblioentry]"):
        entry["role"] = "listitem"
        for number in entry.select("span.label"):
            number.decompose()


def _complete_tables(soup: BeautifulSoup) -> None:
    """Give the tables of Markdown pages scopes, a caption and a box that a keyboard can scroll.

    Those of the cards have them.
    """
    for table in soup.select("table:not([role])"):
        for head in table.select("thead th"):
            head["scope"] = "col"
            if not head.get_text(strip=True):  # a table without a head line, or a corner
                head.name = "td"
                del head["scope"]
        caption = table.find("caption")
        if caption is None:
            caption = soup.new_tag("caption", attrs={"class": "visually-hidden"})
            caption.string = _heading(table)
            table.insert(0, caption)
        if box := table.find_parent("div", class_="pst-scrollable-table-container"):
            name = caption.get_text(" ", strip=True)
            box.attrs |= {"role": "region", "tabindex": "0", "aria-label": name}


def _heading(element: Tag) -> str:
    """Return the heading above an element, without its link."""
    heading = element.find_previous(["h1", "h2", "h3", "h4"])
    words = heading.find_all(string=True, recursive=False) if heading else []
    return f"Table: {''.join(words).strip() or 'facts'}"


def _tell_apart(soup: BeautifulSoup) -> None:
    """Number the regions of a page that have the same name."""
    seen: Counter[str] = Counter()
    for region in soup.select("[role=region][aria-label]"):
        name = str(region["aria-label"])
        seen[name] += 1
        if seen[name] > 1:
            region["aria-label"] = f"{name} ({seen[name]})"
