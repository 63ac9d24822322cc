"""Processes that carry out calls. One that is killed takes its own call with it, and no other.

The pools of the standard library give up all calls when one process is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from snt_core.common import stopping

Prepare = Callable[[], None]


class Killed(Exception):
    """An error: the process that carried out a call ended before it answered."""


@dataclass(frozen=True)
class Answer:
    """What came of a call: its value, or the error that it raised."""

    key: Any
    value: Any = None
    error: Exception | None = None


class Crew(Protocol):
    """Who carries out calls, several at once; as a context they end with it."""

    @property
    def free(self) -> int:
        """How many more calls can be carried out now."""

    def hand_out(self, key: Any, call: Callable[..., Any], *args: Any) -> None:
        """Let somebody carry out `call(*args)`; `key` names it in the answer."""

    def answers(self, timeout: float | None = None) -> list[Answer]:
        """Return the answers that are there, after waiting for one, `timeout` seconds at most."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *raised: object) -> None: ...


class _Worker:
    """A fresh process, its end of a pipe, and the key of the call that it carries out."""

    def __init__(self, prepare: Prepare | None, preload: Sequence[str]) -> None:
        context: Any = multiprocessing.get_context("forkserver" if preload else "spawn")
        if preload:
            context.set_forkserver_preload(list(preload))
        self.pipe, theirs = context.Pipe()
        # no daemon: it may have processes of its own, as a notebook's kernel
        self.process = context.Process(target=_serve, args=(theirs, prepare))
        with stopping.unheard():
            self.process.start()
        theirs.close()
        self.key: Any = None

    def answer(self) -> Answer:
        """Return what its call came to; it has answered, or ended."""
        try:
            value, error = self.pipe.recv()
            return Answer(self.key, value, error)
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            return Answer(self.key, error=Killed(f"its process ended by {how}"))


class Workers:
    """Up to `count` processes; as a context they end with it, in order or, after an error, soon.

    `prepare`, where it is given, is called in each of them first. With `preload` they are forked
    from a server that has imported these modules, once for all of them.
    """

    def __init__(
        self, count: int, prepare: Prepare | None = None, preload: Sequence[str] = ()
    ) -> None:
        self.count, self.prepare, self.preload = count, prepare, preload
        self.idle: list[_Worker] = []
        self.busy: list[_Worker] = []

    @property
    def free(self) -> int:
        """How many more calls can be carried out now."""
        return self.count - len(self.busy)

    def hand_out(self, key: Any, call: Callable[..., Any], *args: Any) -> None:
        """Let a process carry out `call(*args)`; `key` names it in the answer."""
        while True:
            worker = self.idle.pop() if self.idle else _Worker(self.prepare, self.preload)
            try:
                worker.pipe.send((call, args))
                break
            except OSError:  # killed while it had nothing to do
                worker.process.join()
        worker.key = key
        self.busy.append(worker)

    def answers(self, timeout: float | None = None) -> list[Answer]:
        """Return the answers that are there, after waiting for one, `timeout` seconds at most."""
        ready = wait([worker.pipe for worker in self.busy], timeout)
        found = []
        for worker in [worker for worker in self.busy if worker.pipe in ready]:
            answer = worker.answer()
            self.busy.remove(worker)
            if worker.process.exitcode is None:
                self.idle.append(worker)
            found.append(answer)
        return found

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *raised: object) -> None:
        if any(raised):
            for worker in self.busy:  # trainings write their checkpoints
                worker.process.terminate()
        for worker in [*self.idle, *self.busy]:
            worker.pipe.close()
        end = time.monotonic() + stopping.FOR_WORKERS
        for worker in [*self.idle, *self.busy]:
            worker.process.join(max(0.0, end - time.monotonic()))
            worker.process.kill()
            worker.process.join()


def _serve(pipe: Connection, prepare: Prepare | None) -> None:
    """Carry out calls until the parent closes the pipe."""
    try:
        stopping.obey()
        if prepare:
            prepare()
        while True:
            try:
                call, args = pipe.recv()
            except EOFError:
                return
            value, failure = None, None
            try:
                value = call(*args)
            except Exception as error:
                failure = _portable(error)
            if stopping.asked():  # it came while somebody else handled the interrupt
                break
            pipe.send((value, failure))
    except stopping.Stopped:
        pass
    except OSError:  # the parent is gone, or no longer interested
        os._exit(1)
    os._exit(128 + stopping.asked())


def _portable(error: Exception) -> Exception:
    """Return the error, or one of its words where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
