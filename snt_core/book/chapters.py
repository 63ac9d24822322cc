"""The chapters: notebooks that the table of contents lists, and their parameters.

A chapter is an ordinary notebook, so plain papermill runs it too. What is added here: parameters
are checked before anything runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snt_core.common.documents import read_json, read_yaml
from snt_core.common.errors import UserError, unknown
from snt_core.common.files import PROJECT, checkout
from snt_core.common.parameters import Parameter, declared, misspelt, typed
from snt_core.runs.shapes import ANY, TEXT, Shape, count, fields, many, nothing_or, require, text

SOURCE: Shape = {"anyOf": [TEXT, many(TEXT)]}
ABOUT_CELL = fields({"tags": many(TEXT)})
CODE = fields(cell_type=text("code"), metadata=ABOUT_CELL, source=SOURCE, outputs=many(ANY))
PROSE = fields(cell_type=text("markdown|raw"), metadata=ABOUT_CELL, source=SOURCE)
ABOUT = fields(
    {
        "snt": fields({"label": TEXT, "artefact": nothing_or(TEXT)}),
        "papermill": fields(),
        "kernelspec": fields(),
        "language_info": fields(),
    }
)
NOTEBOOK = fields(  # what is read of one here
    nbformat=count(4, 4),
    nbformat_minor=count(),
    metadata=ABOUT,
    cells=many({"anyOf": [CODE, PROSE]}),
)


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book. `name` is its file's stem, `label` the paper's ("Table 4")."""

    name: str
    label: str
    file: Path
    artefact: str | None

    @property
    def short(self) -> str:
        """What users type, such as `table4` of `table4_ablation`."""
        return self.name.split("_")[0]

    @property
    def subject(self) -> str:
        """What errors call it, as its one call does, which knows no file."""
        return self.artefact or self.name


# which chapters there are -------------------------------------------------------------------


def chapters(project: Path = PROJECT) -> list[Chapter]:
    """Return the notebooks that `_toc.yml` lists, in its order. Markdown pages are no chapters.

    Raises:
        UserError: `_toc.yml` is no table of contents, a page that it lists does not exist, or a
            notebook is damaged.
    """
    if project == PROJECT:
        checkout("the book's chapters")
    pages = pages_of(project / "_toc.yml")
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


def pages_of(toc: Path) -> list[str]:
    """Return every page of a table of contents, in reading order."""
    from sphinx_external_toc.parsing import MalformedError, parse_toc_data  # Jupyter Book's own

    try:
        pages = parse_toc_data(read_yaml(toc) or {})
    except (MalformedError, TypeError, AttributeError) as error:
        raise UserError(
            f"{toc} is no table of contents ({error}); it needs 'root: PAGE', then 'parts:' or "
            f"'chapters:' with entries '- file: PAGE'"
        ) from error
    return [str(page) for page in pages]


def _chapter(file: Path) -> Chapter:
    about = read_notebook(file)["metadata"].get("snt", {})
    return Chapter(file.stem, about.get("label", file.stem), file, about.get("artefact"))


def read_notebook(file: Path) -> dict[str, Any]:
    """Return the JSON of a notebook. Raises UserError if it is none, or a damaged one."""
    notebook = read_json(file)
    try:
        require("it", NOTEBOOK, notebook)
    except ValueError as error:
        raise UserError(
            f"{file} is not a notebook of format 4, or a damaged one ({error}); restore it from "
            f"git, or save it again in JupyterLab"
        ) from error
    return dict(notebook)


def require_valid(file: Path) -> None:
    """Raise UserError where a notebook breaks a rule of its format, before a kernel starts."""
    import nbformat

    notebook = nbformat.from_dict(read_notebook(file))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a missing id is mended on the way
            nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file} is a damaged notebook ({reason}); restore it from git, or save it again in "
            f"JupyterLab"
        ) from error


# parameters ---------------------------------------------------------------------------------


def parameters(chapter: Chapter) -> dict[str, Parameter]:
    """Return what the chapter can be given: the assignments of its cell tagged `parameters`.

    Raises UserError unless there is one such cell, whose every line declares a typed parameter.
    """
    cells = read_notebook(chapter.file)["cells"]
    tagged = [
        cell
        for cell in cells
        if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", ())
    ]
    if len(tagged) != 1:
        raise UserError(
            f"{chapter.file} has {len(tagged)} code cells tagged 'parameters'; tag the one that "
            f"declares profile, seeds and store"
        )
    return declared("".join(tagged[0]["source"]), f"the parameters cell of {chapter.file}")


def check(chapter: Chapter, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` ("0,1" for a `list[int]`) as values of the types that the chapter declares.

    Args:
        given: strings from a command line, or values that have their type already.

    Raises:
        UserError: no such parameter, or a value of another type.
    """
    known = parameters(chapter)
    misspelt(chapter.subject, given, known)
    return {
        name: typed(chapter.subject, name, known[name].annotation, value)
        for name, value in given.items()
    }
