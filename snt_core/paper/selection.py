"""Which runs stand behind an artefact: chosen, made where missing, handed over together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from snt_core.common.errors import UserError
from snt_core.paper.artefacts import artefact, artefacts
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

    @property
    def missing(self) -> list[Spec]:
        """The runs that have no record."""
        have = {record.spec for record in self.records}
        return [spec for spec in self.specs if spec not in have]

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
    seeds (of those given, if any are) that something was measured of; `smoke` where nothing was.
    Empty `seeds`: the profile's.

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
    seeds: Sequence[int] = (),
    store: str = "",
    **options: Any,
) -> Selection:
    """Return the records behind one figure or table; what is missing is run first.

    A chapter's one call. In "published" what is missing is left out: nothing trains for hours
    because a page is opened. Only `smoke` stands in, where nothing is there at all.

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
    shown_as_it_is = profile == PUBLISHED and found.profile.verdicts
    if not shown_as_it_is and (missing := found.missing):
        from snt_core.runs.runner import run_all  # imports torch: only where something must run

        made = run_all(missing, place, profile=found.profile.name)
        there |= {record.spec: record for record in made}
    return replace(found, records=[there[spec] for spec in found.specs if spec in there])


def requested(profile: Profile, only: str, seeds: str) -> list[Spec]:
    """Return the runs that a command line asks for, each once.

    Seed by seed, so that the first seed is whole first.

    Args:
        only: artefacts or chapters, separated by commas; empty for all.
        seeds: whole numbers, separated by commas; empty for the profile's.

    Raises:
        UserError: no such artefact, or no such number.
    """
    which = _seeds(seeds) or profile.seeds
    names = [_named(name.strip()) for name in only.split(",") if name] or list(artefacts())
    specs = [
        spec for seed in which for name in names for spec in artefact(name).runs(profile, [seed])
    ]
    return list(dict.fromkeys(specs))


def _named(name: str) -> str:
    """`table4`, or the name of its chapter `table4_ablation`."""
    short = name.split("_")[0]
    return short if short in artefacts() else name


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        seeds = (-1,)
    if any(seed < 0 for seed in seeds):
        raise UserError(f"--seeds is '{text}'; give whole numbers >= 0, such as 0,1,2")
    return seeds
