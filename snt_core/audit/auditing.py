"""An audit carried out: what was asked is checked, measured within its time, and recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from snt_core.audit import first_look, measures
from snt_core.audit.first_look import FirstLook
from snt_core.audit.measure import Measure
from snt_core.audit.preparing import Asked, Prepared, labelled, prepare
from snt_core.audit.scene import Sizes
from snt_core.common.errors import UserError
from snt_core.runs.budget import Budget
from snt_core.runs.failures import in_words
from snt_core.runs.kinds.audit import AuditSpec, lay_on_bench, settings_of
from snt_core.runs.kinds.brought import BroughtSpec
from snt_core.runs.plan import clock
from snt_core.runs.record import Record
from snt_core.runs.store import Store

PROFILE = "audit"  # the folder of the records
RESERVE = 0.03, 0.15  # of the budget, for the report: at least, at most
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found.

    Attributes:
        found: rows by `Measure.key`, of this call and of earlier ones.
        left_out: titles of what was not measured, with the reason.
        notes: what a reader must know before any number.
        seconds: that this call took.
    """

    asked: Asked
    net: BroughtSpec
    look: FirstLook
    sizes: Sizes
    plan: tuple[Measure, ...]
    found: dict[str, list[dict[str, Any]]]
    records: dict[str, Record]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    facts: dict[str, str]
    labelled: bool
    classes: tuple[str, ...]
    outputs: int | None
    seconds: float

    @property
    def trained(self) -> bool:
        return self.facts["weights"] != "random"


def store_of(store: Store) -> Store:
    """Return where audits lie: beside the book's own records, so that no book publishes them."""
    return Store(store.folder / "audits")


def audit(
    asked: Asked,
    store: Store,
    budget: Budget,
    say: Say = lambda line: None,
    *,
    reserve: float = 0.0,
) -> Audit:
    """Measure what fits into the budget, and return everything that is known of the net.

    Args:
        reserve: seconds of the budget that are left for a report, within the limits of `RESERVE`.

    Raises UserError for whatever is wrong with what was asked, before anything is measured.
    """
    start = time.monotonic()
    prepared = _prepared(asked, budget)
    scene, net, look = prepared.scene, prepared.net, prepared.look
    for note in prepared.notes:
        say(note)
    engine = _engine(scene.device)
    found: dict[str, list[dict[str, Any]]] = {}

    def perform(spec: AuditSpec, progress: Any) -> tuple[list[dict[str, Any]], int]:
        if spec.measure == "sizes":
            sizes = first_look.sized(scene, budget.seconds, look)
            return [vars(sizes)], 0
        return by_spec[spec].run(scene, found)

    lay_on_bench(net, perform)
    from snt_core.runs.runner import run

    _warm(engine)

    def carried_out(spec: AuditSpec) -> Record:
        return run(spec, store, engine, PROFILE)

    sizing = AuditSpec(
        parent=net, measure="sizes", settings=settings_of(budget=budget.seconds, lose=asked.lose)
    )
    sizes = Sizes(**carried_out(sizing).metrics["rows"][0])
    look = first_look.as_begun(look, sizes)
    scene = labelled(replace(scene, sizes=sizes))
    plan = measures.planned(scene, look, asked.lose)
    by_spec = {_spec(net, one, sizes): one for one in plan}
    todo = [spec for spec in by_spec if store.get(spec) is None]
    say(_announcement(look, plan, [by_spec[spec] for spec in todo], budget))
    left_out = dict(look.unsupported)
    least, most = (share * budget.seconds for share in RESERVE)
    within = Budget(budget.seconds, budget.end - min(max(reserve, least), most))
    records = _measured(by_spec, store, carried_out, within, found, left_out)
    return Audit(
        asked=asked,
        net=net,
        look=look,
        sizes=sizes,
        plan=tuple(plan),
        found=found,
        records=records,
        left_out=left_out,
        notes=prepared.notes,
        facts=prepared.facts,
        labelled=scene.labelled,
        classes=prepared.classes,
        outputs=scene.classes,
        seconds=time.monotonic() - start,
    )


