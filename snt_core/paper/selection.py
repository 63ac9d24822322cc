"""Which runs stand behind an artefact: chosen, made where missing, handed over together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from snt_core.common.terminal import say
from snt_core.paper.artefacts import artefact
from snt_core.paper.asked import checked
from snt_core.paper.profiles import BEST_FIRST, PROFILES, PUBLISHED, Profile, profile_named
from snt_core.runs.identity import record_name
from snt_core.runs.plan import PlannedRun, in_words, planned_runs
from snt_core.runs.preflight import preflight
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

    @property
    def missing(self) -> list[Spec]:
        """The runs that have no record."""
        have = {record.spec for record in self.records}
        return [spec for spec in self.specs if spec not in have]

    @property
    def is_measured(self) -> bool:
        """Whether a record says something; nets alone do only where nothing is measured."""
        telling = set(measured(self.specs))
        return any(record.spec in telling for record in self.records)

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

    "published" is the profile with the largest share of its records (the best of equals), and the
    seeds (of those given, if any are) that something was measured of. Where nothing was it is the
    cheapest profile that can tell, without a record. Empty `seeds`: the profile's.

    Raises:
        UserError: no such artefact or profile, or an option makes no sense.
    """
    chosen, which = _published(name, seeds, store, options) if profile == PUBLISHED else (None, ())
    if chosen is None:
        chosen = PROFILES[BEST_FIRST[-1]] if profile == PUBLISHED else profile_named(profile)
        which = tuple(seeds) or chosen.seeds
    specs = artefact(name).runs(chosen, which, **options)
    return Selection(artefact=name, profile=chosen, seeds=which, options=options, specs=specs)


def _published(
    name: str, seeds: Sequence[int], store: Store, options: Mapping[str, Any]
) -> tuple[Profile | None, tuple[int, ...]]:
    """The profile with the largest share of measurements, and their seeds; None without any."""
    have = store.names()
    runs = artefact(name).runs
    standing = []
    for profile in _different(name, options):
        wanted = tuple(seeds) or profile.seeds
        asked = {seed: measured(runs(profile, [seed], **options)) for seed in wanted}
        there = {
            seed: sum(record_name(spec) in have for spec in specs) for seed, specs in asked.items()
        }
        total = sum(map(len, asked.values()))
        share = sum(there.values()) / total if total else 0.0
        standing.append((share, profile, tuple(seed for seed in wanted if there[seed])))
    share, profile, begun = max(standing, key=lambda entry: entry[0])  # the first of equals
    return (profile, begun) if share else (None, ())


def measured(specs: Sequence[Spec]) -> Sequence[Spec]:
    """Return the runs that say something of their own: nets only where nothing is measured."""
    return [spec for spec in specs if not spec.leaves_weights] or specs


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
    seeds: Sequence[int] | int | str = (),
    store: str = "",
    **options: Any,
) -> Selection:
    """Return the records behind one figure or table; what is missing is run first.

    A chapter's one call. In "published" what is missing is left out: nothing trains for hours
    because a page is opened, and no number of `smoke` looks like a finding. Before anything runs
    all that was given is checked, and one line says what is there and what will be computed.

    Args:
        artefact: "table3", "table4", "figure5", ...
        profile: "smoke", "cifar", "paper", or "published" (see `select`).
        seeds: which seeds; empty for the profile's own. One alone will do, and so will "0,1", since
            papermill's command line has no lists.
        store: folder of records and weights; empty for `SNT_STORE` or the project's `data/`.
        options: what the artefact varies, as its `runs` names it.

    Raises:
        UserError: a name, a value, a folder, a data set or a record is wrong. Nothing has run then.
    """
    profile, seeds, store, options = checked(
        artefact, profile=profile, seeds=seeds, store=store, options=options
    )
    place = open_store(store)
    found = select(artefact, profile, seeds, place, **options).read(place)
    there = {record.spec: record for record in found.records}
    missing = [] if profile == PUBLISHED else found.missing
    preflight(missing, place)
    say(first_line(found, profile, seeds, planned_runs(missing, place)))
    if missing:
        from snt_core.runs.runner import run_all  # imports torch: only where something must run

        made = run_all(missing, place, profile=found.profile.name)
        there |= {record.spec: record for record in made}
    return replace(found, records=[there[spec] for spec in found.specs if spec in there])


def first_line(
    found: Selection, profile: str, seeds: Sequence[int], todo: Sequence[PlannedRun]
) -> str:
    """Return what a chapter says first: profile, what is there, what is computed, how long.

    It also names what was asked for in `profile` and `seeds` and has no effect.
    """
    part = "".join(f", {key} {_shown(value)}" for key, value in found.options.items())
    which = ", ".join(map(str, found.seeds))
    about = f"{found.artefact}{part}: profile {found.profile.name}, seeds {which}"
    counted = f"{len(found.records)} of {len(found.specs)} records are there"
    notes = [f"{counted}, nothing is computed"]
    if todo:
        notes = [f"{counted}, {len(todo)} to be computed now ({in_words(todo)})"]
    if profile == PUBLISHED and found.missing:
        notes.append("published leaves out what is missing")
    if unused := [str(seed) for seed in seeds if seed not in found.seeds]:
        notes.append(f"seeds {', '.join(unused)} have no records and are left out")
    return f"{about}: {'; '.join(notes)}"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
