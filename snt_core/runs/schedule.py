"""Which run comes next: something is known early, and what is timed has the machine to itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from snt_core.runs.spec import Spec

FITS, LATER = 0, 1  # ranks; those above LATER come later still
# When a run is begun: one of the lowest rank comes first, and one that has none not now.
Rank = Callable[[Spec], int | None]


def any_time(spec: Spec) -> int | None:
    """Rank all runs alike."""
    return FITS


class Schedule:
    """The runs to be made, in the order in which they are begun.

    Measurements of a net come as soon as it is there and before a net that is not begun, so that a
    command that is stopped leaves whole results. Kinds that time something (`Spec.timed`) come
    last, one at a time, while no other run is under way. A net that failed takes its measurements
    along.

    Args:
        todo: runs that have no record, a net before its measurements (see `plan.pending`).
        elsewhere: whether another process has a run under way; such ones come last.
        rank: which runs come first, and which not at all, asked anew each time.
    """

    def __init__(
        self, todo: Iterable[Spec], elsewhere: Callable[[Spec], bool], rank: Rank = any_time
    ) -> None:
        self.elsewhere, self.rank = elsewhere, rank
        self.waiting = list(todo)
        self.nets = {spec for spec in self.waiting if spec.net is spec}  # not there yet
        self.under_way: set[Spec] = set()
        self.lost: list[Spec] = []  # never begun, since their net failed

    def begin(self) -> Spec | None:
        """Return the run to begin now; None if there is none, or none until another has ended."""
        if any(spec.timed for spec in self.under_way):
            return None
        free = [spec for spec in self.waiting if spec.net is spec or spec.net not in self.nets]
        ranks = [self.rank(spec) for spec in free]
        first_rank = min((rank for rank in ranks if rank is not None), default=None)
        ready = [spec for spec, rank in zip(free, ranks) if rank is not None and rank == first_rank]
        untimed = [spec for spec in ready if not spec.timed]
        if not untimed and self.under_way:
            return None
        first = sorted(untimed or ready, key=lambda spec: spec.net is spec)
        if not first:
            return None
        chosen = next((spec for spec in first if not self.elsewhere(spec)), first[0])
        self.waiting.remove(chosen)
        self.under_way.add(chosen)
        return chosen

    def end(self, spec: Spec, *, failed: bool) -> None:
        """Take notice of how a run ended."""
        self.under_way.remove(spec)
        if not failed:
            self.nets.discard(spec)
        elif spec in self.nets:
            self.lost += [one for one in self.waiting if one.net == spec]
            self.waiting = [one for one in self.waiting if one.net != spec]
