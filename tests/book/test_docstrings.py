"""The reference: every public module has its place, and reads as the other pages do."""

from __future__ import annotations

import ast
import re

import snt_core
from snt_core.book.docstrings import readable
from snt_core.common.files import PROJECT


def documented() -> set[str]:
    pages = [(PROJECT / "book" / f"{name}.md").read_text() for name in ("api", "api_methods")]
    return set(re.findall(r"automodule:: (\S+)", "".join(pages)))


def test_every_module_of_methods_is_in_the_reference():
    package = PROJECT / "snt_core"
    modules = {
        ".".join(file.relative_to(PROJECT).with_suffix("").parts)
        for file in (package / "methods").rglob("*.py")
        if file.name != "__init__.py"
    }
    assert modules - documented() == set()


def test_every_module_of_paper_that_a_chapter_imports_is_in_the_reference():
    asked = set()
    for chapter in PROJECT.glob("book/*.ipynb"):
        for line in re.findall(r"from snt_core\.paper import ([\w, ]+)", chapter.read_text()):
            asked |= {f"snt_core.paper.{name.strip()}" for name in line.split(",")}
    assert asked
    assert asked - documented() == set()


def test_every_public_name_of_methods_has_a_docstring():
    for file in (PROJECT / "snt_core" / "methods").rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                assert ast.get_docstring(node), f"{file.name}: {node.name}"


def test_symbols_replace_the_quantity_but_no_code():
    lines = [
        "The lambda_max of `lambda_max` and m.lambda_max(x)::",
        "",
        "    lambda_max = 1",
        ".",
    ]
    assert readable(lines) == [
        "The λ_max of `lambda_max` and m.lambda_max(x)::",
        "",
        "    lambda_max = 1",
        ".",
    ]


def test_what_the_page_of_the_library_links_to_is_in_the_reference():
    page = (PROJECT / "book" / "library.md").read_text()
    targets = re.findall(r"\{(?:func|class)\}`[^<`]+<([\w.]+)>`", page)
    assert len(targets) >= 15
    assert len(targets) == len(re.findall(r"\{(?:func|class)\}", page))
    for target in targets:
        module, _, name = target.rpartition(".")
        assert module in documented(), target
        file = PROJECT / f"{module.replace('.', '/')}.py"
        assert name in {getattr(node, "name", "") for node in ast.parse(file.read_text()).body}


def test_every_public_name_is_in_the_reference():
    homes = {getattr(snt_core, name).__module__ for name in snt_core.__all__}
    assert homes <= documented()
