"""Docstrings as the reference shows them: a Sphinx extension, named in `_config.yml`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from snt_core.paper.words import symbols

if TYPE_CHECKING:
    from sphinx.application import Sphinx

BARE = re.compile(r"(?<![\w.`])lambda_max(?!\w|\.\w|[(`])")  # the quantity, not a name of the code


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite each docstring as autodoc reads it."""
    app.connect("autodoc-process-docstring", _rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _rewrite(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = readable(lines)


def readable(lines: list[str]) -> list[str]:
    """Return the lines of a docstring with the symbols of the pages, save in indented code."""
    found, code = [], False
    for line in lines:
        code = code and (line.startswith(" ") or not line.strip())
        found.append(line if code else BARE.sub(lambda bare: symbols(bare[0]), line))
        code = code or line.endswith("::")
    return found
