"""Building: what is executed again, what a failure leaves, plain jupyter-book."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from snt_core.book.build import build
from snt_core.book.chapters import chapters
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT


def test_a_build_executes_only_what_changed(small_project, make_chapter):
    said: list[str] = []
    for edition, expected in [("published", 1), ("published", 0), ("smoke", 1)]:
        said.clear()
        index = build(edition, {"profile": edition}, project=small_project, notify=said.append)
        assert said[0] == f"1 chapters, {expected} to execute"
    assert index == small_project / "_build" / "smoke" / "html" / "index.html"
    page = small_project / "_build" / "html" / "book" / "table9_small.html"
    assert "42" in page.read_text()
    assert "snt: told" not in page.read_text()  # to whoever runs a chapter, not to readers
    make_chapter("print(6 * 8)", parameters='profile: str = ""', project=small_project)
    build("published", {"profile": "published"}, project=small_project)
    assert "48" in page.read_text()


def test_a_failed_build_leaves_the_last_book(small_project, make_chapter):
    index = build(project=small_project)
    page = small_project / "book" / "intro.md"
    text = page.read_text()
    page.write_text("# Start\n\n{numref}`nowhere`\n")
    assert "nowhere" in complaint(small_project)
    page.write_text(text)
    make_chapter("1 / 0", project=small_project)
    said = "table9_small failed in cell 1: ZeroDivisionError: division by zero"
    assert said in complaint(small_project)
    assert "42" in (index.parent / "book" / "table9_small.html").read_text()
    assert index.exists()


def complaint(project: Path) -> str:
    """What stops the build of a project, a line."""
    with pytest.raises(UserError) as caught:
        build(project=project)
    assert "\n" not in str(caught.value)
    return str(caught.value)


LIVE = ("intro", "table4_ablation", "figure6_finetuning")


@pytest.mark.book
def test_plain_jupyter_book_builds_it_too(smoke_book, tmp_path, monkeypatch):
    """Every page of the book and of the project's records, which some chapters draw from here.

    The other chapters are as they were executed before.
    """
    monkeypatch.delenv("SNT_STORE", raising=False)
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "book", project / "book")
    shutil.copy(PROJECT / "_toc.yml", project)
    config = yaml.safe_load((PROJECT / "_config.yml").read_text())
    others = [chapter.name for chapter in chapters() if chapter.name not in LIVE]
    for name in others:
        shutil.copy(smoke_book.executed / f"{name}.ipynb", project / "book")
    config["execute"]["exclude_patterns"] = [f"*{name}.ipynb" for name in others]
    (project / "_config.yml").write_text(yaml.safe_dump(config))
    run = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    result = subprocess.run(
        [*run, "build", str(project), "--path-output", str(tmp_path), "-n", "-W", "--keep-going"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    pages = {page.stem: page.read_text() for page in (tmp_path / "_build/html/book").glob("*.html")}
    assert {chapter.name for chapter in chapters()} <= set(pages)
    assert {page.stem for page in (PROJECT / "book").glob("*.md")} <= set(pages)
    for name in LIVE:
        assert "cell_output" in pages[name], name
    files = [file for file in (tmp_path / "_build" / "html").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 40_000_000
    assert not [file for file in files if file.suffix == ".map"], "only a debugger asks for these"
