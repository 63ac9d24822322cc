"""A content-security policy in every page: a Sphinx extension, named in `_config.yml`.

A page runs the book's own scripts alone and loads nothing from elsewhere. Whatever a record or a
notebook may say, a browser neither runs it as a script nor asks another machine for it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

from sphinx.jinja2glue import BuiltinTemplateLoader

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SCRIPT = re.compile(r"<script([^>]*)>(.*?)</script>", re.S | re.I)
START = re.compile(r"<head[^>]*>(\s*<meta charset=[^>]*>)?", re.I)
# what the buttons that the theme puts above a page do when they are clicked
HANDLERS = ("window.print()", "toggleFullScreen()")
FIXED = (
    "default-src 'none'",
    "style-src 'self' 'unsafe-inline'",  # MathJax, plotly and tables bring styles along
    "img-src 'self' data: blob:",  # figures are part of their page; plotly saves one by a blob
    "font-src 'self' data:",
    "form-action 'self'",  # the search field
    "base-uri 'none'",
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Put the policy into each page as its template is filled in."""
    app.config.template_bridge = f"{__name__}.{Templates.__name__}"
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Templates(BuiltinTemplateLoader):
    """Sphinx's templates; each page that is made of one holds its policy."""

    def render(self, template: str, context: dict[str, Any]) -> str:  # type: ignore[override]
        """Return the page. One without a body, such as the search, is the theme's alone.

        A part of a page stays as it is: the theme asks of some whether they are empty.
        """
        page = super().render(template, context)
        return with_policy(page, whole="body" not in context) if "<head" in page else page


def with_policy(page: str, *, whole: bool = False) -> str:
    """Return the HTML of a page with its policy, which stands before any script.

    The inline scripts that may run are those in the page's head: templates write them, and no text
    of a record or a notebook gets there. Of a page that is theirs as a `whole`, those in `main`
    may run too; beside it, in the sidebar, stand the titles of others.
    """
    head, _, rest = page.partition("</head>")
    trusted = head + rest.partition("<main")[2] if whole else head
    inline = [found[2] for found in SCRIPT.finditer(trusted) if "src=" not in found[1]]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(inline)}">\n'
    start = START.search(head)
    place = start.end() if start else 0  # a page that only leads on begins with what its head has
    return page[:place] + meta + page[place:]


def policy(inline: list[str]) -> str:
    """Return a policy that lets the scripts `inline` and the book's own files run."""
    # 'unsafe-hashes' lets the hashes speak for handlers too: for these two, no other
    allowed = [*HANDLERS, *dict.fromkeys(inline)]
    scripts = ["'self'", "'unsafe-hashes'", *map(_digest, allowed)]
    return "; ".join([*FIXED, f"script-src {' '.join(scripts)}"])


def _digest(script: str) -> str:
    """Return a script as a policy names it."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
