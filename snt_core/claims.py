"""The paper's claims put to the test: records -> verdicts.

"reproduced": every part of the claim's test holds, each of its gaps in accuracy with a 95 %
interval above zero, over at least two seeds; "partly": every sign holds, but with one seed or an
interval that includes zero; "not": a sign fails; "not run": no record, at a profile that can
tell, lets the test be made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from snt_core import frames, paper
from snt_core.edition import Result, select
from snt_core.errors import unknown
from snt_core.experiments import ARTEFACTS, LABELS
from snt_core.intervals import Interval, bootstrap
from snt_core.profiles import PUBLISHED
from snt_core.specs import root, run_id
from snt_core.store import Record, Store


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

    def public(self) -> dict[str, Any]:
        """The keys that scripts may rely on."""
        keys = ("id", "verdict", "profile", "effect", "low", "high", "n", "chapter")
        return {key: value for key, value in asdict(self).items() if key in keys}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Outcome of a claim's test: do all signs hold, by how much, in words.

    `gaps` are the differences that must be above zero, `effect` the one that is shown.
    """

    holds: bool
    effect: Interval
    gaps: Sequence[Interval]
    unit: str
    text: str


def judge(claim: str, result: Result) -> Verdict:
    """Verdict on `claim` from the records of one artefact. Smoke records never give one."""
    if claim not in JUDGES:
        raise unknown("claim with a test", claim, JUDGES)
    case = JUDGES[claim]
    own = {run_id(s) for s in ARTEFACTS[case.artefact](result.profile, result.seeds)}
    read = [r for r in result.records if r.id in own and root(r.spec).approach in case.approaches]
    if trouble := _trouble(case, read):
        return replace(_blank(claim), profile=result.profile.name, text=trouble)
    finding = case.test(read)
    return Verdict(
        id=claim,
        verdict=_decide(finding) if result.profile.verdicts else "not run",
        profile=result.profile.name,
        effect=finding.effect.mean,
        low=finding.effect.low,
        high=finding.effect.high,
        n=finding.effect.seeds,
        chapter=case.artefact,
        unit=finding.unit,
        text=finding.text,
    )


def _trouble(case: Case, records: Sequence[Record]) -> str:
    """Why the test cannot be made from these records; empty if it can."""
    kinds = {(root(r.spec).approach, r.spec.kind) for r in records}
    if lacking := [a for a in case.approaches for k in case.kinds if (a, k) not in kinds]:
        return f"the runs that the claim speaks of are not here ({_names(lacking)})"
    if lost := [root(r.spec).approach for r in records if r.status != "done"]:
        return f"{_names(lost)} diverged, so the test cannot be made"
    sharp = [r for r in records if r.spec.kind == "lambda_max" and not r.metrics["converged"]]
    if sharp:
        return f"lambda_max of {_names([root(r.spec).approach for r in sharp])} did not converge"
    return ""


def _names(approaches: Sequence[str]) -> str:
    return ", ".join(LABELS[a] for a in dict.fromkeys(approaches))


def _decide(finding: Finding) -> str:
    if not finding.holds:
        return "not"
    return "reproduced" if all(gap.is_positive for gap in finding.gaps) else "partly"


def scoreboard(store: Store) -> list[Verdict]:
    """One verdict for each of the paper's claims, from the records that are in `store`."""
    return [_published(claim, store) for claim in paper.claims()]


def _published(claim: str, store: Store) -> Verdict:
    if claim not in JUDGES:
        return _blank(claim)
    artefact = JUDGES[claim].artefact
    chosen = select(artefact, PUBLISHED, (), store)
    if not chosen.profile.verdicts:
        return _blank(claim)
    records = [record for spec in chosen.specs if (record := store.get(spec))]
    return judge(claim, Result(artefact, chosen.profile, chosen.seeds, records))


def _blank(claim: str) -> Verdict:
    return Verdict(
        id=claim,
        verdict="not run",
        profile=None,
        effect=None,
        low=None,
        high=None,
        n=0,
        chapter=JUDGES[claim].artefact if claim in JUDGES else None,
    )


# tests of the claims -------------------------------------------------------------------------


def _mean(frame: pd.DataFrame, column: str) -> dict[str, float]:
    return frame.groupby("approach")[column].mean().to_dict()


def _gap(frame: pd.DataFrame, better: str, worse: str, column: str = "correct") -> Interval:
    """Mean of `column` (per test image) of one approach above another's, in points."""
    by = frame.set_index(["approach", "seed"])[column]
    seeds = sorted(set(by[better].index) & set(by[worse].index))
    return bootstrap(
        [100 * (by[better, s].astype(float) - by[worse, s].astype(float)) for s in seeds]
    )


