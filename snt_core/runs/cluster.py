"""Runs on the workers of a dask cluster, each in a process of its own there.

A worker that sees the store's folder works in it, as a process here would. To one that does not,
what a run needs travels through the scheduler, and what it leaves travels back. When a worker
dies, dask hands its runs to another one, where they go on from the checkpoint in a shared store.
"""

from __future__ import annotations

import logging
import multiprocessing
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import distributed

from snt_core.common import stopping
from snt_core.common.errors import UserError
from snt_core.common.workers import Answer, Killed, Workers
from snt_core.runs import parcels
from snt_core.runs.identity import run_id
from snt_core.runs.parcels import Parcel
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store

GPU_SHARE = 0.25  # of a card, for each run where workers declare the resource GPU
LOOK = 0.5  # seconds between looks at whether a run is still wanted

Attempt = Callable[..., Exception | None]
# at a worker: processes that wait for the next run, since a new one takes seconds to import torch
_idle: list[Workers] = []


class Cluster:
    """A crew, as `common.workers.Workers` is one, of a dask client's workers.

    Args:
        client: a connected `distributed.Client`; it is closed with the crew.
        store: where records go.
        exact: whether workers use fp32 and plain operators.
    """

    def __init__(self, client: Any, store: Store, *, exact: bool) -> None:
        self.client, self.store, self.exact = client, store, exact
        self.busy: dict[Any, tuple[Spec, Attempt, str]] = {}  # by future
        self.apart = False  # whether some worker does not see the store
        # a name that no other folder has a file of
        self.marker = store.folder / "locks" / f"shared-{secrets.token_hex(16)}"
        self.topic = self.marker.name

    @property
    def name(self) -> str:
        """The scheduler's address."""
        return str(self.client.scheduler.address)

    @property
    def free(self) -> int:
        """How many more runs the workers can take now; one waits where there is no worker yet."""
        return max(1, sum(map(_slots, self._workers()))) - len(self.busy)

    def _workers(self) -> list[dict[str, Any]]:
        workers = list(self.client.scheduler_info(n_workers=-1)["workers"].values())
        with_card = [worker for worker in workers if worker["resources"].get("GPU")]
        return with_card or workers

    def hand_out(self, key: Spec, call: Attempt, *args: Any) -> None:
        """Let a worker carry out `call(spec, store, engine, profile)`.

        Store and engine are the worker's own, so those among `args` are not sent.
        """
        self._submit(key, call, args[-1])

    def _submit(self, spec: Spec, call: Attempt, profile: str) -> None:
        parcel = parcels.needed(spec, self.store) if self.apart else None
        cards = any(worker["resources"].get("GPU") for worker in self._workers())
        future = self.client.submit(
            _carried_out,
            self.marker,
            parcel,
            call,
            spec,
            profile,
            self.exact,
            key=f"{spec.kind}-{run_id(spec)}-{secrets.token_hex(4)}",
            resources={"GPU": GPU_SHARE} if cards else None,
            pure=False,
        )
        self.busy[future] = spec, call, profile

    def answers(self, timeout: float | None = None) -> list[Answer]:
        """Return the answers that are there, after waiting for one, `timeout` seconds at most.

        Raises UserError when the scheduler is gone.
        """
        with suppress(TimeoutError):
            distributed.wait(list(self.busy), timeout=timeout, return_when="FIRST_COMPLETED")
        if self.client.status not in ("running", "newly-created"):
            raise UserError(
                "the scheduler is gone; what is finished is kept, and the same command goes on "
                "once there is one"
            )
        found = []
        for future in [future for future in self.busy if future.done()]:
            spec, call, profile = self.busy.pop(future)
            answer = self._answer(future, spec)
            if answer is None:
                self.apart = True
                self._submit(spec, call, profile)
            else:
                found.append(answer)
        return found

    def _answer(self, future: Any, spec: Spec) -> Answer | None:
        """Return what a run came to; None if its worker does not see the store."""
        if future.status != "finished":
            error = future.exception() if future.status == "error" else None
            why = f"{type(error).__name__} on the cluster" if error else "its worker was lost"
            if error and not isinstance(error, distributed.KilledWorker):
                return Answer(spec, error=RuntimeError(f"{type(error).__name__}: {error}"))
            return Answer(spec, error=Killed(why))
        result = future.result()
        if result is None:
            return None
        error, parcel = result
        parcels.unpack(parcel, self.store)
        if parcel and error is None:
            self.store.clear(spec)
        return Answer(spec, value=error)

    def __enter__(self) -> Cluster:
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] == "distributed":  # what happens is told by us
                logging.getLogger(name).setLevel(logging.CRITICAL)
        self.marker.parent.mkdir(parents=True, exist_ok=True)
        self.marker.touch()
        self.client.subscribe_topic(self.topic, self._note)
        return self

    def _note(self, event: tuple[float, dict[str, Any]]) -> None:
        """Note how far a run is that works in another store."""
        told = event[1]
        for spec, *_ in list(self.busy.values()):
            if run_id(spec) == told["run"] and self.store.run_dir(spec).is_dir():
                self.store.put_progress(spec, told["share"], 1)

    def __exit__(self, *raised: object) -> None:
        self.marker.unlink(missing_ok=True)
        with suppress(Exception):  # the scheduler may be what is gone
            self.client.cancel(list(self.busy), force=True)
            end = time.monotonic() + stopping.FOR_WORKERS - 1
            under_way = [spec for spec, *_ in self.busy.values()]
            while any(map(self.store.is_running, under_way)) and time.monotonic() < end:
                time.sleep(0.1)  # they write their checkpoints
        with suppress(Exception):
            self.client.close(timeout=1)


