"""A small book whose chapters take a second each, to be built and struck."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from snt_core.book.build import build
from snt_core.common.files import PROJECT
from tests.projects import small_book

CHAPTERS = 3


def make_project(project: Path) -> Path:
    """Return a project with the real configuration and `CHAPTERS` chapters that compute nothing."""
    names = [f"table{9 + i}_small" for i in range(CHAPTERS)]
    small_book(project, names)
    for name in names:
        cells = [
            nbformat.v4.new_markdown_cell(f"# {name}"),
            new_code_cell('profile: str = "published"', metadata={"tags": ["parameters"]}),
            new_code_cell("import time; time.sleep(1); print(6 * 7)"),
        ]
        about = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "snt": {"label": name, "artefact": name.split("_")[0]},
        }
        nbformat.write(
            new_notebook(cells=cells, metadata=about), project / "book" / f"{name}.ipynb"
        )
    return project


def start_build(project: Path, root: Path) -> subprocess.Popen[str]:
    """Start to build the book in a process of its own, with a worker a chapter."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.book", str(project), str(root)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


if __name__ == "__main__":
    build(
        project=Path(sys.argv[1]),
        root=Path(sys.argv[2]),
        workers=1,
        notify=lambda line: print(line, flush=True),
    )
