"""The paper's claims put to the test: records -> verdicts.

The rules stand at the head of `data/paper/claims.yml`. An assertion is judged by where the 95 %
interval of its effect lies; a claim by its assertions. Smoke records never give a verdict.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from snt_core.common.checks import one_of
from snt_core.paper import numbers
from snt_core.paper.artefacts import claims
from snt_core.paper.evidence import Assertion, Untestable
from snt_core.paper.profiles import PROFILES, PUBLISHED
from snt_core.paper.recipes import KINDS, LABELS, stands_in
from snt_core.paper.selection import Selection, select
from snt_core.paper.statistics import Interval, holm, p_value
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store

SUPPORTED, CONTRADICTED = "supported", "contradicted"
PARTLY, INCONCLUSIVE, NOT_RUN = "partly supported", "inconclusive", "not run"
VERDICTS = (SUPPORTED, PARTLY, CONTRADICTED, INCONCLUSIVE, NOT_RUN)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the records say of one assertion.

    Attributes:
        effect: the quantity, with its 95 % interval `low` to `high`, in `unit`; None where nothing
            was measured, or where one seed gives no interval.
        allowed: where the assertion says that it lies.
        size: the paper's own value.
        n: training seeds behind it.
        p: two-sided, of the effect being at the limit of what is allowed.
        flags: `one seed`, `stand-in`, `short schedule`.
        text: why nothing could be said; empty where it could.
    """

    id: str
    says: str
    verdict: str
    unit: str
    size: float | None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    allowed: tuple[float, float] = (0.0, math.inf)
    n: int = 0
    p: float | None = None
    profile: str | None = None
    flags: tuple[str, ...] = ()
    text: str = ""

    @property
    def measured(self) -> str:
        """The effect, with its interval where there is one, as text; empty if none was measured."""
        if self.effect is None:
            return ""
        sign = "" if self.unit.startswith("times") else "+"
        number = f"{self.effect:{sign}.2f}"
        if self.low is None or self.high is None:
            return number
        return f"{number} [{self.low:{sign}.2f}, {self.high:{sign}.2f}]"

    @property
    def claimed(self) -> str:
        """The paper's size as text; empty where it prints none."""
        sign = "" if self.unit.startswith("times") else "+"
        return "" if self.size is None else f"{self.size:{sign}.2f}"

    def public(self) -> dict[str, Any]:
        """The keys that scripts may rely on."""
        low, high = self.allowed
        allowed = [None if math.isinf(low) else low, None if math.isinf(high) else high]
        return {**asdict(self), "allowed": allowed, "flags": list(self.flags)}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the records say of one claim, and of each of its assertions."""

    id: str
    verdict: str
    chapter: str
    assertions: tuple[Judged, ...]

    @property
    def leading(self) -> Judged:
        """The assertion that decides, a contradicted one, else the first of the verdict's kind."""
        order = (CONTRADICTED, INCONCLUSIVE, SUPPORTED, NOT_RUN)
        if self.verdict in (SUPPORTED, PARTLY):
            order = (SUPPORTED, INCONCLUSIVE, NOT_RUN, CONTRADICTED)
        return min(self.assertions, key=lambda found: order.index(found.verdict))

    @property
    def tally(self) -> str:
        """How many assertions have which verdict, in words."""
        kinds = Counter(found.verdict for found in self.assertions)
        return ", ".join(f"{kinds[kind]} {kind}" for kind in VERDICTS if kinds[kind])

    def public(self) -> dict[str, Any]:
        """The keys that scripts may rely on."""
        shown = self.leading
        return {
            "id": self.id,
            "verdict": self.verdict,
            "profile": shown.profile,
            "effect": shown.effect,
            "low": shown.low,
            "high": shown.high,
            "n": shown.n,
            "chapter": self.chapter,
            "assertions": [found.public() for found in self.assertions],
        }


def judge(claim: str, *evidence: Selection) -> Verdict:
    """Return the verdict on `claim` from selections of its artefact, or of parts of it."""
    one_of("claim with a test", claim, claims())
    names = [entry["id"] for entry in numbers.claims()[claim]["assertions"]]
    judged = tuple(judge_assertion(claim, name, *evidence) for name in names)
    return Verdict(
        id=claim, verdict=_together(judged), chapter=claims()[claim][0], assertions=judged
    )


def judge_assertion(claim: str, name: str, *evidence: Selection) -> Judged:
    """Return the verdict on one assertion of `claim` alone, as :func:`judge` gives it."""
    entries = {entry["id"]: entry for entry in numbers.claims()[claim]["assertions"]}
    return _judged(_blank(entries[name]), claims()[claim][1][name], evidence)


def scoreboard(store: Store) -> list[Verdict]:
    """Return one verdict for each of the paper's claims, from the records that are in `store`."""
    read: dict[tuple[str, str], Selection] = {}  # many assertions read the same selection
    return [judge(claim, *_published(claim, store, read)) for claim in numbers.claims()]


def survivors(verdicts: Sequence[Verdict]) -> set[tuple[str, str]]:
    """Return the settled assertions, as (claim, id), that remain after Holm's correction.

    Over all assertions that have a p-value, at 5 % for the whole family.
    """
    judged = {(verdict.id, one.id): one for verdict in verdicts for one in verdict.assertions}
    kept = holm({key: one.p for key, one in judged.items() if one.p is not None})
    return {key for key in kept if judged[key].verdict in (SUPPORTED, CONTRADICTED)}


