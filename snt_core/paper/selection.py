"""Which runs stand behind an artefact: chosen, made where missing, handed over together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from snt_core.common.errors import UserError, unknown
from snt_core.paper.experiments import ARTEFACTS
from snt_core.paper.profiles import BEST_FIRST, PROFILES, PUBLISHED, Profile, profile_named
from snt_core.runs.spec import Spec, record_name
from snt_core.runs.store import Record, Store, open_store


@dataclass(frozen=True)
class Selection:
    """An artefact at one profile, with the seeds that are run and their specs."""

    artefact: str
    profile: Profile
    seeds: tuple[int, ...]
    specs: list[Spec]


@dataclass(frozen=True)
class Result:
    """The records of a selection, and the `options` that it was made with."""

    artefact: str
    profile: Profile
    seeds: tuple[int, ...]
    records: list[Record]
    options: dict[str, Any] = field(default_factory=dict)


def artefact_named(name: str) -> str:
    if name not in ARTEFACTS:
        raise unknown("artefact", name, ARTEFACTS)
    return name


def select(
    artefact: str, profile: str, seeds: Sequence[int], store: Store, **options: Any
) -> Selection:
    """Specs of `artefact` (a key of `ARTEFACTS`) at `profile`.

    "published" is the best profile that has every record of all its seeds (or of the `seeds`
    given), else the one with most of them complete, taking those; where no seed is complete it
    is `smoke`. Empty `seeds`: the profile's.
    """
    make = ARTEFACTS[artefact_named(artefact)]
    if profile == PUBLISHED:
        have = store.names()
        standing = []
        for best in _different(make, options):
            wanted = tuple(seeds) or best.seeds
            done = tuple(
                seed
                for seed in wanted
                if all(record_name(spec) in have for spec in make(best, [seed], **options))
            )
            standing.append((len(done) / len(wanted), best, done))
        share, best, done = max(standing, key=lambda entry: entry[0])  # the first of equals
        if share:
            return Selection(artefact, best, done, make(best, done, **options))
        profile = "smoke"
    chosen = profile_named(profile)
    which = tuple(seeds) or chosen.seeds
    return Selection(artefact, chosen, which, make(chosen, which, **options))


def _different(make: Callable[..., list[Spec]], options: dict[str, Any]) -> Iterator[Profile]:
    """Profiles from the best on; one whose runs are those of the next (no ImageNet in them) is not
    counted apart."""
    for name, following in zip_longest(BEST_FIRST, BEST_FIRST[1:]):
        runs = make(PROFILES[name], [0], **options)
        if following is None or runs != make(PROFILES[following], [0], **options):
            yield PROFILES[name]


def reproduce(
    artefact: str,
    *,
    profile: str = PUBLISHED,
    seeds: Sequence[int] = (),
    store: str = "",
    **options: Any,
) -> Result:
    """Records behind one figure or table; what is missing is run first. A chapter's one call.

    Args:
        artefact: "table3", "table4", "figure5", ...
        profile: "smoke", "cifar", "paper", or "published" (see `select`).
        seeds: which seeds; empty for the profile's own.
        store: folder of records and weights; empty for `SNT_STORE` or the project's `data/`.
        options: what the artefact varies, as its function in `experiments` names it.

    Raises:
        UserError: a name, seed or record is wrong. Nothing has run then.
    """
    if any(not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise UserError(f"seeds are {list(seeds)}; give whole numbers >= 0, such as [0, 1, 2]")
    place = open_store(store)
    chosen = select(artefact, profile, seeds, place, **options)
    if any(place.get(spec) is None for spec in chosen.specs):
        from snt_core.runs.runner import run_all  # imports torch: only where something must run

        records = run_all(chosen.specs, place, profile=chosen.profile.name)
    else:
        records = [record for spec in chosen.specs if (record := place.get(spec))]
    return Result(artefact, chosen.profile, chosen.seeds, records, options)
