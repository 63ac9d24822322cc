"""The one exception that a user is meant to read."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Bad input: one line that names the value, what is allowed and how to mend it.

    The command line prints it and exits with `code`; a notebook shows the line alone.
    """

    code = 2

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this. Where the call stands says nothing to a reader of the
        # notebook, or to one of papermill's log, which repeats what the cell showed.
        return [f"snt: {self}"]


class RunsFailed(UserError):
    """Runs that failed while others went on: one line each, and exit code 1."""

    code = 1

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = list(lines)

    def __reduce__(self) -> tuple[type[RunsFailed], tuple[list[str]]]:
        return type(self), (self.lines,)


def unknown(what: str, value: object, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist, with the nearest one that does."""
    names = list(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {what} '{value}'{hint} (allowed: {', '.join(names)})")


def nothing_can_be_written(error: BaseException) -> bool:
    """Whether the disk is full or read-only, which no other run would fare better with."""
    return isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EFBIG,
    )


def of_system(error: OSError) -> str:
    """Return what the system refused, in one line: the file first, where it is known."""
    reason = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    if not files:
        return f"{reason[:1].lower()}{reason[1:]}"
    return f"{' and '.join(files)}: {reason}; mend or move it, or name another place"
