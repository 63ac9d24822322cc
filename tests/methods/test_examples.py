"""The examples that a reader copies run as they stand, and print what they are said to print."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from docutils import nodes
from docutils.core import publish_doctree

from snt_core.common.files import PROJECT
from snt_core.common.vision import torchvision
from tests.examples import LIBRARY, Example, alike, names, run, sections

METHODS = PROJECT / "snt_core" / "methods"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
QUIET = {"report_level": 5, "halt_level": 6, "file_insertion_enabled": False}
WITH_VIT = "Fewer tokens"  # the section of the page that declares `my_vit`
PAGE = sections(LIBRARY)


def code_of(docstring: str) -> str:
    """Return the literal blocks of a docstring as one program."""
    tree = publish_doctree(docstring, settings_overrides=QUIET)
    return "\n".join(block.astext() for block in tree.findall(nodes.literal_block))


def programs() -> list[Any]:
    found = []
    for file in [PROJECT / "snt_core" / "__init__.py", *sorted(METHODS.rglob("*.py"))]:
        for node in ast.walk(ast.parse(file.read_text())):
            docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if docstring and "::\n" in docstring and (code := code_of(docstring)):
                name = ".".join(file.relative_to(METHODS.parent).with_suffix("").parts)
                found.append(pytest.param(code, id=f"{name}:{getattr(node, 'name', '')}"))
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision()  # so that the examples can import timm
    monkeypatch.chdir(tmp_path)  # for the files that they write


@pytest.mark.parametrize("program", programs())
def test_a_docstring_runs(program):
    given = names()
    if "my_vit" in program:
        run(PAGE[WITH_VIT][0].code, given)
    run(program, given)


@pytest.mark.parametrize("title", [title for title in PAGE if title])
def test_a_section_runs_and_prints_what_the_page_says(title):
    given = names()
    for example in PAGE[title]:
        printed = run(example.code, given)
        assert alike(printed, example.printed), printed


def test_the_readme_runs():
    examples = [one for found in sections(PROJECT / "README.md").values() for one in found]
    assert examples
    given = names()
    for example in examples:
        run(example.code, given)


def test_every_word_and_number_counts():
    assert alike("loss 1.02, 4,240 bytes", "loss 1.00, 4,241 bytes")
    for other in ("loss 1.5, 4,241 bytes", "gain 1.00, 4,241 bytes", "loss 1.00"):
        assert not alike(other, "loss 1.00, 4,241 bytes")


def test_what_a_page_prints_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n## One\n```python\nprint(2)\n```\n\n```text\n2\n```\n")
    assert sections(page) == {"": [Example("a = 1\n", "")], "One": [Example("print(2)\n", "2\n")]}
