"""Ends that come from outside: signals, a time that is over, and the death of a parent.

The first signal ends what a process does in an orderly way: a training writes its checkpoint
(see `held`), everything else ends where it is. A second one, or `PATIENCE`, ends it at once.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SENTENCE = "snt: stopped; what is finished is kept, and the same command goes on from there"
TIME_IS_OVER = (
    "snt: the time is over; what is finished is kept, and the same command goes on from there"
)
TIME = signal.SIGALRM  # of a command that was given one: it ends as by a signal, but well
PATIENCE = 4.5  # seconds that an orderly end may take
FOR_WORKERS = 3.5  # of those, how long workers may take; the rest is for what they leave
# `timeout` sends its signal to the process and to its group: two signals, one wish.
SAME = 0.5


class Stopped(KeyboardInterrupt):
    """An error: a signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class _Wish:
    """What was asked of this process: `number` is the signal that came, 0 before one does."""

    number = 0
    held = False


_wish = _Wish()


def asked() -> int:
    """Return the number of the signal that asked this process to end; 0 if none did."""
    return _wish.number


def _take(number: int, frame: FrameType | None) -> None:
    """Note the first signal, and raise `Stopped` unless a training holds it back."""
    if _wish.number:
        return
    _wish.number = number
    if not _wish.held:
        raise Stopped(number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back in the block, which looks at `asked` and ends early when one came.

    `Stopped` is raised at its end. So a training stops between two steps, with its checkpoint
    written, in a command, a worker and a notebook's kernel alike.
    """
    if not _is_main_thread():
        yield
        return
    taken = {number: signal.getsignal(number) for number in SIGNALS}
    # what is ignored stays so; None is a handler that is not Python's
    left = (signal.SIG_IGN, None, _take)
    foreign = [number for number, before in taken.items() if before not in left]
    if foreign:
        _wish.number = 0  # of a block before, in a kernel that lives on
    _wish.held = True
    try:
        for number in foreign:
            signal.signal(number, _take)
        yield
    finally:
        _wish.held = False
        for number in foreign:
            signal.signal(number, taken[number])
    if _wish.number:
        raise Stopped(_wish.number)


@contextmanager
def listening() -> Iterator[None]:
    """Let the first signal raise `Stopped` in the block, and a second one end the process.

    So does the first one after `PATIENCE`, whatever the process is busy with.
    """
    if not _is_main_thread():
        yield
        return
    _wish.number = 0
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, _take) for number in SIGNALS if not _kept_off(number)}
    # Written to by the system's own handler, which comes also while an operator of torch runs.
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        if not _wish.number:  # else the watch stays until the process has ended
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writing)
            watch.join()
            os.close(reading)


def _kept_off(number: int) -> bool:
    """Whether `nohup` asks that a closed terminal does not end the command."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


@contextmanager
def until(end: float) -> Iterator[None]:
    """Let `Stopped` be raised in the block at `end` of the monotonic clock, its number `TIME`.

    Where the block does not end within `PATIENCE` from then, the process ends, with exit code 0.
    Nothing happens outside of the main thread.
    """
    if not _is_main_thread():
        yield
        return
    left = max(0.001, end - time.monotonic())
    last = threading.Timer(left + PATIENCE, leave, (TIME,))
    last.daemon = True
    before = signal.signal(TIME, _take)
    last.start()
    signal.setitimer(signal.ITIMER_REAL, left)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(TIME, before)
        last.cancel()
        if _wish.number == TIME:
            _wish.number = 0


def _watch(pipe: int) -> None:
    number = 0
    while number not in SIGNALS:
        came = os.read(pipe, 1)
        if not came:
            return
        number = came[0]
    end = time.monotonic() + PATIENCE
    time.sleep(SAME)
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        os.read(pipe, 512)
    select.select([pipe], [], [], max(0.0, end - time.monotonic()))
    leave(number)


def leave(number: int) -> None:
    """End this process now, as one that a signal stopped, or well where its time is over."""
    over = number == TIME
    with suppress(OSError):
        sys.stdout.flush()
        os.write(2, f"{TIME_IS_OVER if over else SENTENCE}\n".encode())
    os._exit(0 if over else 128 + number)


def obey() -> None:
    """Make this process a worker of its parent: it ends with it, and stops when told by SIGTERM.

    SIGINT and SIGHUP are left to the parent: a terminal sends them to both.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _take)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    end_with(os.getppid())


def end_with(parent: int) -> None:
    """End with the parent, however and whenever it ends: an orphan would go on writing.

    A process that a server forked ends with who asked for it, too, since the server, its parent,
    waits for it.
    """
    asker = multiprocessing.parent_process()

    def watch() -> None:
        while os.getppid() == parent and (asker is None or asker.is_alive()):
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def unheard() -> Iterator[None]:
    """Start processes in the block: they are deaf to signals until they call `obey`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
