"""Locks between processes: files that a process holds until it lets go or dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOKS = 5  # tries, since somebody who looks at a lock holds it for a moment


@contextmanager
def held_lock(path: Path) -> Iterator[bool]:
    """Whether this process now holds the lock; its file goes when the holder lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for turn in range(LOOKS):
        if turn:
            time.sleep(0.01)
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not _is(file.fileno(), path):  # its holder removed it in between
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)  # while it is held: nobody holds a file without name
            return
    yield False


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        # shared, and so without a right to write: to look is not to take
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
