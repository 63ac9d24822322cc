"""Which runs stand behind an artefact: chosen, made where missing, handed over together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from snt_core.common.errors import UserError
from snt_core.paper.artefacts import artefact
from snt_core.paper.profiles import BEST_FIRST, PROFILES, PUBLISHED, Profile, profile_named
from snt_core.runs.identity import record_name
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store, open_store


@dataclass(frozen=True, kw_only=True)
class Selection:
    """An artefact, or a part of it, at one profile: what is asked for and what was found.

    Attributes:
        options: what the artefact varies, as its `runs` names it.
        specs: every run that belongs to it.
        records: those that are there, in the order of `specs`; empty until they are read.
    """

    artefact: str
    profile: Profile
    seeds: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    specs: Sequence[Spec]
    records: Sequence[Record] = ()

    def read(self, store: Store) -> Selection:
        """Return the selection with the records that are in `store`, each read once."""
        found = [store.get(spec) for spec in self.specs]
        return replace(self, records=[record for record in found if record is not None])

    def part(self, options: Mapping[str, Any]) -> Selection:
        """Return the selection's runs that belong to the artefact under `options`."""
        if options == self.options:
            return self
        specs = artefact(self.artefact).runs(self.profile, self.seeds, **options)
        own = set(specs)
        records = {record.spec: record for record in self.records if record.spec in own}
        return replace(self, options=options, specs=specs, records=list(records.values()))


def select(
    name: str, profile: str, seeds: Sequence[int], store: Store, **options: Any
) -> Selection:
    """Return the runs of an artefact at `profile`. No record is read.

    "published" is the best profile that has every record of all its seeds (or of the `seeds`
    given), else the one with most of them complete, taking those; where no seed is complete it
    is `smoke`. Empty `seeds`: the profile's.

    Raises:
        UserError: no such artefact or profile, or an option makes no sense.
    """
    chosen, which = _published(name, seeds, store, options) if profile == PUBLISHED else (None, ())
    if chosen is None:
        chosen = profile_named("smoke" if profile == PUBLISHED else profile)
        which = tuple(seeds) or chosen.seeds
    specs = artefact(name).runs(chosen, which, **options)
    return Selection(artefact=name, profile=chosen, seeds=which, options=options, specs=specs)


def _published(
    name: str, seeds: Sequence[int], store: Store, options: Mapping[str, Any]
) -> tuple[Profile | None, tuple[int, ...]]:
    """The profile with the largest share of whole seeds, and those; None where none is whole."""
    have = store.names()
    runs = artefact(name).runs
    standing = []
    for profile in _different(name, options):
        wanted = tuple(seeds) or profile.seeds
        whole = tuple(
            seed
            for seed in wanted
            if all(record_name(spec) in have for spec in runs(profile, [seed], **options))
        )
        standing.append((len(whole) / len(wanted), profile, whole))
    share, profile, whole = max(standing, key=lambda entry: entry[0])  # the first of equals
    return (profile, whole) if share else (None, ())


def _different(name: str, options: Mapping[str, Any]) -> Iterator[Profile]:
    """Profiles from the best on; one whose runs are those of the next (no ImageNet in them) is not
    counted apart."""
    runs = artefact(name).runs
    for best, following in zip_longest(BEST_FIRST, BEST_FIRST[1:]):
        specs = runs(PROFILES[best], [0], **options)
        if following is None or specs != runs(PROFILES[following], [0], **options):
            yield PROFILES[best]


def reproduce(
    artefact: str,
    *,
    profile: str = PUBLISHED,
    seeds: Sequence[int] = (),
    store: str = "",
    **options: Any,
) -> Selection:
    """Return the records behind one figure or table; what is missing is run first.

    A chapter's one call.

    Args:
        artefact: "table3", "table4", "figure5", ...
        profile: "smoke", "cifar", "paper", or "published" (see `select`).
        seeds: which seeds; empty for the profile's own.
        store: folder of records and weights; empty for `SNT_STORE` or the project's `data/`.
        options: what the artefact varies, as its `runs` names it.

    Raises:
        UserError: a name, seed or record is wrong. Nothing has run then.
    """
    if any(not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise UserError(f"seeds are {list(seeds)}; give whole numbers >= 0, such as [0, 1, 2]")
    place = open_store(store)
    found = select(artefact, profile, seeds, place, **options).read(place)
    there = {record.spec: record for record in found.records}
    if missing := [spec for spec in found.specs if spec not in there]:
        from snt_core.runs.runner import run_all  # imports torch: only where something must run

        made = run_all(missing, place, profile=found.profile.name)
        there |= {record.spec: record for record in made}
    return replace(found, records=[there[spec] for spec in found.specs if spec in there])
