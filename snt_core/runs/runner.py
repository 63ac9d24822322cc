"""Runs what is missing, once, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from snt_core.common.errors import UserError
from snt_core.runs.identity import canonical, record_name
from snt_core.runs.plan import is_diverged, pending
from snt_core.runs.record import Record
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
) -> list[Record]:
    """Return the records of `specs`, in order; those missing are made first and stored.

    With `workers` > 1 each run has a process of its own; runs that another process has under
    way are waited for, never repeated. Under torchrun every rank calls this; one run at a time is
    shared by all of them.
    """
    specs = list(specs)
    for _ in range(ROUNDS):
        todo = ranks.from_main(lambda: pending(specs, store))
        if not todo:
            break
        load_data(todo)
        engine = engine or detect()  # compiles kernels, so after all that may be refused
        if ranks.count() > 1:
            for spec in todo:
                _run_on_ranks(spec, store, engine, profile, report)
        elif workers > 1 and len(todo) > 1:
            _in_parallel(todo, store, engine, profile, min(workers, len(todo)), report)
        else:
            for spec in todo:
                run(spec, store, engine, profile, report)
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


def _in_parallel(
    todo: list[Spec], store: Store, engine: Engine, profile: str, workers: int, report: Report
) -> None:
    """Trainings first; a measurement is handed out as soon as its weights are there."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)
    )
    nets = [spec for spec in todo if spec.net is spec]
    waiting = [spec for spec in todo if spec not in nets]
    running: dict[Future[None], Spec] = {}

    def hand_out(ready: Iterable[Spec]) -> None:
        for spec in ready:
            running[pool.submit(_in_worker, spec, store.folder, engine, profile)] = spec

    with pool:
        try:
            hand_out(nets)
            hand_out([spec for spec in waiting if spec.net not in nets])
            while running:
                done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    spec = running.pop(future)
                    _raise_if_killed(future, spec)
                    report(spec, 1.0)
                    hand_out([child for child in waiting if child.net == spec])
                for spec in running.values():
                    if share := store.progress(spec):
                        report(spec, share)
        except BaseException:
            # Others' work is safe in their checkpoints; waiting for it could take hours.
            for process in list(pool._processes.values()):
                process.kill()
            raise


def _raise_if_killed(future: Future[None], spec: Spec) -> None:
    try:
        future.result()
    except BrokenExecutor as error:
        raise UserError(
            f"{record_name(spec)} or a run beside it was killed from outside, out of memory "
            f"perhaps; what is finished is kept, start again with fewer --workers"
        ) from error


def _in_worker(spec: Spec, folder: Path, engine: Engine, profile: str) -> None:
    try:
        run(spec, Store(folder), engine, profile)
    except UserError:
        raise
    except Exception as error:
        net = spec.net
        raise UserError(
            f"{spec.kind} of {net.model} {net.approach} on {net.data}, seed {net.seed}, failed: "
            f"{type(error).__name__}: {error}"
        ) from error


def _end_with(parent: int) -> None:
    """End with the parent, however and whenever it ends, so that no orphan keeps a run locked."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
