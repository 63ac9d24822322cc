"""What would run, in which order, and how long it would take. Reads records, runs nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from snt_core.runs import pace
from snt_core.runs.identity import record_name, run_id
from snt_core.runs.spec import Net, Spec
from snt_core.runs.store import Store


def pending(specs: Iterable[Spec], store: Store) -> list[Spec]:
    """Return what has to run so that every spec has a record, nets before measurements.

    A training whose record exists comes back only if a measurement needs weights that are gone, or
    damaged (those are set aside, and that is said).
    """
    have = store.names()
    todo: dict[str, Spec] = {}
    for spec in specs:
        if record_name(spec) in have:
            continue
        net = spec.net
        ready = record_name(net) in have and store.has_weights(net)
        if not ready and not is_diverged(net, store):
            todo.setdefault(run_id(net), net)
        todo.setdefault(run_id(spec), spec)
    return _net_by_net(todo.values())


def _net_by_net(todo: Iterable[Spec]) -> list[Spec]:
    """Measurements of nets that are there already, then each net with its measurements.

    So something is known early, and weights are measured while they are there.
    """
    groups: dict[str, list[Spec]] = defaultdict(list)
    for spec in todo:
        groups[run_id(spec.net)].append(spec)
    ordered = [sorted(group, key=lambda s: s.net is not s) for group in groups.values()]
    ordered.sort(key=lambda group: group[0].net is group[0])
    return [spec for group in ordered for spec in group]


def is_diverged(net: Net, store: Store) -> bool:
    """Whether the net's training ended with a loss that is not finite."""
    record = store.get(net)
    return record is not None and record.status == "diverged"


@dataclass(frozen=True)
class PlannedRun:
    """A run that is missing. `seconds` is None where no like run has been timed here."""

    spec: Spec
    seconds: float | None
    resumes_at: float


def planned_runs(specs: Iterable[Spec], store: Store) -> list[PlannedRun]:
    """Return the runs still to be made for `specs`, in order, timed by past records."""
    missing = pending(specs, store)
    if not missing:  # the usual case, and reading every record takes a while where there are many
        return []
    paces = pace.seconds_per_work(store.records(), card=pace.has_card())
    return [_planned(spec, paces.get(pace.like(spec)), store) for spec in missing]


def _planned(spec: Spec, per_work: float | None, store: Store) -> PlannedRun:
    resumes_at = store.progress(spec) if store.is_begun(spec) else 0.0
    seconds = None if per_work is None else per_work * spec.work() * (1 - resumes_at)
    return PlannedRun(spec, seconds, resumes_at)


def in_words(todo: Sequence[PlannedRun]) -> str:
    """Return how long planned runs take, as far as like ones were timed here."""
    known = [step.seconds for step in todo if step.seconds is not None]
    rest = len(todo) - len(known)
    place = "the card" if pace.has_card() else "one core"
    text = f"{clock(sum(known))} of work on {place}" if known else ""
    if rest:
        kinds = "1 run of a kind" if rest == 1 else f"{rest} runs of kinds"
        text += f"{' and ' if known else ''}{kinds} never timed here"
    return text


def clock(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
