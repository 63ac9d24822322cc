"""Runs a record again, the way it was run, and compares."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from snt_core.common.checks import one_of
from snt_core.common.errors import RunsFailed, UserError
from snt_core.common.terminal import say, say_once
from snt_core.runs.kinds import kinds
from snt_core.runs.plan import clock
from snt_core.runs.preflight import require_data
from snt_core.runs.record import Record
from snt_core.runs.repeats import Repeat, keep
from snt_core.runs.runner import run, told
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store
from snt_core.training.engine import Engine, detect

TOLERANCE = 0.01  # relative, for the headline numbers, when bits differ
IDENTICAL = "identical"
LEAST = 4  # digits of an id that name a record
NAME = re.compile(rf"(?:([a-z0-9_]+)-)?([0-9a-f]{{{LEAST},16}})")


@dataclass(frozen=True)
class Verification:
    """Whether a run that was repeated found the same, and how that is told."""

    same: bool
    text: str


def chosen_records(store: Store, name: str, sample: int) -> list[Record]:
    """Return the record that `name` stands for, or `sample` drawn at random.

    A name is an id or its beginning, with its kind in front or without. Drawn are those that can be
    run again: trainings, and measurements whose weights are here.

    Raises:
        UserError: both or neither is given, `name` is none, or stands for no record or for several.
    """
    if bool(name) == bool(sample):
        raise UserError("name a record by its id, or give --sample N; one of both")
    records = [record for record in store.records() if record.status == "done"]
    return _drawn(store, records, sample) if sample else _named(store, records, name)


def _drawn(store: Store, records: list[Record], sample: int) -> list[Record]:
    able = [r for r in records if r.spec.net is r.spec or store.weights_path(r.spec.net).exists()]
    if not able:
        raise UserError(
            f"none of the {len(records)} records in {store.folder} can be run again: no "
            f"training is among them, and no weights lie beside them"
        )
    return random.sample(able, min(sample, len(able)))


def _named(store: Store, records: list[Record], name: str) -> list[Record]:
    asked = NAME.fullmatch(name)
    if not asked:
        raise UserError(
            f"'{name}' is no name of a record; give KIND-ID or ID, of which {LEAST} hex digits are "
            f"enough, such as train-6ee7"
        )
    kind, start = asked.groups()
    if kind:
        one_of("kind of run", kind, kinds())
    found = [r for r in records if r.id.startswith(start) and kind in (None, r.spec.kind)]
    names = sorted({record.name for record in found})
    if not names:
        raise UserError(
            f"no record '{name}' in {store.folder}; the ids are in the names of the files there"
        )
    if len(names) > 1:
        raise UserError(f"'{name}' stands for several: {', '.join(names)}; give more digits")
    return found


def summary(results: Sequence[Verification], sample: int = 0, refused: int = 0) -> str:
    """Return in a line what was verified and with which result.

    Args:
        sample: how many were asked for.
        refused: how many could not be run.
    """
    identical = sum(result.text == IDENTICAL for result in results)
    close = sum(result.same for result in results) - identical
    counts = {"identical": identical, "close": close, "different": len(results) - identical - close}
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    told = f"{len(results)} record{'s' * (len(results) != 1)} run again"
    told += f": {found}" * bool(found) + f"; {refused} could not be run" * bool(refused)
    if len(results) + refused < sample:
        told += f" ({sample} were asked for; no others can be run again here)"
    return told


def run_all_again(
    records: Sequence[Record], store: Store, notify: Callable[[str], None]
) -> tuple[list[Verification], list[UserError]]:
    """Repeat each of `records`; return what was found, and why others could not be run.

    `notify` gets the lines that tell it; the errors are told on standard error as they come.
    """
    results, refused = [], []
    for record in records:
        notify(f"{record.name}: took {clock(record.provenance['seconds'])}, running it again")
        try:
            results.append(run_again(record, store))
        except UserError as error:
            refused.append(error)
            say_once(str(error))
        else:
            notify(f"{record.name}: {results[-1].text}")
    return results, refused


def run_again(record: Record, store: Store) -> Verification:
    """Repeat `record` in a store of its own, from the same weights, and compare the metrics.

    Raises:
        UserError: data or weights are missing or damaged; told before anything is compiled.
        RunsFailed: the run failed.
    """
    require_data([record.spec])
    with tempfile.TemporaryDirectory() as folder:
        aside = Store(Path(folder))
        if record.spec.net is not record.spec:
            _lend_weights(record.spec, store, aside)
        try:
            again = run(record.spec, aside, _engine(record), record.profile)
        except (UserError, OSError):
            raise
        except Exception as error:
            raise RunsFailed([told(record.spec, error)]) from error
    found = _compared(record, again)
    repeat = Repeat(
        record=record.name,
        profile=record.profile,
        same=found.same,
        result=found.text,
        numbers=_numbers(record, again),
        provenance=again.provenance,
    )
    try:
        keep(repeat, store)  # so that the book can tell it
    except OSError as error:  # of a store that can only be read, whoever asked still learns it
        said = f"{error.filename}: {error.strerror}"
        say(f"what was found is told, and not kept ({said})")
    return found


def _compared(record: Record, again: Record) -> Verification:
    if again.metrics == record.metrics:
        return Verification(True, IDENTICAL)
    headline = record.spec.headline
    gaps = list(_gaps(headline(record.metrics), headline(again.metrics)))
    same = all(abs(new - old) <= TOLERANCE * max(abs(old), 1.0) for _, old, new in gaps)
    words = ", ".join(f"{name} {old:.6g} -> {new:.6g}" for name, old, new in gaps)
    before, today = (r.provenance.get("data_digest") for r in (record, again))
    if before and today and before != today:
        words += f" (on other data: digest {before}, today {today})"
    return Verification(same, f"{'close' if same else 'DIFFERS'}: {words}")


def _engine(record: Record) -> Engine:
    engine = detect()
    return replace(engine, dtype=record.provenance["dtype"], fused=record.provenance["fused"])


def _lend_weights(spec: Spec, store: Store, aside: Store) -> None:
    if not store.has_weights(spec.net):
        raise UserError(
            f"{store.weights_path(spec.net)} is not here; train it first with 'snt run' or verify "
            f"its training"
        )
    store.lend_weights(spec.net, aside)


def _gaps(old: dict[str, float], new: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    return ((name, old[name], new[name]) for name in old)


def _numbers(record: Record, again: Record) -> dict[str, tuple[float, float]]:
    """The headline numbers by name, before and now."""
    headline = record.spec.headline
    gaps = _gaps(headline(record.metrics), headline(again.metrics))
    return {name: (old, new) for name, old, new in gaps}
