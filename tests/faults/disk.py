"""A disk that is full, at every place that something is written to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from snt_core.book.build import build
from snt_core.common.errors import UserError
from tests.faults.book import make_project
from tests.faults.catalogue import Row
from tests.faults.command import finish, records, strays

TABLE4 = "run --profile smoke --only table4"
FIGURE5 = "run --profile smoke --only figure5"
# what cannot be written -> a part of its temporary file's name, and the command
PLACES = {
    "session": (".sessions.json.", f"{TABLE4} --workers 1"),
    "weights": (".safetensors.", f"{TABLE4} --workers 1"),
    "checkpoint": (".checkpoint.pt.", f"{TABLE4} --workers 2"),
    "record of a training": (".train-", f"{TABLE4} --workers 2"),
    "record of a measurement": (".lambda_max-", f"{TABLE4} --workers 1"),
    "finished round": (".checkpoint-rounds", f"{FIGURE5} --workers 2"),
}


def refused(place: Path, name: str, words: str) -> list[str]:
    """Carry out a command on a disk that is full for some files; returns what was not right."""
    code, said = finish(words, place, long=4, SNT_SAVE="0", SNT_FULL=name)
    faults = []
    if code != 2 or said.count("\n") != 1 or "No space left on device" not in said:
        faults.append(f"exit code {code}, it said {said!r}")
    if left := strays(place / "store"):
        faults.append(f"left behind: {left}")
    records(place)  # all can be read
    return faults


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """Mount a file system of `size` there, if this user may: root in a machine of its own."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def full_store(place: Path, size: str) -> list[str]:
    """Run on a store that is too small; what was finished is kept and can be read."""
    with small_disk(place / "store", size) as mounted:
        if not mounted:
            return ["no file system could be mounted"]
        code, said = finish(f"{TABLE4} --workers 1", place)
        faults = []
        if code != 2 or said.count("\n") != 1 or "No space left" not in said:
            faults.append(f"exit code {code}, it said {said!r}")
        if left := strays(place / "store"):
            faults.append(f"left behind: {left}")
        records(place)
        return faults


def read_only(place: Path) -> list[str]:
    """Use a finished store that nothing can be written to: all but new runs goes on."""
    store = place / "store"
    finish(f"{TABLE4} --workers 2", place)
    there = records(place)
    faults = []
    with only_read(store) as mounted:
        if not mounted:
            return ["no folder could be mounted to be read alone"]
        for words, wanted in (
            (TABLE4, 0),
            (FIGURE5, 2),
            ("status", 0),
            ("claims", 0),
            ("verify --sample 1", 0),
        ):
            code, said = finish(words, place)
            if code != wanted or said.count("\n") > 1 or "Traceback" in said:
                faults.append(f"{words}: exit code {code}, it said {said!r}")
        if records(place) != there:
            faults.append("other records are there than before")
    return faults


@contextmanager
def only_read(folder: Path) -> Iterator[bool]:
    """Let nobody write to a folder, root neither, if this user may say so."""
    commands = (["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)])
    try:
        yield all(
            subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
            for words in commands
        )
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def full_build(folder: Path, size: str) -> list[str]:
    """Build a book where there is too little space; afterwards, with more, it builds."""
    project, root = make_project(folder / "project"), folder / "build"
    with small_disk(root, size) as mounted:
        if not mounted:
            return ["no file system could be mounted"]
        try:
            build(project=project, root=root)
            return ["it was built"]
        except (UserError, OSError) as error:
            told = str(error)
        faults = [f"it said {told!r}"] if "\n" in told else []
        subprocess.run(["mount", "-o", "remount,size=200m", str(root)], check=True)
        build(project=project, root=root)
    return faults


def rows(tries: int = 1) -> Iterator[Row]:
    """Yield a row for each place."""
    for what, (name, words) in PLACES.items():
        yield _tried(f"disk full: {what}", tries, lambda p, n=name, w=words: refused(p, n, w))
    for what, size in (("store of 64 kB", "64k"), ("store of 1 MB", "1m")):
        yield _tried(f"disk full: {what}", tries, lambda p, s=size: full_store(p, s))
    yield _tried("store that can only be read", tries, read_only)
    for what, size in (("executed chapter", "32k"), ("page", "3m")):
        yield _tried(f"disk full: {what}", tries, lambda p, s=size: full_build(p, s))


def _tried(fault: str, tries: int, attempt) -> Row:  # type: ignore[no-untyped-def]
    row = Row(fault)
    for _ in range(tries):
        with TemporaryDirectory() as folder:
            faults = attempt(Path(folder) / "place")
            row.tries += 1
            row.wrong += bool(faults)
            for fault_found in faults:
                print(f"{fault}: {fault_found}", flush=True)
    return row
