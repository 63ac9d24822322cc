"""The command in processes of its own, to be struck, and a look at what it leaves behind.

As a module it is `snt`, changed by the environment, also in its workers:

SNT_LONG   epochs of smoke's trainings, so that faults come in the middle of one
SNT_SAVE   seconds between checkpoints
SNT_FULL   the disk is full for files whose temporary name has this in it
SNT_LOG    a file that is told of each run that is carried out
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from snt_core.cli import main
from snt_core.common import files
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.paper.profiles import PROFILES
from snt_core.runs.identity import record_name
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store
from tests.faults.catalogue import Row

MODULE = "tests.faults.command"


def lengthen() -> None:
    """Let the trainings of smoke last for `SNT_LONG` epochs, here and in workers."""
    if epochs := int(os.environ.get("SNT_LONG", "0")):
        PROFILES["smoke"] = replace(PROFILES["smoke"], epochs=epochs)


def save_often(seconds: float) -> None:
    """Let trainings write checkpoints every `seconds`."""
    from snt_core.training import fit

    fit.CHECK_EVERY, fit.SAVE_EVERY = 2, seconds


def fill_up(name: str) -> None:
    """Let no file be written whose temporary name has `name` in it."""
    ordinary = files._temporary

    def full(path: Path) -> tuple[int, str]:
        if name in f".{path.name}.":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return ordinary(path)

    files._temporary = full


def log_runs(file: Path) -> None:
    """Let the name of each run stand in `file` when it is carried out."""
    ordinary = Store.begin_session

    def logged(store: Store, spec: Spec, facts: dict[str, Any]) -> list[dict[str, Any]]:
        with file.open("a") as lines:
            lines.write(f"{record_name(spec)}\n")
        return ordinary(store, spec, facts)

    Store.begin_session = logged  # type: ignore[method-assign]


def start(words: str, place: Path, *, long: int = 0, **env: str) -> subprocess.Popen[str]:
    """Start `snt` in a group of its own, with a store in `place`."""
    settings = {
        **os.environ,
        "SNT_STORE": str(place / "store"),
        "PYTHONPATH": str(PROJECT),
        "SNT_LONG": str(long),
        "COVERAGE_PROCESS_START": "",
        **env,
    }
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, *words.split()],
        env=settings,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the process and all that come from it."""
    try:
        first = psutil.Process(process.pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def left_after(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return which of the processes are still there after `seconds`, or an end of all before it."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> bool:
    """Return whether `condition` came true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def records(place: Path) -> dict[str, Record]:
    """Return every record in a store, read and checked. Raises UserError for a damaged one."""
    return {record.name: record for record in Store(place / "store").records()}


def finish(words: str, place: Path, **settings: Any) -> tuple[int, str]:
    """Carry out a command to its end; returns its exit code and what it said on standard error."""
    process = start(words, place, **settings)
    try:
        _, said = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
    return process.returncode, said


def strays(place: Path) -> list[Path]:
    """Return what killed writers left: files that no reader looks at."""
    return [path for path in place.rglob(".*") if path.is_file() and path.name.count(".") > 2]


def compare(row: Row, place: Path, before: set[str], wanted: dict[str, Record]) -> set[str]:
    """Count what is lost or wrong in a store after a fault; returns the names that are there."""
    try:
        there = records(place)
        for record in there.values():
            if record.spec.leaves_weights and record.status == "done":
                Store(place / "store").get_weights(record.spec)
    except UserError:
        row.wrong += 1
        return before
    row.lost += len(before - set(there))
    row.wrong += sum(
        record.metrics != wanted[name].metrics
        for name, record in there.items()
        if name in wanted and not record.spec.timed
    )
    return set(there)


if __name__ in ("__main__", "__mp_main__"):  # the second is a worker's
    lengthen()
    if "SNT_SAVE" in os.environ:
        save_often(float(os.environ["SNT_SAVE"]))
    if "SNT_FULL" in os.environ:
        fill_up(os.environ["SNT_FULL"])
    if "SNT_LOG" in os.environ:
        log_runs(Path(os.environ["SNT_LOG"]))
if __name__ == "__main__":
    main()
