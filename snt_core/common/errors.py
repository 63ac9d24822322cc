"""The one exception that a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: one line that names the value, what is allowed and how to mend it.

    The command line prints it and exits with code 2; a notebook shows the line alone.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this. Where the call stands says nothing to a reader of the
        # notebook, or to one of papermill's log, which repeats what the cell showed.
        return [f"snt: {self}"]


def unknown(what: str, value: object, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist, with the nearest one that does."""
    names = list(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {what} '{value}'{hint} (allowed: {', '.join(names)})")


def of_system(error: OSError) -> str:
    """Return what the system refused, in one line: the file first, where it is known."""
    reason = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    if not files:
        return f"{reason[:1].lower()}{reason[1:]}"
    return f"{' and '.join(files)}: {reason}; mend or move it, or name another place"
