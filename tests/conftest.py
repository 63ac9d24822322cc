"""Fixtures that several test files share: small projects, and the real book built once."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from snt_core.paper.asked import requested
from snt_core.paper.profiles import PROFILES
from snt_core.runs.runner import run_all
from snt_core.runs.store import Store
from tests.projects import small_book
from tests.sharing import made_once

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MakeChapter = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the book last, and what reads the large one at the very end: others run meanwhile.

    All but the first of those, which has it made: it takes minutes, and nobody waits for it then.
    """

    def place(item: pytest.Item) -> tuple[bool, bool]:
        large = "smoke_book" in getattr(item, "fixturenames", ())
        return large, item.get_closest_marker("book") is not None

    items.sort(key=place)
    makes = next((item for item in items if place(item)[0]), None)
    if makes:
        items.remove(makes)
        items.insert(0, makes)


def pytest_collection_finish() -> None:
    """Look for garbage more seldom, and not in what is imported, which takes long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture
def make_chapter(tmp_path: Path) -> MakeChapter:
    """`make_chapter(*code, name=..., parameters=..., project=...)` writes a small notebook."""

    def make(
        *code: str, name: str = "table9_small", parameters: str = "", project: Path = tmp_path
    ) -> Path:
        cells = [new_markdown_cell(f"# {name}")]
        if parameters:
            cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        cells += [new_code_cell(source) for source in code]
        about = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "snt": {"label": "Table 9", "artefact": "table9"},
        }
        file = project / "book" / f"{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new_notebook(cells=cells, metadata=about), file)
        return file

    return make


@dataclass(frozen=True)
class BuiltBook:
    """The real book at profile smoke: folder of HTML pages, folder of executed chapters."""

    html: Path
    executed: Path

    @property
    def pages(self) -> list[Path]:
        return sorted(self.html.glob("book/*.html"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def smoke_book(shared: Path) -> BuiltBook:
    """Every run of smoke, every real chapter executed on them, and the book made of these.

    `SNT_STORE` names the runs' store while they are made, and not to the tests that follow.
    """
    from snt_core.book.build import build

    def make(root: Path) -> None:
        store = root / "store"
        run_all(requested(PROFILES["smoke"], (), ()), Store(store), profile="smoke", workers=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SNT_STORE", str(store))
            build("smoke", {"profile": "smoke"}, workers=1, root=root)

    root = made_once(shared / "smoke_book", make)
    return BuiltBook(root / "smoke" / "html", root / "smoke" / "executed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; without one the tests that need it fail."""
    from snt_core.book.chromium import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture
def small_project(tmp_path: Path, make_chapter: MakeChapter) -> Path:
    """A project with the real configuration, one chapter and one Markdown page."""
    project = small_book(tmp_path / "small", ["table9_small"], "# Start\n\nEq. $x^2$.\n")
    told = "from snt_core.paper.selection import say; say('told to whoever runs it')"
    code = f"{told}\nprint(6 * 7)"
    make_chapter(code, parameters='profile: str = "published"', project=project)
    return project