def _slots(worker: dict[str, Any]) -> int:
    cards = worker["resources"].get("GPU")
    return min(worker["nthreads"], int(cards / GPU_SHARE)) if cards else worker["nthreads"]


def _carried_out(
    marker: Path, parcel: Parcel | None, call: Attempt, spec: Spec, profile: str, exact: bool
) -> tuple[Exception | None, Parcel] | None:
    """Carry out a run at a worker; returns its error and what travels back.

    None, where the store is not seen from there and nothing was sent along.
    """
    if marker.exists():
        return _in_own_process(call, spec, Store(marker.parents[1]), exact, profile, None), {}
    if parcel is None:
        return None
    with TemporaryDirectory(prefix="snt-") as folder:
        store = Store(Path(folder))
        parcels.unpack(parcel, store)
        error = _in_own_process(call, spec, store, exact, profile, marker.name)
        return error, parcels.left(spec, store)


def _in_own_process(
    call: Attempt, spec: Spec, store: Store, exact: bool, profile: str, topic: str | None
) -> Exception | None:
    """Carry out a run in a process, which stops in an orderly way if nobody wants the run now.

    A worker's tasks are threads of one process; a run counts its process's time and memory.
    """
    worker = distributed.get_worker()
    key = worker.get_current_task()
    multiprocessing.current_process().daemon = False  # dask's are, and may have no processes then
    with ExitStack() as stack:
        crew = _idle.pop() if _idle else Workers(1)
        stack.push(crew)
        crew.hand_out(spec, _detected, call, spec, store.folder, exact, profile)
        while not (found := crew.answers(timeout=LOOK)):
            task = worker.state.tasks.get(key)
            if task is None or task.state not in ("executing", "long-running"):
                raise InterruptedError("the run was cancelled")  # ends the process by SIGTERM
            if topic:
                worker.log_event(topic, {"run": run_id(spec), "share": store.progress(spec)})
        stack.pop_all()
        _idle.append(crew)
    return found[0].error or found[0].value


def _detected(
    call: Attempt, spec: Spec, folder: Path, exact: bool, profile: str
) -> Exception | None:
    from snt_core.training.engine import detect

    return call(spec, Store(folder), detect(exact=exact), profile)
