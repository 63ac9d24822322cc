"""Code as a page folds it: a Sphinx extension, named in `_config.yml`.

The cells that open a chapter become one fold, and each fold is called by what its code shows.
The notebooks stay as they are; this is how they are read.
"""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

Cell = dict[str, Any]
FOLDED = "hide-input"
FRAMES = {"table", "tables", "comparison", "listing"}  # say less than what they are given
LATE = 900  # after the cells got their tags


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite each chapter as it is read."""
    app.connect("source-read", _fold, priority=LATE)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fold(app: Sphinx, page: str, source: list[str]) -> None:
    if str(app.env.doc2path(page)).endswith(".ipynb"):
        notebook = json.loads(source[0])
        notebook["cells"] = merged(notebook["cells"])
        for cell in filter(_is_folded, notebook["cells"]):
            name = f"Code: {purpose(''.join(cell['source']))}"
            about = cell["metadata"].setdefault("mystnb", {})
            about |= {"code_prompt_show": name, "code_prompt_hide": f"Hide {name.lower()}"}
        source[0] = json.dumps(notebook)


def merged(cells: list[Cell]) -> list[Cell]:
    """Return the cells with imports, parameters and the first call behind them as one cell."""
    tagged = [i for i, cell in enumerate(cells) if "parameters" in _tags(cell)]
    if not tagged or not _is_folded(cells[tagged[0]]):
        return cells
    first = last = tagged[0]
    while first > 0 and _is_folded(cells[first - 1]):
        first -= 1
    while last + 1 < len(cells) and _is_folded(cells[last + 1]):
        last += 1
        if "injected-parameters" not in _tags(cells[last]):
            break  # the first call; what follows shows something of its own
    opening = cells[first : last + 1]
    whole = {
        **opening[-1],
        "source": "\n\n".join("".join(cell["source"]).strip() for cell in opening),
        "outputs": [output for cell in opening for output in cell["outputs"]],
    }
    return [*cells[:first], whole, *cells[last + 1 :]]


def purpose(code: str) -> str:
    """Return what the code of a cell shows, in a word or a few: the name of its last expression."""
    try:
        last = ast.parse(code).body[-1]
    except (SyntaxError, IndexError):  # a magic command, or nothing
        return "cell"
    if any(isinstance(node, ast.AnnAssign) for node in ast.parse(code).body):
        return "setup and parameters"
    if not isinstance(last, ast.Expr):
        return "preparation"
    return ", ".join(dict.fromkeys(_names(last.value))).replace("_", " ") or "cell"


def _names(shown: ast.expr) -> list[str]:
    """Return the names of what is shown; of the tables in a frame rather than the frame's."""
    if isinstance(shown, ast.Subscript):
        return _names(shown.value)
    if isinstance(shown, ast.Attribute):
        return [shown.attr]
    if isinstance(shown, ast.Name):
        return [shown.id]
    if not isinstance(shown, ast.Call):
        return []
    own = _names(shown.func)
    inner = [name for part in shown.args if isinstance(part, ast.Call) for name in _names(part)]
    return inner or own if own and own[0] in FRAMES else own


def _tags(cell: Cell) -> list[str]:
    return list(cell["metadata"].get("tags", ()))


def _is_folded(cell: Cell) -> bool:
    return cell["cell_type"] == "code" and FOLDED in _tags(cell)
