"""How long runs take on a machine such as this one, from records of like runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

Like = tuple[str, ...]  # what runs of one pace have in common
CARDS = ("NVIDIA", "AMD Instinct", "AMD Radeon")  # how drivers begin the names of theirs


def like(spec: Spec) -> Like:
    """Return what a run has in common with those that take as long for the same work."""
    net = spec.net
    return spec.kind, net.model, net.variant


def seconds_per_work(
    records: Iterable[Record], *, card: bool, by: Callable[[Spec], Like] = like
) -> dict[Like, float]:
    """Return the seconds that a unit of `Spec.work` took, of a core or, with `card`, of a card.

    `by` says which runs are alike. Those of the other sort of machine count only where none of this
    sort has been timed. Totals are divided, so that large runs, whose overhead is small, count for
    more than small ones.
    """
    totals: dict[tuple[bool, Like], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record in records:
        if record.status == "done":
            there = on_card(record.provenance)
            total = totals[there, by(record.spec)]
            total[0] += _seconds(record.provenance, there)
            total[1] += record.spec.work()
    ordered = sorted(totals.items(), key=lambda item: item[0][0] == card)  # this sort's come last
    return {which: spent / amount for (_, which), (spent, amount) in ordered}


def on_card(provenance: Mapping[str, Any]) -> bool:
    """Whether a run was carried out on a graphics card."""
    return str(provenance["device"]).startswith(CARDS)


def _seconds(provenance: Mapping[str, Any], there: bool) -> float:
    # on a CPU those in which it had the core: beside other work a run takes longer by the clock
    return provenance["seconds"] if there else provenance.get("cpu_seconds", provenance["seconds"])


def has_card() -> bool:
    """Whether this machine has a graphics card, by its device files: torch takes a second."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
