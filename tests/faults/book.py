"""A small book whose chapters take a second each, to be built and struck."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from snt_core.book.build import build
from snt_core.common.files import PROJECT

CHAPTERS = 3


def make_project(project: Path) -> Path:
    """Return a project with the real configuration and `CHAPTERS` chapters that compute nothing."""
    (project / "book").mkdir(parents=True)
    shutil.copy(PROJECT / "_config.yml", project)
    shutil.copytree(PROJECT / "book" / "_static", project / "book" / "_static")
    shutil.copy(PROJECT / "book" / "references.bib", project / "book")
    (project / "book" / "intro.md").write_text("# Start\n\nText.\n")
    names = [f"table{9 + i}_small" for i in range(CHAPTERS)]
    toc = "".join(f"  - file: book/{name}\n" for name in names)
    (project / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nchapters:\n{toc}")
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
