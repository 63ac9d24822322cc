"""A chapter that is asked for: what was given, where it goes and its runs, checked beforehand."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from snt_core.book.chapters import Chapter, chapters, check, parameters, read_notebook
from snt_core.common.errors import UserError, unknown
from snt_core.common.files import PROJECT, place, require_writable, sweep
from snt_core.paper.artefacts import artefact, artefacts
from snt_core.paper.asked import COMMON, checked, offered, options_of
from snt_core.paper.profiles import PROFILES, PUBLISHED
from snt_core.paper.selection import select
from snt_core.runs.preflight import preflight
from snt_core.runs.store import open_store


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Return what `-p key=value` gave, each key once. Raises UserError for anything else."""
    given: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UserError(f"-p takes key=value, not '{text}'")
        if any("\ud800" <= char <= "\udfff" for char in text):  # bytes that were no UTF-8
            raise UserError(f"-p takes UTF-8 text, not '{text}'")
        if key in given:
            raise UserError(f"-p gives {key} twice, '{given[key]}' and '{value}'; give it once")
        given[key] = value
    return given


def prepared(chapter: Chapter, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` as values that the chapter can be executed with.

    Raises:
        UserError: a name, value, folder or data set is wrong, by the same checks as the chapter's
            own call makes, and in the same words.
    """
    values = check(chapter, given)
    if values.get("store"):  # the kernel runs in another folder
        values["store"] = str(open_store(values["store"]).folder)
    known = parameters(chapter)
    every = {name: known[name].default for name in known} | values
    if chapter.artefact is None:
        if "profile" in values and values["profile"] not in (PUBLISHED, *PROFILES):
            raise unknown("profile", values["profile"], (PUBLISHED, *PROFILES))
        return values
    if lacking := [name for name in COMMON if name not in every]:
        raise UserError(f"{chapter.file} declares no parameter {', '.join(lacking)}; add it")
    common = {name: every[name] for name in COMMON}
    own = {name: every[name] for name in options_of(chapter.artefact) if name in every}
    profile, seeds, store, options = checked(chapter.artefact, **common, options=own)
    found = select(chapter.artefact, profile, seeds, open_store(store), **options)
    if profile != PUBLISHED:
        preflight(found.specs, open_store(store))
    return values


def without_effect(chapter: Chapter, given: Collection[str]) -> list[str]:
    """Return the parameters among `given` that no cell of the chapter reads."""
    read = {
        node.id
        for cell in read_notebook(chapter.file)["cells"]
        if cell["cell_type"] == "code"
        for node in ast.walk(_parsed("".join(cell["source"])))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return [name for name in given if name not in read]


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # a cell with a magic command
        return ast.Module([], [])


def output_file(text: str, chapter: Chapter) -> Path:
    """Return where an executed chapter goes: `text`, or the project's `_build/chapters`.

    Raises UserError where no notebook can be written.
    """
    if not text:
        path = PROJECT / "_build" / "chapters" / f"{chapter.name}.ipynb"
    else:
        path = place("--output", text)
        if path.is_dir() or path.suffix != ".ipynb":
            raise UserError(f"--output is '{text}'; name a file that ends in .ipynb")
    if path == chapter.file.resolve():
        raise UserError(f"--output is the chapter itself, '{text}'; name another file")
    require_writable("the output folder", path.parent)
    if not text:
        sweep(path.parent)
    return path


def edition(chapter: Chapter, profile: str) -> dict[str, Any]:
    """Return the parameters of a chapter in the book of `profile`.

    Where nothing is ImageNet's, its profile runs what `paper` does, with its own seeds.
    """
    if chapter.artefact is None or profile in offered(chapter.artefact):
        return {"profile": profile}
    return {"profile": "paper", "seeds": list(PROFILES[profile].seeds)}


def count(option: str) -> Callable[[str | int], int]:
    """Return what reads the number behind an option: one of something, or more."""

    def read(text: str | int) -> int:
        if isinstance(text, int):  # the default
            return text
        if not re.fullmatch(r"0{0,9}[1-9][0-9]{0,8}", text, re.ASCII):
            shown = text if len(text) <= 40 else f"{text[:40]}..."
            raise UserError(
                f"{option} is '{shown}'; give a whole number above 0 of at most 9 digits, such as 2"
            )
        return int(text)

    return read


def artefacts_named(only: str) -> list[str]:
    """Return the artefacts that `--only` names, each itself or by its chapter; [] for all.

    Raises UserError for a name that is neither.
    """
    found = []
    for name in map(str.strip, only.split(",") if only else ()):
        if not name:
            raise UserError(f"--only is '{only}'; name artefacts or chapters, as table4,figure5")
        by_chapter = {} if name in artefacts() else {c.name: c.artefact for c in chapters()}
        found.append(by_chapter.get(name) or name)
        artefact(found[-1])
    return list(dict.fromkeys(found))


def seeds_named(seeds: str) -> list[int]:
    """Return the seeds that `--seeds` names; [] for the profile's. Raises UserError."""
    try:
        return [int(part) for part in seeds.split(",")] if seeds else []
    except ValueError as error:
        raise UserError(f"--seeds is '{seeds}'; give whole numbers >= 0, such as 0,1,2") from error
