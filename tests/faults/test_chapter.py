"""A number that was edited by hand in an executed chapter does not reach the page."""

from __future__ import annotations

import json

import pytest

from snt_core.book import build


@pytest.fixture
def executions(monkeypatch) -> list[str]:
    """The chapters that were executed; each shows 42."""
    ran: list[str] = []

    def execute_all(which, outdir, parameters, workers, *, own, keep, notify):
        for chapter in which:
            ran.append(chapter.name)
            body = json.loads(chapter.file.read_text())
            for cell in body["cells"]:
                if cell["cell_type"] == "code":
                    shown = [{"output_type": "stream", "name": "stdout", "text": ["42"]}]
                    cell |= {"execution_count": 1, "outputs": shown}
            outdir.mkdir(parents=True, exist_ok=True)
            file = outdir / f"{chapter.name}.ipynb"
            file.write_text(json.dumps(body))
            keep(chapter, file)
        return {chapter.name: outdir / f"{chapter.name}.ipynb" for chapter in which}

    monkeypatch.setattr(build, "execute_all", execute_all)
    return ran


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text.replace("42", "43"),
        lambda text: text[: len(text) // 2],
        lambda text: "",
    ],
    ids=["edited", "cut short", "empty"],
)
def test_an_altered_notebook_is_executed_again_and_named(small_project, executions, alter):
    said: list[str] = []

    def book() -> str:
        folder = small_project / "_build" / "published" / "executed"
        (file,) = build._execute_changed(small_project, folder, {}, 1, said.append).values()
        return file

    whole = book().read_text()
    book()
    assert executions == ["table9_small"]
    assert not any("altered" in line for line in said)
    book().write_text(alter(whole))
    assert book().read_text() == whole
    assert executions == ["table9_small"] * 2
    assert sum("table9_small: its executed notebook was altered" in line for line in said) == 1


def test_a_notebook_whose_note_is_lost_is_executed_again(small_project, executions):
    folder = small_project / "_build" / "published" / "executed"
    for _ in range(2):
        for note in folder.glob("*.key"):
            note.write_text("a" * 64)  # as earlier versions wrote it, without a digest
        build._execute_changed(small_project, folder, {}, 1, print)
    assert len(executions) == 2
