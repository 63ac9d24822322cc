"""The time that a command may take: what fits into it, and what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from snt_core.common import stopping
from snt_core.common.errors import UserError
from snt_core.runs.identity import record_name
from snt_core.runs.plan import PlannedRun, clock, in_words
from snt_core.runs.schedule import FITS, LATER, Rank
from snt_core.runs.spec import Spec

SPELLING = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,8})s)?", re.ASCII)
# of the budget, below which nothing is begun that may take longer than what is left
LAST = 0.1


@dataclass(frozen=True)
class Budget:
    """`seconds` of time, over at `end` of the monotonic clock."""

    seconds: float
    end: float

    @property
    def left(self) -> float:
        """The seconds that are left; negative once it is over."""
        return self.end - time.monotonic()

    def ranks(self, todo: Sequence[PlannedRun]) -> Rank:
        """Return what says, at any moment, when a run comes next, by the plan's estimates.

        First what fits into the time that is left. Then, while more than a tenth of the budget is
        left, runs of unknown length, and last of all runs that are too long but go on from their
        checkpoint: the same command, given often enough, makes them too.
        """
        planned = {step.spec: step for step in todo}

        def rank(spec: Spec) -> int | None:
            step = planned.get(spec) or PlannedRun(spec, None, 0.0)
            left = self.left
            if step.seconds is not None and step.seconds <= left:
                return FITS
            if left <= LAST * self.seconds:
                return None
            if step.seconds is None:
                return LATER
            return LATER + 1 if spec.leaves_weights or step.resumes_at else None

        return rank

    @contextmanager
    def kept(self) -> Iterator[None]:
        """End the block when the time is over, as a signal would, and go on after it."""
        try:
            with stopping.until(self.end):
                yield
        except stopping.Stopped as stop:
            if stop.number != stopping.TIME:
                raise

    def account(self, todo: Sequence[PlannedRun], rest: Sequence[PlannedRun]) -> str:
        """Return in a line what became of `todo`, of which `rest` is still missing."""
        missing = {step.spec for step in rest}
        made = sum(step.spec not in missing for step in todo)
        spent = clock(self.seconds - max(0.0, self.left))
        text = f"{made} of {len(todo)} runs made in {spent} of {clock(self.seconds)}"
        if under_way := [step for step in rest if step.resumes_at]:
            named = ", ".join(f"{record_name(s.spec)} ({s.resumes_at:.0%})" for s in under_way)
            text += f"; under way: {named}, which the same command goes on with"
        return f"{text}; left: {f'{len(rest)} runs, {in_words(rest)}' if rest else 'nothing'}"


def budget_of(text: str) -> Budget | None:
    """Return the budget that `--budget` names, which begins now; None if it is empty.

    Raises UserError for what is no time, or none at all.
    """
    if not text:
        return None
    found = SPELLING.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in (found.groups() if found else ("",) * 3))
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise UserError(f"--budget is '{text}'; give a time above 0, such as 90s, 25m or 1h30m")
    return Budget(total, time.monotonic() + total)
