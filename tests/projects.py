"""Small books with the real configuration, to be built apart from the real one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from snt_core.common.files import PROJECT


def small_book(project: Path, chapters: Sequence[str], front: str = "# Start\n") -> Path:
    """Return `project` with front page and table of contents; chapters are added by the caller."""
    (project / "book").mkdir(parents=True)
    shutil.copy(PROJECT / "_config.yml", project)
    shutil.copytree(PROJECT / "book" / "_static", project / "book" / "_static")
    shutil.copy(PROJECT / "book" / "references.bib", project / "book")
    (project / "book" / "intro.md").write_text(front)
    listed = "".join(f"  - file: book/{name}\n" for name in chapters)
    (project / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nchapters:\n{listed}")
    return project
