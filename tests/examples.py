"""The code of a page, section by section, run as a reader would who copies it."""

from __future__ import annotations

import contextlib
import copy
import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
LIBRARY = PROJECT / "book" / "library.md"
FENCES = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:,\d{3})*\.?\d*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Example:
    """A block of code, and what the page says that it prints."""

    code: str
    printed: str


def sections(page: Path) -> dict[str, list[Example]]:
    """Return the examples of each section of a page that has any; "" is before the first."""
    parts = re.split(r"^## (.*)\n", page.read_text(), flags=re.MULTILINE)
    texts = {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
    found = {title: [Example(*m) for m in FENCES.findall(text)] for title, text in texts.items()}
    return {title: examples for title, examples in found.items() if examples}


@cache
def declared() -> dict[str, Any]:
    """Return the names that the page of the library declares once for all examples."""
    names: dict[str, Any] = {"__name__": "example"}
    for example in sections(LIBRARY)[""]:
        run(example.code, names)
    return names


def names() -> dict[str, Any]:
    """Return these names, with models of their own for the example to train."""
    models = {key: value for key, value in declared().items() if hasattr(value, "state_dict")}
    return {**declared(), **copy.deepcopy(models)}


def run(code: str, names: dict[str, Any]) -> str:
    """Run code among these names, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "example", "exec"), names)
    return printed.getvalue()


def alike(printed: str, said: str) -> bool:
    """Whether two texts have the same words, and numbers that are nearly the same.

    Training makes much of rounding: on two threads, or another processor, a rise of the loss was
    seen to differ by a quarter.
    """
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", said).split():
        return False
    pairs = zip(_numbers(printed), _numbers(said), strict=True)
    return all(abs(a - b) <= 0.4 * abs(b) for a, b in pairs)


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]
