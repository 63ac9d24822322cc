"""Building: what is executed again, what a failure leaves, plain jupyter-book."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("broken", ["chapter", "page"])
def test_a_failed_build_leaves_the_last_book(small_project, make_chapter, broken):
    index = build(project=small_project)
    if broken == "chapter":
        make_chapter("1 / 0", project=small_project)
        expected = "table9_small failed in cell 1: ZeroDivisionError: division by zero"
    else:
        (small_project / "book" / "intro.md").write_text("# Start\n\n{numref}`nowhere`\n")
        expected = "nowhere"
    with pytest.raises(UserError) as caught:
        build(project=small_project)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "42" in (index.parent / "book" / "table9_small.html").read_text()
    assert index.exists()


@pytest.mark.book
def test_plain_jupyter_book_builds_it_too(tmp_path):
    run = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    result = subprocess.run(
        [*run, "build", str(PROJECT), "--path-output", str(tmp_path), "-n", "-W", "--keep-going"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    built = {page.name for page in (tmp_path / "_build" / "html" / "book").glob("*.html")}
    assert {f"{chapter.name}.html" for chapter in chapters()} <= built
    assert {f"{page.stem}.html" for page in (PROJECT / "book").glob("*.md")} <= built
