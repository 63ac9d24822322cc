"""The artefacts: tables, figures and the pages that belong to none. Found, not listed.

Every module of this folder that has a function `runs` is one, so that adding one is adding a file:

    runs(profile, seeds, **options) -> [Spec]   what it runs
    table(records) -> DataFrame                 a row for each number that its figure shows
    figure(table) -> Figure
    CLAIMS = {"claim": {"id": Assertion(...)}}  how the assertions of its claims are tested

Where an artefact has several parts (backbones, say), an option names one; empty means all. Each
part is published at the best profile that it has.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from snt_core import paper
from snt_core.common.errors import UserError, unknown

if TYPE_CHECKING:
    from snt_core.paper.evidence import Assertion

PARTS = ("backbone", "method", "about")  # options that name a part of an artefact


@cache
def artefacts() -> dict[str, Any]:
    """Return the artefacts' modules by name: tables, then figures, then the others."""
    names = [found.name for found in pkgutil.iter_modules(paper.__path__)]
    modules = {name: importlib.import_module(f"{paper.__name__}.{name}") for name in names}
    found = {name: module for name, module in modules.items() if hasattr(module, "runs")}
    return {name: found[name] for name in sorted(found, key=lambda name: _place(found[name]))}


def _place(module: ModuleType) -> tuple[int, int, bool, str]:
    """Where an artefact stands in lists: by kind and number; what judges no claim comes last."""
    name = module.__name__.rpartition(".")[2]
    numbered = re.match(r"(table|figure)(\d+)", name)
    if numbered is None:
        return 2, 0, not getattr(module, "CLAIMS", {}), name
    return ("table", "figure").index(numbered[1]), int(numbered[2]), False, name


def artefact(name: str) -> Any:
    """Return the module of an artefact.

    Raises UserError, with the nearest name and the way to make one, if there is none.
    """
    if name not in artefacts():
        error = unknown("artefact", name, artefacts())
        raise UserError(f"{error}; 'snt new-chapter {name}' would make one in snt_core/paper")
    return artefacts()[name]


@cache
def claims() -> dict[str, tuple[str, dict[str, Assertion]]]:
    """Return, for each claim that is tested, its artefact's name and its assertions."""
    return {
        claim: (name, assertions)
        for name, module in artefacts().items()
        for claim, assertions in getattr(module, "CLAIMS", {}).items()
    }
