"""What the explorer's page runs: a Sphinx extension, named in `_config.yml`.

plotly.js comes from the installed package and lies in the book, so that the page needs no network.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snt_core.common.errors import UserError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PLOTLY, OURS = "plotly.min.js", "explore.js"
MARK = 'class="explorer"'  # of a page that has an explorer on it


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx: both scripts on the pages that need them, plotly.js copied at the end."""
    app.connect("html-page-context", _add_scripts)
    app.connect("build-finished", _copy_plotly)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if MARK in context.get("body", ""):
        for script in (PLOTLY, OURS):
            app.add_js_file(script, loading_method="defer")


def _copy_plotly(app: Sphinx, exception: Exception | None) -> None:
    """Copy plotly.js into the book if a page asks for it, be it of this build or an older one."""
    if exception is not None or app.builder.format != "html":
        return
    pages = [Path(app.outdir) / f"{page}.html" for page in app.env.found_docs]
    if any(MARK in page.read_text(encoding="utf-8") for page in pages if page.exists()):
        shutil.copy(_shipped_plotly(), Path(app.outdir) / "_static" / PLOTLY)


def _shipped_plotly() -> Path:
    package = importlib.util.find_spec("plotly")
    if package is None or not package.submodule_search_locations:
        raise UserError("plotly is missing; run 'make book', or pip install it")
    return Path(package.submodule_search_locations[0]) / "package_data" / PLOTLY
