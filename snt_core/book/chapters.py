"""The chapters: notebooks that the table of contents lists, and their parameters.

A chapter is an ordinary notebook, so plain papermill runs it too. What is added here: parameters
are checked before anything runs.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snt_core.common.errors import UserError, unknown
from snt_core.common.files import PROJECT


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book. `name` is its file's stem, `label` the paper's ("Table 4")."""

    name: str
    label: str
    file: Path
    artefact: str | None

    @property
    def short(self) -> str:
        """`table4` of `table4_ablation`: what users type."""
        return self.name.split("_")[0]


@dataclass(frozen=True)
class Parameter:
    """One line of a chapter's `parameters` cell: `name: annotation = default  # comment`."""

    name: str
    annotation: str
    default: Any
    comment: str


# which chapters there are -------------------------------------------------------------------


def chapters(project: Path = PROJECT) -> list[Chapter]:
    """Return the notebooks that `_toc.yml` lists, in its order. Markdown pages are no chapters.

    Raises:
        UserError: a page that is listed does not exist.
    """
    import yaml

    pages = list(_pages(yaml.safe_load((project / "_toc.yml").read_text())))
    for page in pages:
        if not any((project / f"{page}{kind}").exists() for kind in (".ipynb", ".md")):
            raise UserError(f"_toc.yml lists '{page}', but there is no {page}.ipynb or {page}.md")
    files = [project / f"{page}.ipynb" for page in pages]
    return [_chapter(file) for file in files if file.exists()]


def find(name: str, project: Path = PROJECT) -> Chapter:
    """Return the chapter called `name`: `table4_ablation`, or `table4` for short."""
    known = chapters(project)
    for chapter in known:
        if name in (chapter.name, chapter.short):
            return chapter
    raise unknown("chapter", name, [chapter.name for chapter in known])


def _pages(node: Any) -> list[str]:
    """Return every page of a table of contents or a branch of it, in reading order."""
    if isinstance(node, list):
        return [page for branch in node for page in _pages(branch)]
    own = [node[key] for key in ("root", "file") if key in node]
    below = [node[key] for key in ("parts", "chapters", "sections") if key in node]
    return own + _pages(below)


def _chapter(file: Path) -> Chapter:
    about = read_notebook(file)["metadata"].get("snt", {})
    return Chapter(file.stem, about.get("label", file.stem), file, about.get("artefact"))


def read_notebook(file: Path) -> dict[str, Any]:
    """Return the JSON of a notebook. Raises UserError if it is none."""
    try:
        notebook: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return notebook
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not a notebook: {error}") from error


# parameters ---------------------------------------------------------------------------------


def parameters(chapter: Chapter) -> dict[str, Parameter]:
    """Return what the chapter can be given: the assignments of its cell tagged `parameters`."""
    import papermill

    found = papermill.inspect_notebook(str(chapter.file))
    return {
        name: Parameter(
            name=name,
            annotation=about["inferred_type_name"],
            default=ast.literal_eval(about["default"]),
            comment=about["help"],
        )
        for name, about in found.items()
    }


def check(
    chapter: Chapter, given: Mapping[str, Any], profiles: Sequence[str] = ()
) -> dict[str, Any]:
    """Return `given` ("0,1" for a `list[int]`) as values of the types that the chapter declares.

    Args:
        given: strings from a command line, or values that have their type already.
        profiles: what `profile` may be, besides its default; empty for anything.

    Raises:
        UserError: no such parameter, or a value of another type.
    """
    known = parameters(chapter)
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise unknown(f"parameter of {chapter.name}", name, known)
        checked[name] = _typed(chapter, known[name], value)
    if profiles and "profile" in checked:
        allowed = dict.fromkeys([*profiles, known["profile"].default])
        if checked["profile"] not in allowed:
            raise unknown("profile", checked["profile"], allowed)
    return checked


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


# how a parameter's text is read, what to call it in an error, and an example
_READ: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "str": (str, "text", "name"),
    "int": (int, "a whole number", "3"),
    "float": (float, "a number", "0.1"),
    "bool": (_bool, "true or false", "true"),
    "list[str]": (str, "names", "a,b"),
    "list[int]": (int, "whole numbers", "0,1,2"),
    "list[float]": (float, "numbers", "0.1,0.5"),
}


def _typed(chapter: Chapter, parameter: Parameter, value: Any) -> Any:
    read, kind, example = _READ[parameter.annotation]
    is_list = parameter.annotation.startswith("list")
    items = _items(value) if is_list else [str(value)]
    try:
        values = [read(item) for item in items]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{chapter.name} takes {kind} for {parameter.name}, not '{value}'"
            f" (write {parameter.name}={example})"
        ) from error
    return values if is_list else values[0]


def _items(value: Any) -> list[str]:
    """Return the texts of a list, written `0,1` or `[0, 1]` or given as a list."""
    if not isinstance(value, str):
        return [str(item) for item in value]
    inside = value.strip().removeprefix("[").removesuffix("]")
    return [item.strip().strip("'\"") for item in inside.split(",") if inside.strip()]
