"""What a user asks of an artefact, checked before anything runs: names, profile, seeds, options."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from snt_core.common.errors import UserError, unknown
from snt_core.common.parameters import check_injected, misspelt, spelt, typed
from snt_core.paper.artefacts import artefact, artefacts
from snt_core.paper.profiles import BEST_FIRST, PROFILES, PUBLISHED, Profile
from snt_core.runs.spec import Spec

SEEDS = 2**31  # the largest that a training takes
COMMON = {"profile": "str", "seeds": "list[int]", "store": "str"}  # what every chapter declares


def offered(name: str) -> tuple[str, ...]:
    """Return the profiles that an artefact can be run at, "published" first.

    `imagenet` is one only where something in it is ImageNet's: elsewhere it is `paper`.
    """
    runs = artefact(name).runs
    best, following = (runs(PROFILES[profile], [0]) for profile in BEST_FIRST[:2])
    same = bool(best) and best == following
    return tuple(p for p in (PUBLISHED, *PROFILES) if not (same and p == BEST_FIRST[0]))


def check_profile(name: str, profile: str) -> None:
    """Raise UserError, with the nearest name, unless the artefact is offered at `profile`."""
    if profile not in (allowed := offered(name)):
        raise unknown(f"profile of {name}", profile, allowed)


def check_seeds(specs: Mapping[int, Sequence[Spec]], seeds: Sequence[int]) -> None:
    """Raise UserError unless each seed is one, stands there once, and changes what is run.

    Args:
        specs: the runs of each seed, where they are known; empty where they are not.
    """
    shown = ", ".join(map(str, seeds))
    for seed in seeds:
        if not 0 <= seed <= SEEDS:
            raise UserError(f"a seed is {seed}; give whole numbers from 0 to {SEEDS}, such as 0,1")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds are {shown}; name each seed once")
    runs = [list(specs[seed]) for seed in seeds if specs.get(seed)]
    if len(runs) > 1 and all(other == runs[0] for other in runs):
        raise UserError(
            f"seeds are {shown}, but nothing here varies with the seed (public checkpoints are the "
            f"same for all); leave seeds out"
        )


def checked(
    name: str, *, profile: Any, seeds: Any, store: Any, options: Mapping[str, Any]
) -> tuple[str, list[int], str, dict[str, Any]]:
    """Return profile, seeds, store and options with their types, each as the artefact takes it.

    Raises:
        UserError: something is of another type, not offered or out of its range, or papermill was
            given a name that the chapter does not declare.
    """
    artefact(name)
    check_injected(name, _notebook_cells())
    given = {"profile": profile, "seeds": seeds, "store": store}
    found = {key: typed(name, key, COMMON[key], value) for key, value in given.items()}
    check_profile(name, found["profile"])
    hints = options_of(name)
    misspelt(name, options, hints)
    chosen = {key: typed(name, key, hints[key], value) for key, value in options.items()}
    if "sparsities" in chosen:
        check_sparsities(chosen["sparsities"])
    size = PROFILES.get(found["profile"], PROFILES["smoke"])
    check_seeds({}, found["seeds"])  # before they are used
    artefact(name).runs(size, found["seeds"] or size.seeds, **chosen)  # specs check their values
    # of the whole artefact, since another of its parts may vary with the seed
    check_seeds({s: artefact(name).runs(size, [s]) for s in found["seeds"]}, found["seeds"])
    return found["profile"], found["seeds"], found["store"], chosen


def check_sparsities(sparsities: Sequence[float]) -> None:
    """Raise UserError unless each share lies between none and all, and stands there once."""
    for sparsity in sparsities:
        if not 0 < sparsity < 1:
            raise UserError(
                f"a sparsity is {sparsity:g}; it must lie between 0 and 1 (the dense net is read "
                f"anyway, and at 1 nothing is left)"
            )
    if not sparsities or len(set(sparsities)) < len(sparsities):
        raise UserError(f"sparsities are {list(sparsities)}; give at least one, each once")


def options_of(name: str) -> dict[str, str]:
    """Return what an artefact varies, as the types that a `parameters` cell would declare."""
    runs = artefact(name).runs
    hints = typing.get_type_hints(runs)
    names = [
        p.name for p in inspect.signature(runs).parameters.values() if p.kind == p.KEYWORD_ONLY
    ]
    return {name: spelt(hints[name]) for name in names}


def _notebook_cells() -> list[str]:
    """Return the sources of the cells that ran so far in this process's notebook, if it is one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return [cell for cell in shell.user_ns.get("In", []) if cell] if shell else []


def requested(profile: Profile, names: Sequence[str], seeds: Sequence[int]) -> list[Spec]:
    """Return the runs that a command line asks for, each once.

    Seed by seed, so that the first seed is whole first.

    Args:
        names: artefacts; empty for all.
        seeds: empty for the profile's.

    Raises:
        UserError: one of them is not offered at `profile`, or the seeds make no sense.
    """
    for name in names:
        check_profile(name, profile.name)
    check_seeds({}, seeds)
    which = list(seeds) or profile.seeds
    asked = {
        seed: [s for n in names or artefacts() for s in artefact(n).runs(profile, [seed])]
        for seed in which
    }
    check_seeds(asked, seeds)
    return list(dict.fromkeys(spec for specs in asked.values() for spec in specs))
