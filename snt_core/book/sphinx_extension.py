"""The book's Sphinx extension, named in `_config.yml`.

So plain `jupyter-book build .` gives the same pages as `snt book`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from snt_core.common.errors import UserError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MATHJAX = "mathjax/tex-svg-full.js"  # one file with everything in it, fonts too: works from file://
SHOWN = {"show-input", "hide-input", "hide-cell", "remove-input", "remove-cell"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Take MathJax from its package instead of a CDN; fold code cells; keep the book small."""
    _shipped_mathjax()  # before any page is read
    app.config.mathjax_path = MATHJAX
    app.connect("source-read", _fold_code)
    app.connect("build-finished", _copy_mathjax)
    app.connect("build-finished", _leave_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fold_code(app: Sphinx, page: str, source: list[str]) -> None:
    """Tag each code cell `hide-input` unless it says otherwise (`show-input` leaves it open).

    What papermill put behind the parameters is treated as they are.
    """
    if not str(app.env.doc2path(page)).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    parameters: list[str] = []
    for cell in notebook["cells"]:
        tags = cell["metadata"].setdefault("tags", [])
        parameters = tags if "parameters" in tags else parameters
        if "injected-parameters" in tags:
            tags += [tag for tag in parameters if tag in SHOWN]
        if cell["cell_type"] == "code" and not SHOWN & set(tags):
            tags.append("hide-input")
    source[0] = json.dumps(notebook)


def _shipped_mathjax() -> Path:
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or not package.submodule_search_locations:
        raise UserError("sphinx-mathjax-offline is missing; run 'make book', or pip install it")
    return Path(package.submodule_search_locations[0]) / "static" / MATHJAX


def _copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception is None:
        target = Path(app.outdir) / "_static" / MATHJAX
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_shipped_mathjax(), target)


def _leave_out(app: Sphinx, exception: Exception | None) -> None:
    """Remove what only a debugger of scripts asks for, and what notebooks repeat of their pages.

    A third of the book. Who downloads a notebook wants to run it; what it showed is on its page.
    """
    if exception is not None:
        return
    for file in Path(app.outdir, "_static").rglob("*.map"):
        file.unlink()
    for file in Path(app.outdir, "_sources").rglob("*.ipynb"):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
