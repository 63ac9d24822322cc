"""How many runs of each artefact are done, under way and missing, at every profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES
from snt_core.paper.selection import select
from snt_core.runs.identity import record_name
from snt_core.runs.store import Store


@dataclass(frozen=True)
class Standing:
    """How many runs of an artefact at a profile are done, under way, missing."""

    artefact: str
    profile: str
    done: int
    running: int
    missing: int


def standings(store: Store, profiles: Sequence[str] = tuple(PROFILES)) -> list[Standing]:
    """Return one row for each artefact and profile, over all seeds of the profile."""
    have = store.names()
    rows = []
    for artefact in artefacts():
        for profile in profiles:
            specs = select(artefact, profile, (), store).specs
            lacking = [spec for spec in specs if record_name(spec) not in have]
            running = sum(store.is_running(spec) for spec in lacking)
            rows.append(
                Standing(
                    artefact,
                    profile,
                    done=len(specs) - len(lacking),
                    running=running,
                    missing=len(lacking) - running,
                )
            )
    return rows
