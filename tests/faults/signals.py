"""SIGINT and SIGTERM at every command that works for long."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.catalogue import Row
from tests.faults.command import family, left_after, records, start, wait_until

SECONDS = 5.0  # in which all processes are gone
TRAINING = "run --profile smoke --only table4"
SENTENCE = "snt: stopped; what is finished is kept, and the same command goes on from there\n"

Strike = Callable[[subprocess.Popen[str], signal.Signals], None]


def one(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send the signal to the process alone."""
    process.send_signal(number)


def group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send it to its whole group, as a terminal and `timeout` do."""
    os.killpg(process.pid, number)


def is_training(place: Path) -> bool:
    """Whether a run has told its first steps."""
    return any((place / "store").glob("runs/*/progress.json"))


def is_begun(place: Path) -> bool:
    """Whether a run is under way."""
    return any((place / "store").glob("runs/*/sessions.json"))


def stop(
    place: Path,
    words: str,
    number: signal.Signals,
    strike: Strike = one,
    *,
    long: int = 0,
    ready: Callable[[Path], bool] = is_training,
    delay: float = 0.0,
) -> list[str]:
    """Start a command, stop it when it is `ready`, and return what was not as it should be."""
    process = start(words, place, long=long)
    wait_until(lambda: ready(place) or process.poll() is not None)
    time.sleep(delay)
    relatives = family(process)
    started = time.monotonic()
    strike(process, number)
    try:
        _, said = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
    left = left_after(relatives, max(0.0, SECONDS - (time.monotonic() - started)))
    seconds = time.monotonic() - started
    faults = []
    if seconds > SECONDS or left:
        faults.append(f"{len(left)} processes were there after {seconds:.1f} s")
    if process.returncode != 128 + number:
        faults.append(f"the exit code was {process.returncode}")
    if not said.endswith(SENTENCE) or "Traceback" in said:
        faults.append(f"it said {said!r}")
    if long and not any((place / "store").glob("runs/*/checkpoint.pt")):
        faults.append("no checkpoint was written")
    for one_left in left:
        one_left.kill()
    return faults


def cases() -> Iterator[tuple[str, str, Strike, int, Callable[[Path], bool]]]:
    """Yield the name, words, strike, epochs of a training, and the right moment of each case."""
    for workers in (1, 2):
        for strike in (one, group):
            name = f"run, {workers} workers, to {'it' if strike is one else 'its group'}"
            yield name, f"{TRAINING} --workers {workers}", strike, 300, is_training
    yield "chapter", "chapter table4 -p profile=smoke", one, 0, is_begun
    yield "book", "book --profile smoke --workers 2", one, 0, is_begun


def rows(tries: int = 5) -> Iterator[Row]:
    """Yield a row for each signal and command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        for name, words, strike, long, ready in cases():
            row = Row(f"{number.name}: {name}")
            for _ in range(tries):
                with TemporaryDirectory() as folder:
                    place = Path(folder) / "place"
                    faults = stop(place, words, number, strike, long=long, ready=ready)
                    row.tries += 1
                    row.wrong += bool(faults)
                    records(place)  # all can be read
                    for fault in faults:
                        print(f"{row.fault}: {fault}", flush=True)
            yield row
