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

from snt_core.common.checks import one_of
from snt_core.paper import numbers
from snt_core.paper.artefacts import claims
from snt_core.paper.evidence import Claim, Finding, Untestable
from snt_core.paper.profiles import PUBLISHED
from snt_core.paper.recipes import BACKBONES, LABELS, stands_in
from snt_core.paper.selection import Selection, select
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store


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
        """The effect, with its interval where there is one, as text; empty if none was measured."""
        if self.effect is None:
            return ""
        interval = "" if self.low is None else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.effect:+.2f}{interval}"

    def public(self) -> dict[str, Any]:
        """The keys that scripts may rely on."""
        keys = ("id", "verdict", "profile", "effect", "low", "high", "n", "chapter")
        return {key: value for key, value in asdict(self).items() if key in keys}


def judge(claim: str, *evidence: Selection) -> Verdict:
    """Return the verdict on `claim` from selections of its artefact. Smoke never gives one.

    A claim about several backbones is judged on each; the weakest decides.
    """
    one_of("claim with a test", claim, claims())
    return _together([_judge_part(claim, part, evidence) for part in claims()[claim][1].parts])


def scoreboard(store: Store) -> list[Verdict]:
    """Return one verdict for each of the paper's claims, from the records that are in `store`."""
    return [judge(claim, *_published(claim, store)) for claim in numbers.claims()]


def _published(claim: str, store: Store) -> list[Selection]:
    artefact, test = claims()[claim]
    chosen = [select(artefact, PUBLISHED, (), store, **part) for part in test.parts]
    return [selection.read(store) for selection in chosen if selection.profile.verdicts]


def _judge_part(claim: str, options: dict[str, str], evidence: Sequence[Selection]) -> Verdict:
    """Verdict on one part of a claim, from the selection that can tell most of it."""
    artefact, test = claims()[claim]
    title = _title(options)
    blank = _blank(claim, artefact, f"{title}not run")
    for selection in sorted(evidence, key=lambda s: not s.profile.verdicts):
        part = selection.part(options)
        # a public checkpoint is one net, under however many seeds it is asked for
        read = list({r.spec: r for r in part.records if _speaks_of(test, r.spec)}.values())
        if not read:
            continue
        blank = replace(blank, profile=part.profile.name)
        if obstacle := _obstacle(test, part.specs, read):
            blank = replace(blank, text=title + obstacle)
            continue
        try:
            finding = test.test(read)
        except Untestable as error:
            blank = replace(blank, text=f"{title}{error}")
            continue
        effect = finding.effect
        return replace(
            blank,
            verdict=_decide(finding) if part.profile.verdicts else "not run",
            effect=effect.mean,
            low=None if math.isnan(effect.low) else effect.low,
            high=None if math.isnan(effect.high) else effect.high,
            n=effect.seeds,
            unit=finding.unit,
            text=title + _stand_in(read) + finding.text,
        )
    return blank


def _speaks_of(test: Claim, spec: Spec) -> bool:
    return not test.approaches or spec.net.approach in test.approaches


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


def _obstacle(test: Claim, specs: Sequence[Spec], records: Sequence[Record]) -> str:
    """Why the test cannot be made from these records; empty if it can."""
    if not test.approaches:
        return ""
    have = {record.spec for record in records}
    asked = [s for s in specs if s.kind in test.kinds and _speaks_of(test, s)]
    if lacking := [spec.net.approach for spec in asked if spec not in have]:
        return f"the runs that the claim speaks of are not here ({_names(lacking)})"
    read = [r for r in records if r.spec.kind in test.kinds or r.spec.leaves_weights]
    if lost := [r.spec.net.approach for r in read if r.status != "done"]:
        return f"{_names(lost)} diverged, so the test cannot be made"
    open_ = [
        r.spec.net.approach for r in read if not all(row.get("converged", True) for row in r.rows())
    ]
    if open_:
        return f"lambda_max of {_names(open_)} did not converge"
    return ""


def _names(approaches: Iterable[str]) -> str:
    return ", ".join(LABELS[a] for a in dict.fromkeys(approaches))


def _stand_in(records: Sequence[Record]) -> str:
    net = records[0].spec.net
    return f"on a stand-in ({net.model}, {net.data}), " if stands_in(net) else ""


def _title(part: dict[str, str]) -> str:
    backbone = part.get("backbone", "")
    return f"{BACKBONES.get(backbone, backbone)}: " if backbone else ""


def _blank(claim: str, artefact: str, text: str) -> Verdict:
    return Verdict(
        id=claim,
        verdict="not run",
        profile=None,
        effect=None,
        low=None,
        high=None,
        n=0,
        chapter=artefact,
        text=text,
    )
