"""Runs a record again, the way it was run, and compares."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from snt_core.common.errors import UserError
from snt_core.runs.record import Record
from snt_core.runs.repeats import Repeat, keep
from snt_core.runs.runner import run
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store
from snt_core.training.engine import Engine, detect

TOLERANCE = 0.01  # relative, for the headline numbers, when bits differ


@dataclass(frozen=True)
class Verification:
    """Whether a run that was repeated found the same, and how that is told."""

    same: bool
    text: str


def chosen_records(store: Store, prefix: str, sample: int) -> list[Record]:
    """Return the records whose id starts with `prefix`, or `sample` drawn at random."""
    records = [record for record in store.records() if record.status == "done"]
    if sample:
        able = [
            r for r in records if r.spec.net is r.spec or store.weights_path(r.spec.net).exists()
        ]
        return random.sample(able, min(sample, len(able)))
    if not prefix:
        raise UserError("name a record by its id, or give --sample N")
    wanted = prefix.split("-")[-1]
    found = [record for record in records if record.id.startswith(wanted)]
    if not found:
        raise UserError(
            f"no record '{prefix}' in {store.folder}; the ids are in the names of the files there"
        )
    return found


def run_again(record: Record, store: Store) -> Verification:
    """Repeat `record` in a store of its own, from the same weights, and compare the metrics."""
    with tempfile.TemporaryDirectory() as folder:
        aside = Store(Path(folder))
        if record.spec.net is not record.spec:
            _lend_weights(record.spec, store, aside)
        again = run(record.spec, aside, _engine(record), record.profile)
    found = _compared(record, again)
    keep(  # so that the book can tell it
        Repeat(
            record=record.name,
            profile=record.profile,
            same=found.same,
            result=found.text,
            numbers=_numbers(record, again),
            provenance=again.provenance,
        ),
        store,
    )
    return found


def _compared(record: Record, again: Record) -> Verification:
    if again.metrics == record.metrics:
        return Verification(True, "identical")
    headline = record.spec.headline
    gaps = list(_gaps(headline(record.metrics), headline(again.metrics)))
    same = all(abs(new - old) <= TOLERANCE * max(abs(old), 1.0) for _, old, new in gaps)
    words = ", ".join(f"{name} {old:.6g} -> {new:.6g}" for name, old, new in gaps)
    return Verification(same, f"{'close' if same else 'DIFFERS'}: {words}")


def _engine(record: Record) -> Engine:
    engine = detect()
    return replace(engine, dtype=record.provenance["dtype"], fused=record.provenance["fused"])


def _lend_weights(spec: Spec, store: Store, aside: Store) -> None:
    source = store.weights_path(spec.net)
    if not source.exists():
        raise UserError(
            f"{source} is not here; train it first with 'snt run' or verify its training"
        )
    target = aside.weights_path(spec.net)
    target.parent.mkdir(parents=True)
    os.symlink(source, target)


def _gaps(old: dict[str, float], new: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    return ((name, old[name], new[name]) for name in old)


def _numbers(record: Record, again: Record) -> dict[str, tuple[float, float]]:
    """The headline numbers by name, before and now."""
    headline = record.spec.headline
    gaps = _gaps(headline(record.metrics), headline(again.metrics))
    return {name: (old, new) for name, old, new in gaps}