def _measured(
    plan: Mapping[AuditSpec, Measure],
    store: Store,
    carry_out: Callable[[AuditSpec], Record],
    within: Budget,
    found: dict[str, list[dict[str, Any]]],
    left_out: dict[str, str],
) -> dict[str, Record]:
    """Return the records of what is there or fits, by `Measure.key`; the rest goes to `left_out`.

    Rows go to `found` one by one, since later measurements read those of earlier ones.
    """
    pace = _Pace()
    records: dict[str, Record] = {}
    with within.kept():
        for spec, measure in plan.items():
            known = store.get(spec)
            if known is None:
                needed = pace.seconds(measure)
                if needed > within.left:
                    left_out[measure.title] = _no_time(needed, within.left)
                    continue
                before = time.monotonic()
                try:
                    known = carry_out(spec)
                except Exception as error:  # one that fails takes no other with it
                    left_out[measure.title] = in_words(error)
                    continue
                pace.took(measure, time.monotonic() - before)
            if known.status != "done":
                left_out[measure.title] = "it gave numbers that are not finite"
                continue
            records[measure.key], found[measure.key] = known, known.metrics["rows"]
    # the budget may have ended the loop
    for measure in plan.values():
        if measure.key not in records:
            left_out.setdefault(measure.title, _no_time(pace.seconds(measure), 0))
    return records


def _prepared(asked: Asked, budget: Budget) -> Prepared:
    """Return what is looked at, or raise UserError where the look alone takes the whole budget."""
    with budget.kept():
        return prepare(asked, budget.seconds)
    raise UserError(
        f"--budget of {clock(budget.seconds)} was over before net and samples were read; give a "
        f"larger --budget, or fewer and smaller images"
    )


class _Pace:
    """How much longer than expected measurements take here; each family by itself, once known."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}  # seconds taken and expected, by family

    def seconds(self, measure: Measure) -> float:
        if known := self.sums.get(measure.name):
            return measure.cost * known[0] / known[1]
        taken, expected = map(sum, zip(*self.sums.values(), (1.0, 1.0)))
        return measure.cost * min(max(taken / expected, 0.2), 2.0)

    def took(self, measure: Measure, seconds: float) -> None:
        taken, expected = self.sums.get(measure.name, (0.0, 0.0))
        self.sums[measure.name] = taken + seconds, expected + max(measure.cost, 1e-3)


def _no_time(needed: float, left: float) -> str:
    rest = f", and {clock(max(0.0, left))} were left" if left > 0 else ""
    return f"no time: about {clock(needed)} needed{rest}; give a larger --budget"


def _spec(net: BroughtSpec, measure: Measure, sizes: Sizes) -> AuditSpec:
    counts = {k: v for k, v in vars(sizes).items() if k not in ("forward", "product")}
    return AuditSpec(
        parent=net, measure=measure.name, settings=settings_of(**measure.settings, samples=counts)
    )


def _announcement(look: FirstLook, plan: list[Measure], todo: list[Measure], budget: Budget) -> str:
    cost = sum(one.cost for one in todo)
    there = len(plan) - len(todo)
    earlier = f"{there} of them are there; " if there else ""
    return (
        f"{look.parameters:,} parameters, {look.covered:.1%} of them in {len(look.touched)} layers "
        f"that compression touches; {len(plan)} measurements, {earlier}about {clock(cost)} of "
        f"{clock(budget.seconds)}; memory at most about {look.memory / 2**20:,.0f} MB"
    )


def _engine(device: str) -> Any:
    import torch

    from snt_core.training.engine import Engine, busy_cores

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    # threads that share a core with other work keep each other waiting
    threads = max(1, min(torch.get_num_threads(), cores, round(cores - busy_cores())))
    return Engine(device=device, dtype="fp32", fused=False, threads=threads)


def _warm(engine: Any) -> None:
    """Compile the kernels now, if they are not: else the first to use them would seem slow."""
    from snt_core.fast import kernels

    if engine.device == "cpu":
        kernels.available()
