"""The paper's claims put to the test: records -> verdicts.

"reproduced": every part of the claim's test holds, each of its gaps with a 95 % interval above
zero, over at least two seeds; "partly": every sign holds, but with one seed, an interval that
includes zero, or a part that was not run; "not": a sign fails; "not run": no record, at a profile
that can tell, lets the test be made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from snt_core.common.errors import unknown
from snt_core.paper import numbers
from snt_core.paper.claims.cases import CASES, Case
from snt_core.paper.claims.findings import Finding, Untestable
from snt_core.paper.experiments import ARTEFACTS
from snt_core.paper.profiles import PUBLISHED
from snt_core.paper.recipes import BACKBONES, LABELS, stands_in
from snt_core.paper.selection import Result, select
from snt_core.runs.spec import Spec, root
from snt_core.runs.store import Record, Store


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the records say of one claim; `effect` with its 95 % interval is in `unit`."""

    id: str
    verdict: str
    profile: str | None
    effect: float | None
    low: float | None
    high: float | None
    n: int
    chapter: str | None
    unit: str = ""
    text: str = ""

    @property
    def measured(self) -> str:
        """The effect, with its interval where there is one, as text; empty if nothing was."""
        if self.effect is None:
            return ""
        interval = "" if self.low is None else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.effect:+.2f}{interval}"

    def public(self) -> dict[str, Any]:
        """The keys that scripts may rely on."""
        keys = ("id", "verdict", "profile", "effect", "low", "high", "n", "chapter")
        return {key: value for key, value in asdict(self).items() if key in keys}


def judge(claim: str, *results: Result) -> Verdict:
    """Verdict on `claim` from the records of its artefact. Smoke records never give one.

    A claim about several backbones is judged on each; the weakest decides.
    """
    if claim not in CASES:
        raise unknown("claim with a test", claim, CASES)
    case = CASES[claim]
    return _together([_part(claim, case, part, results) for part in case.parts])


def scoreboard(store: Store) -> list[Verdict]:
    """One verdict for each of the paper's claims, from the records that are in `store`."""
    return [_published(claim, store) for claim in numbers.claims()]


def _published(claim: str, store: Store) -> Verdict:
    case = CASES[claim]
    results = []
    for part in case.parts:
        chosen = select(case.artefact, PUBLISHED, (), store, **part)
        if chosen.profile.verdicts:
            records = [record for spec in chosen.specs if (record := store.get(spec))]
            results.append(Result(case.artefact, chosen.profile, chosen.seeds, records, dict(part)))
    return judge(claim, *results)


def _part(claim: str, case: Case, part: dict[str, str], results: Sequence[Result]) -> Verdict:
    """Verdict on one part of a claim, from the result that can tell most of it."""
    blank = _blank(claim, case, f"{_title(part)}not run")
    for result in sorted(results, key=lambda r: not r.profile.verdicts):
        specs = ARTEFACTS[case.artefact](result.profile, result.seeds, **part)
        own = set(specs)
        read = list({r.spec: r for r in result.records if r.spec in own}.values())
        if case.approaches:
            read = [record for record in read if root(record.spec).approach in case.approaches]
        if not read:
            continue
        blank = replace(blank, profile=result.profile.name)
        if trouble := _trouble(case, specs, read):
            blank = replace(blank, text=_title(part) + trouble)
            continue
        try:
            finding = case.test(read)
        except Untestable as error:
            blank = replace(blank, text=f"{_title(part)}{error}")
            continue
        effect = finding.effect
        return replace(
            blank,
            verdict=_decide(finding) if result.profile.verdicts else "not run",
            effect=effect.mean,
            low=None if math.isnan(effect.low) else effect.low,
            high=None if math.isnan(effect.high) else effect.high,
            n=effect.seeds,
            unit=finding.unit,
            text=_title(part) + _stand_in(read) + finding.text,
        )
    return blank


def _together(parts: Sequence[Verdict]) -> Verdict:
    """The weakest part decides; parts that were not run keep a claim from being reproduced."""
    ran = [part for part in parts if part.verdict != "not run"]
    text = "; ".join(part.text for part in parts)
    if not ran:
        shown = next((part for part in parts if part.effect is not None), parts[0])
        return replace(shown, text=text)
    weakest = min(ran, key=lambda part: (ORDER.index(part.verdict), part.effect))
    verdict = weakest.verdict
    if len(ran) < len(parts) and verdict == "reproduced":
        verdict = "partly"
    profiles = dict.fromkeys(part.profile for part in ran)
    return replace(weakest, verdict=verdict, text=text, profile=", ".join(map(str, profiles)))


ORDER = ("not", "partly", "reproduced")


def _decide(finding: Finding) -> str:
    if not finding.holds:
        return "not"
    settled = finding.effect.seeds > 1 and all(gap.is_positive for gap in finding.gaps)
    return "reproduced" if settled else "partly"


def _trouble(case: Case, specs: Sequence[Spec], records: Sequence[Record]) -> str:
    """Why the test cannot be made from these records; empty if it can."""
    if not case.approaches:
        return ""
    have = {record.spec for record in records}
    asked = [s for s in specs if s.kind in case.kinds and root(s).approach in case.approaches]
    if lacking := [root(spec).approach for spec in asked if spec not in have]:
        return f"the runs that the claim speaks of are not here ({_names(lacking)})"
    read = [r for r in records if r.spec.kind in case.kinds or r.spec.leaves_weights]
    if lost := [root(r.spec).approach for r in read if r.status != "done"]:
        return f"{_names(lost)} diverged, so the test cannot be made"
    sharp = [r for r in read if r.spec.kind == "lambda_max" and not r.metrics["converged"]]
    if sharp:
        return f"lambda_max of {_names([root(r.spec).approach for r in sharp])} did not converge"
    return ""


def _names(approaches: Iterable[str]) -> str:
    return ", ".join(LABELS[a] for a in dict.fromkeys(approaches))


def _stand_in(records: Sequence[Record]) -> str:
    net = root(records[0].spec)
    return f"on a stand-in ({net.model}, {net.data}), " if stands_in(net) else ""


def _title(part: dict[str, str]) -> str:
    backbone = part.get("backbone", "")
    return f"{BACKBONES.get(backbone, backbone)}: " if backbone else ""


def _blank(claim: str, case: Case, text: str) -> Verdict:
    return Verdict(
        id=claim,
        verdict="not run",
        profile=None,
        effect=None,
        low=None,
        high=None,
        n=0,
        chapter=case.artefact,
        text=text,
    )
