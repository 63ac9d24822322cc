"""One file of a record, read so that whatever is wrong with it stops no other."""

from __future__ import annotations

import os
from pathlib import Path

from snt_core.common.files import restored
from snt_core.common.quarantine import NO_FILE, set_aside, stamp
from snt_core.common.terminal import say_once
from snt_core.runs.inspection import Newer, Superseded
from snt_core.runs.record import Record

MOST = 200  # characters of a reason, which may quote what the file says


def read_record(path: Path, store: Path) -> Record | None:
    """Return the record in `path`, or None where there is none that counts.

    Why it does not count is said in a line on standard error. What is damaged goes into the
    quarantine of the folder `store`; what a later version wrote, or what may not be read, stays.
    A record of an older schema is history, of which nothing is said.
    """
    seen = stamp(path)
    try:
        record = Record.from_json(_text(path))
        _require_place(record, path)
    except Superseded:
        return None
    except Newer as error:
        say_once(f"{path} is left out: {error}; a newer snt_core reads it")
    except FileNotFoundError:  # another process set it aside
        pass
    except OSError as error:
        say_once(f"{path} is left out: {error.strerror}; change its rights, or restore it")
    except ValueError as error:
        then = f"'snt run' makes it again{restored(path, ', or restore it with ')}"
        set_aside(path, store, str(error)[:MOST], then, seen)
    else:
        return record
    return None


def _text(path: Path) -> str:
    if not path.is_file():
        if os.path.lexists(path):
            raise ValueError(NO_FILE)
        raise FileNotFoundError(path)
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _require_place(record: Record, path: Path) -> None:
    if record.name != path.stem:
        raise ValueError(f"its content belongs to {record.name}")
    if record.profile != path.parent.name:
        raise ValueError(f"its profile is {record.profile}, its folder {path.parent.name}")
