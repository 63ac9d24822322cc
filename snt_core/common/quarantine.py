"""Files that failed their check: moved where nothing reads them, and told in one line."""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path

from snt_core.common.terminal import say

NAME = "quarantine"  # the folder, beside what it was taken from
NO_FILE = "it is a folder, a link to nothing, or another thing than a file"
Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """Return what changes when a file is written anew: inode, size, time; None without a file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def set_aside(path: Path, folder: Path, what: str, then: str, seen: Stamp | None = None) -> None:
    """Move `path` into the quarantine of `folder`, and say in one line on standard error why.

    Args:
        what: what is wrong with it, such as "its content does not match its checksum".
        then: what happens next, or what to do.
        seen: the stamp of the file that failed. Where another process has written a new one since,
            that one stays.
    """
    if seen is not None and stamp(path) != seen:
        return
    aside = _free(folder / NAME, path.name)
    try:
        if aside.parent.is_symlink():  # who put it there would have the files, and name the place
            raise OSError(errno.ELOOP, f"{aside.parent} is a link")
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, aside)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        say(f"{path} is not used ({what}) and cannot be set aside ({error.strerror}); remove it")
        return
    say(f"{path} is not used ({what}); it was set aside as {aside}; {then}")


def is_file(path: Path, folder: Path, then: str) -> bool:
    """Whether a file is there. What else stands in its place is set aside and told, as above."""
    there = path.is_file()
    if not there and os.path.lexists(path):
        set_aside(path, folder, NO_FILE, then)
    return there


def _free(folder: Path, name: str) -> Path:
    """Return a path that nothing has: earlier findings are kept."""
    names = (name if i == 0 else f"{name}.{i}" for i in count())
    return next(folder / one for one in names if not os.path.lexists(folder / one))