def _rises(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _chain(means: dict[str, float], order: Sequence[str], digits: int) -> str:
    return ", ".join(f"{LABELS[a]} {means[a]:.{digits}f}" for a in order)


def _w4(records: Sequence[Record]) -> pd.DataFrame:
    frame = frames.quantized(records)
    return frame[(frame.weight_bits == 4) & ~frame.per_channel]


def _orders(records: Sequence[Record], order: Sequence[str]) -> Finding:
    """lambda_max falls and W4 top-1 rises along `order`; the effect is ARCH above ADAM."""
    w4 = _w4(records)
    curvature = _mean(frames.sharpness(records), "lambda_max")
    top1 = _mean(w4, "after")
    falls = _rises([-curvature[a] for a in order])
    rises = _rises([top1[a] for a in order])
    text = (
        f"lambda_max {'falls' if falls else 'does not fall'} along {_chain(curvature, order, 1)}; "
        f"W4 top-1 {'rises' if rises else 'does not rise'} along {_chain(top1, order, 2)}"
    )
    return Finding(
        holds=falls and rises,
        effect=_gap(w4, "arch", "adam"),
        gaps=[_gap(w4, better, worse) for worse, better in pairwise(order)],
        unit="points of W4 top-1, ARCH above ADAM",
        text=text,
    )


def ablation(records: Sequence[Record]) -> Finding:
    """Table 4: each step of the transformation lowers lambda_max and raises W4 top-1."""
    return _orders(records, ("adam", "preact", "arch"))


def ptq_resnet20(records: Sequence[Record]) -> Finding:
    """Table 3: ADAM, ARCH, SAM in falling lambda_max and rising W4 top-1."""
    return _orders(records, ("adam", "arch", "sam"))


def one_shot(records: Sequence[Record]) -> Finding:
    """Figure 5: SAM's mean drop is the smallest; ARCH's is under base's at 60-90 %."""
    frame = frames.sweeps(records)
    low, high = frame[frame.sparsity.between(0.05, 0.95)], frame[frame.sparsity.between(0.55, 0.95)]
    mean, far = _mean(low, "drop"), _mean(high, "drop")
    each = high.pivot_table(index="sparsity", columns="approach", values="drop")
    best = mean["sam"] < min(mean["adam"], mean["arch"])
    keeps = bool((each["arch"] < each["adam"]).all())
    drops, far_drops = _image_drops(frame, low), _image_drops(frame, high)
    text = (
        f"mean drop over 10-90 %: {_chain(mean, ('adam', 'sam', 'arch'), 2)} points, SAM's is "
        f"{'' if best else 'not '}the smallest; at 60-90 % ARCH {far['arch']:.2f} against ADAM "
        f"{far['adam']:.2f}, {'under it' if keeps else 'not under it'} at every sparsity"
    )
    effect = _gap(drops, "adam", "sam", "drop")
    return Finding(
        holds=best and keeps,
        effect=effect,
        gaps=[
            effect,
            _gap(drops, "arch", "sam", "drop"),
            _gap(far_drops, "adam", "arch", "drop"),
        ],
        unit="points of mean drop, ADAM above SAM",
        text=text,
    )


def _image_drops(frame: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    """A row per net: for each test image the mean over `pruned` of dense minus pruned."""
    keys = ["approach", "seed"]
    dense = frame[frame.sparsity == 0].set_index(keys).correct
    means = pruned.groupby(keys).correct.agg(
        lambda c: np.mean([x.astype(float) for x in c], axis=0)
    )
    return (dense.map(lambda c: c.astype(float)) - means).rename("drop").reset_index()


def ptq_curves(records: Sequence[Record]) -> Finding:
    """Figure 6: equal speed (steps to 95 % of the gain within 25 %); SAM ends highest."""
    speed = frames.curves(records).groupby(["approach", "seed"])
    speed = speed.apply(_steps_to_95, include_groups=False).rename("steps").reset_index()
    steps, w4 = _mean(speed, "steps"), _w4(records)
    end = _mean(w4, "after")
    same = max(steps.values()) <= 1.25 * min(steps.values())  # false with NaN: nothing was gained
    first = end["sam"] > max(end["adam"], end["arch"])
    order = ("adam", "sam", "arch")
    text = (
        f"steps to 95 % of the gain: {_chain(steps, order, 0)}, "
        f"{'within' if same else 'not within'} 25 % of one another; W4 top-1 at the end: "
        f"{_chain(end, order, 2)}, SAM's is {'' if first else 'not '}the highest"
    )
    gaps = [_gap(w4, "sam", rival) for rival in ("adam", "arch")]
    return Finding(
        holds=same and first,
        effect=min(gaps, key=lambda gap: gap.mean),
        gaps=gaps,
        unit="points of W4 top-1, SAM above the better of the others",
        text=text,
    )


def _steps_to_95(curve: pd.DataFrame) -> float:
    """Step at which 95 % of the gain from start to end is reached, between readings by a line.

    NaN where the curve gains nothing, since there is no speed of that.
    """
    curve = curve.sort_values("step")
    step, top1 = curve.step.to_numpy(float), curve.val_top1.to_numpy(float)
    if top1[-1] <= top1[0]:
        return float("nan")
    goal = top1[0] + 0.95 * (top1[-1] - top1[0])
    i = int(np.argmax(top1 >= goal))
    return float(np.interp(goal, top1[i - 1 : i + 1], step[i - 1 : i + 1]))


@dataclass(frozen=True)
class Case:
    """A claim's test, with the artefact, approaches and kinds of run that it reads."""

    artefact: str
    test: Callable[[Sequence[Record]], Finding]
    approaches: tuple[str, ...]
    kinds: tuple[str, ...]


JUDGES = {
    "ptq-resnet20": Case("table3", ptq_resnet20, ("adam", "sam", "arch"), ("lambda_max", "ptq")),
    "one-shot": Case("figure5", one_shot, ("adam", "sam", "arch"), ("one_shot",)),
    "ptq-curves": Case("figure6", ptq_curves, ("adam", "sam", "arch"), ("ptq",)),
    "ablation": Case("table4", ablation, ("adam", "preact", "arch"), ("lambda_max", "ptq")),
}
