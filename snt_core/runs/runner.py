"""Runs what is missing, once, in this process or in several."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from snt_core.common import stopping
from snt_core.common.errors import RunsFailed, UserError, nothing_can_be_written
from snt_core.common.workers import Crew, Workers
from snt_core.runs.failures import Broken, in_words, told
from snt_core.runs.identity import canonical, record_name
from snt_core.runs.plan import is_diverged, pending
from snt_core.runs.record import Record
from snt_core.runs.schedule import Rank, Schedule, any_time
from snt_core.runs.spec import Context, Outcome, Spec
from snt_core.runs.store import Store
from snt_core.training import ranks
from snt_core.training.engine import Engine, detect, keep_memory

# A net that had to be trained again may leave other weights, and then its older measurements are
# missing too; they are made in a second round. A third one finds nothing in a store that keeps.
ROUNDS = 3

Report = Callable[[Spec, float], None]  # a run and its share done; 1.0 once its record stands


def silent(spec: Spec, share: float) -> None:
    """Report nothing."""


def run_all(
    specs: Iterable[Spec],
    store: Store,
    *,
    profile: str,
    engine: Engine | None = None,
    workers: int = 1,
    report: Report = silent,
    rank: Rank = any_time,
    crew: Crew | None = None,
) -> list[Record]:
    """Return the records of `specs`, in order; those missing are made first and stored.

    With `workers` > 1 each run has a process of its own; runs that another process has under
    way are waited for, never repeated. `rank` says which come first, and which do not now; when
    the time of `stopping.until` is over, the records that are there are returned. Under torchrun
    every rank calls this; one run at a time is shared by all of them. A `crew` carries the runs out
    on other machines, each with an engine and data of its own.

    Raises:
        RunsFailed: some failed, told once the others have ended.
        OSError: the disk is full or read-only, which no other run would fare better with.
    """
    specs = list(specs)
    for _ in range(ROUNDS):
        todo = ranks.from_main(lambda: pending(specs, store))
        if not todo or stopping.asked() == stopping.TIME:
            break
        if crew is None:
            load_data(todo)
            engine = engine or detect()  # compiles kernels, so after all that may be refused
        if ranks.count() > 1 and engine:
            for spec in todo:
                _run_on_ranks(spec, store, engine, profile, report)
        else:
            schedule = Schedule(todo, store.is_running, rank)
            _run_each(schedule, store, engine, profile, min(workers, len(todo)), report, crew)
    records = [store.get(spec) for spec in specs]
    return [record for record in records if record is not None]


def load_data(todo: Iterable[Spec]) -> None:
    """Find, check and decode every data set first, so that a missing one is told before work."""
    from snt_core.data.load import load

    nets = [spec.net for spec in todo if spec.needs_data]
    for name, val_size in sorted({(net.data, net.val_size) for net in nets}):
        load(name, val_size)


def run(spec: Spec, store: Store, engine: Engine, profile: str, report: Report = silent) -> Record:
    """Carry out one run, whose net's weights are there, and return its stored record."""
    while True:
        with store.lock(spec) as mine:
            if mine:
                record = _finished(spec, store)
                if record is None:
                    record = _perform(spec, store, engine, profile, report)
                store.clear(spec)
                report(spec, 1.0)
                return record
        report(spec, store.progress(spec))
        time.sleep(0.5)


def _run_on_ranks(spec: Spec, store: Store, engine: Engine, profile: str, report: Report) -> Record:
    """As `run`, on all ranks together: they carry out alike, and rank 0 alone writes."""
    with store.lock(spec) if ranks.is_main() else nullcontext(True) as mine:
        if not ranks.from_main(lambda: mine):
            raise UserError(f"{record_name(spec)} is under way in another process; wait for it")
        record = ranks.from_main(lambda: _finished(spec, store))
        if record is None:
            record = _perform(spec, store, engine, profile, report)
        if ranks.is_main():
            store.clear(spec)
            report(spec, 1.0)
        ranks.from_main(lambda: None)  # none goes on before the record and weights are there
    return record


def _finished(spec: Spec, store: Store) -> Record | None:
    """The record of `spec`, unless it or the weights that it should have left are missing."""
    record = store.get(spec)
    kept = record and record.status == "done" and spec.leaves_weights
    return None if kept and not store.has_weights(spec) else record