def _published(claim: str, store: Store, read: dict[tuple[str, str], Selection]) -> list[Selection]:
    artefact, tests = claims()[claim]
    found = []
    for part in {repr(test.part): test.part for test in tests.values()}.values():
        key = artefact, repr(part)
        if key not in read:
            read[key] = select(artefact, PUBLISHED, (), store, **part)
            if read[key].profile.verdicts:
                read[key] = read[key].read(store)
        found.append(read[key])
    return found


# one assertion -------------------------------------------------------------------------------


def _blank(entry: dict[str, Any]) -> Judged:
    return Judged(
        id=entry["id"],
        says=entry["says"],
        verdict=NOT_RUN,
        unit=entry["unit"],
        size=entry["size"],
        text="not run",
    )


def _judged(blank: Judged, test: Assertion, evidence: Sequence[Selection]) -> Judged:
    """The assertion judged from the selection that can tell most of it."""
    blank = replace(blank, allowed=_shown(test, test.allowed))
    for selection in sorted(evidence, key=lambda s: not s.profile.verdicts):
        part = selection.part(test.part)
        records, lacking = _usable(test, part)
        if not records:
            blank = replace(blank, text=lacking) if lacking else blank
            continue
        blank = replace(blank, profile=part.profile.name)
        try:
            found = test.effect(records)
        except Untestable as error:
            blank = replace(blank, text=str(error))
            continue
        fixed = not test.trained or all(r.spec.net.kind != "train" for r in records)
        flags = _flags(records, part, found, fixed=fixed)
        mean, *ends = _shown(test, (found.mean, found.low, found.high))
        low, high = (None if math.isnan(end) else end for end in ends)
        verdict = decide(found, test.allowed, fixed=fixed, stand_in="stand-in" in flags)
        return replace(
            blank,
            verdict=verdict if part.profile.verdicts else NOT_RUN,
            effect=mean,
            low=low,
            high=high,
            n=found.seeds,
            p=_p(found, test.allowed, fixed=fixed),
            flags=flags,
            text="" if part.profile.verdicts else f"profile {part.profile.name} gives no verdict",
        )
    return blank


def _usable(test: Assertion, part: Selection) -> tuple[list[Record], str]:
    """The records of the seeds that are whole, and what keeps the others from counting."""
    # a public checkpoint is one net, under however many seeds it is asked for
    have = {record.spec: record for record in part.records}
    asked = [spec for spec in dict.fromkeys(part.specs) if test.speaks_of(spec)]
    if not test.whole:
        return [have[spec] for spec in asked if spec in have], ""
    good = {spec for spec in asked if spec in have and _is_sound(have[spec])}
    seeds = dict.fromkeys(spec.net.seed for spec in asked)
    whole = {s for s in seeds if all(spec in good for spec in asked if spec.net.seed == s)}
    records = [have[spec] for spec in asked if spec.net.seed in whole]
    lacking = [[spec for spec in asked if spec.net.seed == s and spec not in good] for s in seeds]
    nearest = min(lacking, key=len, default=[])  # what would complete a first seed
    return records, "; ".join(dict.fromkeys(_why(spec, have) for spec in nearest))


def _is_sound(record: Record) -> bool:
    return record.status == "done" and all(row.get("converged", True) for row in record.rows())


def _why(spec: Spec, have: dict[Spec, Record]) -> str:
    """Why a run cannot be used."""
    approach = LABELS[spec.net.approach]
    if spec not in have:
        return f"{KINDS.get(spec.kind, spec.kind)} of {approach} was not run"
    if have[spec].status != "done":
        return f"{approach} diverged"
    return f"λ_max of {approach} did not converge"


def _p(found: Interval, allowed: tuple[float, float], *, fixed: bool) -> float | None:
    p = p_value(found, allowed, fixed=fixed) if found.seeds > 1 or fixed else math.nan
    return None if math.isnan(p) else p


def _flags(
    records: Sequence[Record], part: Selection, found: Interval, *, fixed: bool
) -> tuple[str, ...]:
    flags = []
    if found.seeds == 1 and not fixed:
        flags.append("one seed")
    if any(stands_in(record.spec.net) for record in records):
        flags.append("stand-in")
    trained = any(record.spec.net.kind == "train" for record in records)
    if trained and part.profile.epochs < PROFILES["paper"].epochs:
        flags.append("short schedule")
    return tuple(flags)


def decide(found: Interval, allowed: tuple[float, float], *, fixed: bool, stand_in: bool) -> str:
    """Return `supported` if the whole interval lies where it may, `contradicted` if none does.

    Else `inconclusive`, as where one training stands behind it (`fixed` nets are not trained), or
    where a stand-in would contradict.
    """
    low, high = allowed
    if math.isnan(found.low) or (found.seeds < 2 and not fixed):
        return INCONCLUSIVE
    if low < found.low and found.high < high:
        return SUPPORTED
    if found.high < low or found.low > high:
        return INCONCLUSIVE if stand_in else CONTRADICTED
    return INCONCLUSIVE


def _shown(test: Assertion, values: Iterable[float]) -> Any:
    """Values as readers see them: quotients instead of their logarithms."""
    return tuple(math.exp(value) if test.log else value for value in values)


def _together(judged: Sequence[Judged]) -> str:
    verdicts = {found.verdict for found in judged}
    if verdicts == {NOT_RUN}:
        return NOT_RUN
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if verdicts == {SUPPORTED}:
        return SUPPORTED
    return PARTLY if SUPPORTED in verdicts else INCONCLUSIVE
