"""Runs that failed, in words."""

from __future__ import annotations

from snt_core.common.errors import UserError, of_system
from snt_core.common.workers import Killed
from snt_core.runs.identity import record_name
from snt_core.runs.spec import Spec


class Broken(Exception):
    """An error of a run in words, since that itself may hold what cannot be sent."""


def in_words(error: Exception) -> str:
    """Return an error in a line: its type, and the first line of what it says."""
    if isinstance(error, Broken):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def told(spec: Spec, error: Exception) -> str:
    """Return in a line which run failed and why."""
    if isinstance(error, UserError):
        return str(error)
    net = spec.net
    if isinstance(error, Killed):
        why = (
            f"was killed from outside, out of memory perhaps ({error}); start again, "
            f"with fewer --workers if it happens again"
        )
    else:
        why = f"failed: {of_system(error) if isinstance(error, OSError) else in_words(error)}"
    return (
        f"{record_name(spec)}, {spec.kind} of {net.model} {net.approach} on {net.data}, "
        f"seed {net.seed}, {why}"
    )
