"""What would run and how long it would take, and what stands where. Reads records, runs nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snt_core.paper.experiments import ARTEFACTS
from snt_core.paper.profiles import PROFILES
from snt_core.paper.selection import select
from snt_core.runs.spec import Net, Spec, record_name, root, run_id
from snt_core.runs.store import Store


def pending(specs: Iterable[Spec], store: Store) -> list[Spec]:
    """What has to run so that every spec has a record, trainings before their measurements.

    A training whose record exists comes back only if a measurement needs weights that are gone.
    """
    have = store.names()
    todo: dict[str, Spec] = {}
    for spec in specs:
        if record_name(spec) in have:
            continue
        net = root(spec)
        ready = record_name(net) in have and store.weights_path(net).exists()
        if not ready and not is_diverged(net, store):
            todo.setdefault(run_id(net), net)
        todo.setdefault(run_id(spec), spec)
    return sorted(todo.values(), key=lambda spec: root(spec) is not spec)


def is_diverged(net: Net, store: Store) -> bool:
    record = store.get(net)
    return record is not None and record.status == "diverged"


@dataclass(frozen=True)
class Step:
    """A run that is missing. `seconds` is None where no like run has been timed here."""

    spec: Spec
    seconds: float | None
    resumes_at: float


Like = tuple[str, str, str]  # kind, model, variant: runs whose pace is alike


def _like(spec: Spec) -> Like:
    net = root(spec)
    return spec.kind, net.model, net.variant


def steps(specs: Iterable[Spec], store: Store) -> list[Step]:
    """The runs still to be made for `specs`, in order, each with a time from past records."""
    missing = pending(specs, store)
    if not missing:  # the usual case, and reading every record takes a while where there are many
        return []
    # Totals, so that large runs, whose overhead is small, count for more than small ones.
    seconds: dict[Like, float] = defaultdict(float)
    amount: dict[Like, float] = defaultdict(float)
    for record in store.records():
        if record.status == "done":
            seconds[_like(record.spec)] += record.provenance["seconds"]
            amount[_like(record.spec)] += record.spec.work()
    pace = {like: seconds[like] / amount[like] for like in seconds}
    return [_step(spec, pace.get(_like(spec)), store) for spec in missing]


def _step(spec: Spec, pace: float | None, store: Store) -> Step:
    resumes_at = store.progress(spec) if store.is_begun(spec) else 0.0
    seconds = None if pace is None else pace * spec.work() * (1 - resumes_at)
    return Step(spec, seconds, resumes_at)


@dataclass(frozen=True)
class Standing:
    """How many runs of an artefact at a profile are done, under way, missing."""

    artefact: str
    profile: str
    done: int
    running: int
    missing: int


def standings(store: Store, profiles: Sequence[str] = tuple(PROFILES)) -> list[Standing]:
    """One row for each artefact and profile, over all seeds of the profile."""
    have = store.names()
    rows = []
    for artefact in ARTEFACTS:
        for profile in profiles:
            specs = select(artefact, profile, (), store).specs
            lacking = [s for s in specs if record_name(s) not in have]
            running = sum(store.is_running(spec) for spec in lacking)
            rows.append(
                Standing(
                    artefact,
                    profile,
                    len(specs) - len(lacking),
                    running,
                    len(lacking) - running,
                )
            )
    return rows
