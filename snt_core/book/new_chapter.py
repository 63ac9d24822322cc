"""A new chapter from the template: a notebook, its module in `paper/`, its line in `_toc.yml`."""

from __future__ import annotations

import json
import keyword
import re
from pathlib import Path
from string import Template
from typing import Any

from snt_core.book.chapters import chapters
from snt_core.common.documents import read_text
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT, atomic_write, checkout, require_writable

TEMPLATE = Path(__file__).parent / "template" / "artefact.txt"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PARAMETERS = """\
profile: str = "published"  # published (the best with records) | smoke | cifar | paper
seeds: list[int] = []  # empty: every seed that the profile has
store: str = ""  # folder of records and weights; empty: SNT_STORE, else data/ of the project"""
INTRODUCTION = """\
($artefact)=
# $title

**The claim.** Say what is claimed, and where.

`snt plan --profile NAME --only $artefact` says what each profile would cost here."""
OPENING = """\
from snt_core.book import cards
from snt_core.paper import $artefact
from snt_core.paper.selection import reproduce

runs = reproduce("$artefact", profile=profile, seeds=seeds, store=store)
cards.badge(runs)"""


def create(name: str, project: Path = PROJECT) -> list[Path]:
    """Write the files of a chapter called `name`, such as `figure8_depth`; returns all it touched.

    Up to its first underscore the name is that of the artefact and of its module in `paper/`.

    Raises:
        UserError: not a name for a chapter, or it is taken. Nothing is written then.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"'{name}' is no name for a chapter: use small letters, digits and underscores, "
            f"such as figure8_depth"
        )
    if project == PROJECT:
        checkout("a new chapter")
    artefact = name.split("_")[0]
    if keyword.iskeyword(artefact):
        raise UserError(f"'{artefact}' of '{name}' is a word of Python; choose another name")
    title = " ".join(name.split("_")).capitalize()
    notebook = project / "book" / f"{name}.ipynb"
    module = project / "snt_core" / "paper" / f"{artefact}.py"
    for path in (notebook, module):
        if path.exists():
            raise UserError(f"{path} exists; choose another name than '{name}'")
    if artefact in (chapter.short for chapter in chapters(project)):
        raise UserError(f"there is a chapter of {artefact} already; choose another name")
    for path in (notebook, module, project / "_toc.yml"):
        require_writable("the folder", path.parent)
    words = {"artefact": artefact, "title": title}
    contents = _with_entry(project / "_toc.yml", name)
    atomic_write(module, Template(TEMPLATE.read_text(encoding="utf-8")).substitute(words).encode())
    atomic_write(notebook, _notebook(words).encode())
    atomic_write(project / "_toc.yml", contents.encode())
    return [module, notebook, project / "_toc.yml"]


def _with_entry(toc: Path, name: str) -> str:
    """The table of contents with the chapter behind the last of its first part."""
    lines = read_text(toc).splitlines(keepends=True)
    entries = [i for i, line in enumerate(lines) if re.match(r"\s*- file: ", line)]
    if not entries:
        raise UserError(f"{toc} lists no chapter; add '- file: book/{name}' by hand")
    last = entries[0]
    while last + 1 in entries:  # a part ends where another line comes between
        last += 1
    indent = lines[last].partition("-")[0]
    lines.insert(last + 1, f"{indent}- file: book/{name}\n")
    return "".join(lines)


def _notebook(words: dict[str, str]) -> str:
    artefact, title = words["artefact"], words["title"]
    shown = {
        "figure": {"caption": f"{title}: say net, data and seeds.", "name": f"fig-{artefact}"},
    }
    cells = [
        _markdown(Template(INTRODUCTION).substitute(words)),
        _code(PARAMETERS, tags=["parameters"]),
        _code(Template(OPENING).substitute(words)),
        _markdown("## What came out"),
        _code(
            f"ours = {artefact}.table(runs.records)\ncards.figure({artefact}.figure, ours, runs)",
            mystnb=shown,
        ),
        _code('cards.table(ours[["approach", "seed", "top1"]])'),
        _markdown("## What to keep in mind\n\n- Say what the numbers cannot tell."),
        _markdown("## Where the numbers come from"),
        _code("cards.provenance(runs)"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"{artefact}-{number:02}"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    metadata = {"kernelspec": kernel, "snt": {"label": title, "artefact": artefact}}
    body = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    # as Jupyter writes it, so that the first save changes nothing else
    return json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source.splitlines(keepends=True)}


def _code(source: str, *, tags: list[str] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": tags or [], **metadata},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }
