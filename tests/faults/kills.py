"""SIGKILL at random moments: of a run, of one of its workers, of a book being made."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from snt_core.book.execution import verify_executed
from snt_core.common.errors import UserError
from snt_core.runs.record import Record
from tests.faults.book import make_project, start_build
from tests.faults.catalogue import Row
from tests.faults.command import (
    compare,
    family,
    finish,
    left_after,
    records,
    start,
    strays,
    wait_until,
)

RUN = "run --profile smoke --only table4 --workers {workers}"
LONG = 4  # epochs
SECONDS = 5.0  # in which workers and kernels have followed


def reference(place: Path) -> dict[str, Record]:
    """Return the records of a run that nothing disturbs."""
    code, said = finish(RUN.format(workers=2), place, long=LONG)
    if code:
        raise RuntimeError(said)
    return records(place)


def kill_runs(folder: Path, tries: int, wanted: dict[str, Record]) -> Row:
    """Kill `snt run` at random moments; each try goes on from what the one before it left."""
    row, turn, there = Row("SIGKILL: run"), 0, set[str]()
    while row.tries < tries:
        place = folder / f"place{turn}"
        workers = random.choice((1, 2))
        process = start(RUN.format(workers=workers), place, long=LONG, SNT_SAVE="0.2")
        begun = any((place / "store" / "runs").glob("*/*")) or turn == 0
        wait_until(lambda p=place: any((p / "store").glob("runs/*/sessions.json")), 60)
        time.sleep(random.uniform(0, 8))
        relatives = family(process)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if begun and random.random() < 0.5 else (
                process.kill()
            )
            row.tries += 1
        elif process.returncode:
            row.blocked += 1
        process.communicate()
        row.blocked += bool(left_after(relatives, SECONDS))
        there = compare(row, place, there, wanted)
        if there >= set(wanted):
            turn, there = turn + 1, set()
    if there:
        code, said = finish(RUN.format(workers=2), place, long=LONG)
        row.blocked += bool(code)
        there = compare(row, place, there, wanted)
        row.lost += len(set(wanted) - there)
        row.wrong += bool(strays(place / "store"))
        print(f"{row.fault}: the last one said {said!r}" if code else "", end="")
    return row


def kill_workers(folder: Path, tries: int, wanted: dict[str, Record]) -> Row:
    """Kill one worker of two: its run is told, all others are made."""
    row = Row("SIGKILL: one worker")
    for turn in range(tries):
        place = folder / f"worker{turn}"
        process = start(RUN.format(workers=2), place, long=LONG, SNT_SAVE="0.2")
        wait_until(lambda p=place: any((p / "store").glob("runs/*/progress.json")), 60)
        workers = [one for one in family(process)[1:] if "spawn_main" in " ".join(one.cmdline())]
        random.choice(workers).kill()
        _, said = process.communicate(timeout=300)
        row.tries += 1
        row.wrong += process.returncode != 1 or "killed from outside" not in said
        there = compare(row, place, set(), wanted)
        row.lost += max(0, len(wanted) - len(there) - 3)  # a net and its two measurements
        code, _ = finish(RUN.format(workers=2), place, long=LONG)
        row.blocked += bool(code)
        row.lost += len(set(wanted) - compare(row, place, there, wanted))
    return row


def kill_builds(folder: Path, tries: int) -> Iterator[Row]:
    """Kill a build while chapters are executed, and while pages are rendered."""
    for fault, sign in (("executing", "executed"), ("rendering", "rendering")):
        row = Row(f"SIGKILL: {fault}")
        for turn in range(tries):
            place = folder / f"{fault}{turn}"
            project, root = make_project(place / "project"), place / "build"
            process = start_build(project, root)
            assert process.stdout
            while sign not in (line := process.stdout.readline()) and line:
                pass
            time.sleep(random.uniform(0, 3))
            relatives = family(process)
            process.kill()
            process.communicate()
            row.tries += 1
            row.blocked += bool(left_after(relatives, SECONDS))
            kept = whole_chapters(row, root)
            again = start_build(project, root)
            said, _ = again.communicate(timeout=300)
            row.blocked += bool(again.returncode)
            row.lost += sum(f"{name}: executed" in said for name in kept)
            row.wrong += not (root / "html" / "index.html").exists()
        yield row


def whole_chapters(row: Row, root: Path) -> list[str]:
    """Return the chapters that a build vouches for, each of which must be whole."""
    kept = []
    for key in root.rglob("executed/*.key"):
        try:
            verify_executed(key.with_suffix(".ipynb"))
            kept.append(key.stem)
        except UserError:
            row.wrong += 1
    return kept


def rows(tries: int = 50) -> Iterator[Row]:
    """Yield a row for each victim; runs are killed `tries` times, the others a tenth as often."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        wanted = reference(folder / "reference")
        yield kill_runs(folder, tries, wanted)
        yield kill_workers(folder, max(1, tries // 10), wanted)
        yield from kill_builds(folder, max(1, tries // 10))
