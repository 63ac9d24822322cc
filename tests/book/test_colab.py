"""The chapters for Colab: each fetches what it needs, and needs no more than it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import yaml

from snt_core.book import colab
from snt_core.book.chapters import chapters, read_notebook
from snt_core.common.files import PROJECT


def with_address(project, url):
    config = yaml.safe_load((project / "_config.yml").read_text())
    config["repository"]["url"] = url
    (project / "_config.yml").write_text(yaml.safe_dump(config))
    shutil.copy(PROJECT / "pyproject.toml", project)


def test_nothing_is_written_while_no_repository_is_set(small_project, tmp_path):
    with_address(small_project, "")
    assert colab.write(tmp_path / "colab", small_project) == []
    assert not (tmp_path / "colab").exists()


def test_each_chapter_has_a_first_cell_that_fetches_the_project(small_project, tmp_path):
    with_address(small_project, "https://github.com/owner/name.git")
    (written,) = colab.write(tmp_path / "colab", small_project)
    assert written == tmp_path / "colab" / "book" / "table9_small.ipynb"
    cells = json.loads(written.read_text())["cells"]
    before = read_notebook(small_project / "book" / "table9_small.ipynb")["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    source = "".join(code[0]["source"])
    assert "--branch main https://github.com/owner/name /content/snt-book" in source
    assert '"timm>=' in source
    assert [c for c in cells if c is not code[0]] == before


def test_a_notebook_without_code_gets_the_cell_at_its_end():
    notebook = {"cells": [{"cell_type": "markdown", "source": "# A"}]}
    kinds = [cell["cell_type"] for cell in colab.with_first_cell(notebook, "1")["cells"]]
    assert kinds == ["markdown", "code"]


def test_chapters_run_without_what_only_builds_the_book():
    """Every import of every chapter, where the packages that Colab is not given are hidden."""
    hidden = {name.replace("-", "_") for name in colab.BUILDS}
    imports = [
        line
        for chapter in chapters()
        for cell in read_notebook(chapter.file)["cells"]
        if cell["cell_type"] == "code"
        for line in "".join(cell["source"]).splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert len(imports) > 20
    code = "\n".join(
        [
            "import sys",
            f"for name in {sorted(hidden)}: sys.modules[name] = None",
            *dict.fromkeys(imports),
            "from snt_core.paper.selection import reproduce",
            "from snt_core.runs.runner import run_all",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
