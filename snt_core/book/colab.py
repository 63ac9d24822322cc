"""The chapters for Colab: `python -m snt_core.book.colab FOLDER` writes them, ready to publish.

Colab starts with a notebook alone, so each copy has a first cell that fetches the project and
installs what Colab lacks. The address is `repository.url` of `_config.yml`.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from snt_core.book.chapters import chapters, read_notebook
from snt_core.book.launch import checked_address
from snt_core.common.documents import read_yaml
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT, atomic_write

# what builds the book, which a chapter that is run by hand does without
BUILDS = {"jupyter-book", "papermill", "ipykernel", "rocrate", "sphinx-mathjax-offline"}
FIRST = """\
# Colab has this notebook alone: fetch the project, and install what Colab lacks.
!test -d /content/snt-book || git clone -q --depth 1 --branch {branch} {address} /content/snt-book
!pip install -q {needs}
import sys

sys.path.insert(0, "/content/snt-book")"""


def write(folder: Path, project: Path = PROJECT) -> list[Path]:
    """Write every chapter into `folder`, as laid out in the project; returns the files.

    Nothing is written where `_config.yml` names no repository.
    """
    about = read_yaml(project / "_config.yml")["repository"]
    address = checked_address(about["url"])
    if not address:
        return []
    first = FIRST.format(branch=about["branch"], address=address, needs=" ".join(needs(project)))
    written = []
    for chapter in chapters(project):
        target = folder / chapter.file.relative_to(project)
        notebook = with_first_cell(read_notebook(chapter.file), first)
        atomic_write(target, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
        written.append(target)
    return written


def needs(project: Path = PROJECT) -> list[str]:
    """Return what a chapter needs when it runs, quoted for a shell; Colab has most of it."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    declared = about["dependencies"] + about["optional-dependencies"]["book"]
    names = {text: text.split("[")[0].split(">")[0].split("=")[0].strip() for text in declared}
    return [f'"{text}"' for text, name in names.items() if name not in BUILDS]


def with_first_cell(notebook: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the notebook with a code cell in front of its first one."""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "id": "colab-setup",
        "metadata": {"tags": []},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }
    kinds = [found["cell_type"] for found in notebook["cells"]]
    place = kinds.index("code") if "code" in kinds else len(kinds)
    cells = [*notebook["cells"][:place], cell, *notebook["cells"][place:]]
    return {**notebook, "cells": cells}


if __name__ == "__main__":
    try:
        count = len(write(Path(sys.argv[1])))
        print(
            f"{count} chapters for Colab" if count else "No repository is set, so none for Colab."
        )
    except UserError as error:
        print(f"snt: {error}", file=sys.stderr)
        sys.exit(2)
