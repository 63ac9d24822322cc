"""Runs that were carried out, and records that were run a second time, as a store keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from snt_core.runs.record import Record
from snt_core.runs.repeats import Repeat
from snt_core.runs.store import Store
from tests.records import PROVENANCE, result

FACTS = PROVENANCE | {"device": "a card", "started": ""}
DAY = "2026-11-25T10:00:00+00:00"


def fill(
    store: Store,
    artefact: str = "table4",
    seeds: Sequence[int] = (0, 1),
    profile: str = "cifar",
    **facts,
) -> Sequence[Record]:
    """Put an artefact's runs there, each of half an hour, an hour after the one before it."""
    records = result(artefact, seeds, profile=profile).records
    for hour, record in enumerate(records):
        started = f"2026-11-25T{hour % 24:02}:00:00+00:00"
        provenance = {**FACTS, "seconds": 1800.0, "started": started, **facts}
        store.put(replace(record, provenance=provenance))
    return records


def repetition(**changes) -> Repeat:
    known = {"record": "train-0123456789abcdef", "profile": "cifar", "same": True, "numbers": {}}
    return Repeat(
        **{**known, "result": "identical", "provenance": {**FACTS, "started": DAY}, **changes}
    )
