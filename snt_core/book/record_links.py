"""Links from a page of the book to the pages of the records that it names."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

FOLDER = "records"  # of the built book: <kind>-<id>.html beside <kind>-<id>.json
NAME = r"[a-z_]+-[0-9a-f]{16}"
# a cell of a table that is a record's name, its id, or the command that runs it again
CELL = re.compile(
    r"(<t[dh][^>]*>(?:<code>)?(?:snt verify )?)((?:[a-z_]+-)?[0-9a-f]{16})(?=(?:</code>)?</t[dh]>)"
)
TARGET = re.compile(rf'href="(?:\.\./)*{FOLDER}/({NAME})\.html"')


def address(name: str, page: str) -> str:
    """Return the address of a record's page as seen from `page`, such as `book/intro`."""
    return f"{'../' * page.count('/')}{FOLDER}/{name}.html"


def with_links(body: str, names: Mapping[str, str], page: str) -> str:
    """Return the HTML of a page in which each cell that names a record leads to its page.

    Args:
        names: the records that have a page: from id and from name to name.
        page: where the HTML stands, such as `book/intro`.
    """

    def link(cell: re.Match[str]) -> str:
        name = names.get(cell[2])
        return f'{cell[1]}<a href="{address(name, page)}">{cell[2]}</a>' if name else cell[0]

    return CELL.sub(link, body)


def linked(html: str, names: Container[str]) -> list[str]:
    """Return the names of the records that a page leads to, each once, in the page's order."""
    return [name for name in dict.fromkeys(TARGET.findall(html)) if name in names]
