"""Locks between processes: files that a process holds until it lets go or dies."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snt_core.common.errors import UserError

LOOKS = 5  # tries, since somebody who looks at a lock holds it for a moment


@contextmanager
def held_lock(path: Path) -> Iterator[bool]:
    """Whether this process now holds the lock; its file goes when the holder lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for turn in range(LOOKS):
        if turn:
            time.sleep(0.01)
        with _opened(path, os.O_RDWR | os.O_CREAT) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if not _is(handle, path):  # its holder removed it in between
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)  # while it is held: nobody holds a file without name
            return
    yield False


@contextmanager
def awaited_lock(path: Path) -> Iterator[None]:
    """Hold the lock in the block, after whoever has it now; its file stays."""
    with _opened(path, os.O_RDWR | os.O_CREAT) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        # shared, and so without a right to write: to look is not to take
        with _opened(path, os.O_RDONLY) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, UserError):  # nobody can hold what is no lock
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open a lock's file, and change nothing in it. Raises UserError where it is no plain file.

    A link would lead to a file that is not ours, and a pipe without a reader would wait for one.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_lock(path) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _no_lock(path)
        yield handle
    finally:
        os.close(handle)


def _no_lock(path: Path) -> UserError:
    return UserError(f"{path} is a link, a folder or a pipe, not the file of a lock; remove it")


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False