def _perform(spec: Spec, store: Store, engine: Engine, profile: str, report: Report) -> Record:
    import torch

    from snt_core.runs.provenance import RunClock

    last = 0.0
    known = store.get(spec)  # whose weights are lost: the new record takes its place

    def progress(done: int, total: int) -> None:
        nonlocal last
        if ranks.is_main() and time.monotonic() - last > 0.5:
            last = time.monotonic()
            store.put_progress(spec, done, total)
            report(spec, done / total)

    threads = torch.get_num_threads()
    torch.set_num_threads(engine.threads)
    keep_memory()
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 wherever a measurement says so
    try:
        clock = RunClock(engine)
        interrupted = ranks.from_main(lambda: _begin(spec, store, clock.session))
        context = Context(spec, store.run_dir(spec), store, engine, progress)
        if spec.net is not spec and is_diverged(spec.net, store):
            outcome = Outcome(metrics={}, n_samples=0, status="diverged")
        else:
            outcome = _finite(spec.perform(context))
        untrained = spec.net is spec and outcome.status == "diverged"
        provenance = clock.provenance(
            earlier=outcome.earlier,
            interrupted=interrupted,
            dtype=outcome.dtype,
            fused=outcome.fused,
            seed=spec.net.seed,
            ranks=ranks.count(),
            data_digest=context.data().digest if spec.needs_data else None,
            resumed_at_step=outcome.resumed_at_step,
            weights_sha256=ranks.from_main(
                lambda: None if untrained else store.weights_digest(spec)
            ),
        )
    finally:
        torch.set_num_threads(threads)
    record = Record(
        spec=spec,
        profile=known.profile if known else profile,
        status=outcome.status,
        metrics=outcome.metrics,
        n_samples=outcome.n_samples,
        provenance=provenance,
    )
    if ranks.is_main():
        store.put(record)
    return record


def _begin(spec: Spec, store: Store, session: dict[str, Any]) -> list[dict[str, Any]]:
    store.require_begun(spec)
    return store.begin_session(spec, session)


def _finite(outcome: Outcome) -> Outcome:
    """Return the outcome; as diverged, without its metrics, where one of them is not finite.

    A record holds no such number, and the run would end in the same error at every start.
    """
    try:
        canonical(outcome.metrics)
    except ValueError:
        return replace(outcome, metrics={}, status="diverged")
    return outcome


def _run_each(
    schedule: Schedule,
    store: Store,
    engine: Engine | None,
    profile: str,
    workers: int,
    report: Report,
    crew: Crew | None,
) -> None:
    """Carry out all that can be, here or in several processes, and tell at the end what failed."""
    failed: dict[Spec, Exception] = {}

    def end(spec: Spec, error: Exception | None) -> None:
        if error is not None:
            if nothing_can_be_written(error):
                raise error
            failed[spec] = error
        else:
            report(spec, 1.0)
        schedule.end(spec, failed=error is not None)

    try:
        if crew or workers > 1 or engine is None:
            with nullcontext(crew) if crew else Workers(workers) as several:
                _in_parallel(several, schedule, store, engine, profile, report, end)
        else:
            while (spec := schedule.begin()) is not None:
                end(spec, _attempt(spec, store, engine, profile, report))
    except stopping.Stopped as stop:
        if stop.number != stopping.TIME:
            raise
    if failed:
        lines = [told(spec, error) for spec, error in failed.items()]
        if schedule.lost:
            lines.append(f"not made, since their net failed: {len(schedule.lost)} measurements")
        if all(isinstance(error, UserError) for error in failed.values()):
            raise UserError("; ".join(lines))  # what was given is wrong
        raise RunsFailed(lines)


def _in_parallel(
    crew: Crew,
    schedule: Schedule,
    store: Store,
    engine: Engine | None,
    profile: str,
    report: Report,
    end: Callable[[Spec, Exception | None], None],
) -> None:
    while True:
        while crew.free > 0 and (spec := schedule.begin()) is not None:
            crew.hand_out(spec, _attempt, spec, store, engine, profile)
        if not schedule.under_way:
            return
        for answer in crew.answers(timeout=0.5):
            end(answer.key, answer.error or answer.value)
        for spec in schedule.under_way:
            if share := store.progress(spec):
                report(spec, share)


def _attempt(
    spec: Spec, store: Store, engine: Engine, profile: str, report: Report = silent
) -> Exception | None:
    """Carry out a run; returns the error if it failed, whose trace is kept in the run's folder."""
    try:
        run(spec, store, engine, profile, report)
    except (UserError, OSError) as error:
        return error
    except Exception as error:
        store.put_failure(spec, traceback.format_exc())
        return Broken(in_words(error))
    return None
