"""The paper's claims put to the test: records -> verdicts.

"reproduced": the claim's test holds, its interval excludes zero and at least two seeds were run;
"partly": every sign holds, but with one seed or an interval that includes zero;
"not": a sign fails; "not run": no record exists at a profile that can tell.
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
from snt_core.intervals import Interval, bootstrap
from snt_core.profiles import PUBLISHED
from snt_core.specs import root
from snt_core.store import Record, Store

NAMES = {"adam": "ADAM", "sam": "SAM", "arch": "ARCH", "preact": "+Preact"}


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


@dataclass(frozen=True)
class Finding:
    """Outcome of a claim's test: do all signs hold, by how much, in words."""

    holds: bool
    effect: Interval
    unit: str
    text: str


def judge(claim: str, result: Result) -> Verdict:
    """Verdict on `claim` from the records of one artefact. Smoke records never give one."""
    if claim not in JUDGES:
        raise unknown("claim with a test", claim, JUDGES)
    chapter, test = JUDGES[claim]
    lost = sorted({root(r.spec).approach for r in result.records if r.status != "done"})
    if lost:
        text = f"{', '.join(NAMES[a] for a in lost)} diverged, so the test cannot be made"
        return replace(_blank(claim), profile=result.profile.name, text=text)
    finding = test(result.records)
    decided = _decide(finding) if result.profile.verdicts else "not run"
    return Verdict(
        id=claim,
        verdict=decided,
        profile=result.profile.name,
        effect=finding.effect.mean,
        low=finding.effect.low,
        high=finding.effect.high,
        n=finding.effect.seeds,
        chapter=chapter,
        unit=finding.unit,
        text=finding.text,
    )


def _decide(finding: Finding) -> str:
    if not finding.holds:
        return "not"
    sure = finding.effect.seeds > 1 and finding.effect.excludes_zero
    return "reproduced" if sure else "partly"


def scoreboard(store: Store) -> list[Verdict]:
    """One verdict for each of the paper's claims, from the records that are in `store`."""
    return [_published(claim, store) for claim in paper.claims()]


def _published(claim: str, store: Store) -> Verdict:
    if claim not in JUDGES:
        return _blank(claim)
    artefact = JUDGES[claim][0]
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
        chapter=JUDGES[claim][0] if claim in JUDGES else None,
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
    return ", ".join(f"{NAMES[a]} {means[a]:.{digits}f}" for a in order)


def _w4(records: Sequence[Record], weight_bits: int = 4) -> pd.DataFrame:
    frame = frames.quantized(records)
    return frame[(frame.weight_bits == weight_bits) & ~frame.per_channel]


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
    return Finding(falls and rises, _gap(w4, "arch", "adam"), "points of W4 top-1", text)


def ablation(records: Sequence[Record]) -> Finding:
    """Table 4: each step of the transformation lowers lambda_max and raises W4 top-1."""
    return _orders(records, ("adam", "preact", "arch"))


def ptq_resnet20(records: Sequence[Record]) -> Finding:
    """Table 3: ADAM, ARCH, SAM in falling lambda_max and rising W4 top-1."""
    return _orders(records, ("adam", "arch", "sam"))


def one_shot(records: Sequence[Record]) -> Finding:
    """Figure 5: SAM's mean drop is the smallest; ARCH's is under base's at 60-90 %."""
    frame = frames.sweeps(records)
    pruned = frame[frame.sparsity > 0]
    mean = _mean(pruned, "drop")
    high = _mean(pruned[pruned.sparsity.between(0.595, 0.905)], "drop")
    drops = _image_drops(frame)
    best = mean["sam"] < min(mean["adam"], mean["arch"])
    each = pruned[pruned.sparsity.between(0.595, 0.905)].pivot_table(
        index="sparsity", columns="approach", values="drop"
    )
    keeps = bool((each["arch"] < each["adam"]).all())
    text = (
        f"mean drop over 10-90 %: {_chain(mean, ('adam', 'sam', 'arch'), 2)} points, SAM's is "
        f"{'' if best else 'not '}the smallest; at 60-90 % ARCH {high['arch']:.2f} against ADAM "
        f"{high['adam']:.2f}, {'under it' if keeps else 'not under it'} at every sparsity"
    )
    return Finding(best and keeps, _gap(drops, "adam", "sam", "drop"), "points of mean drop", text)


def _image_drops(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per net: for each test image the mean over sparsities of dense minus pruned."""
    rows = []
    for (approach, seed), net in frame.groupby(["approach", "seed"]):
        dense = net[net.sparsity == 0].correct.iloc[0].astype(float)
        pruned = np.mean([c.astype(float) for c in net[net.sparsity > 0].correct], axis=0)
        rows.append({"approach": approach, "seed": seed, "drop": dense - pruned})
    return pd.DataFrame(rows)


def ptq_curves(records: Sequence[Record]) -> Finding:
    """Figure 6: equal speed (steps to 95 % of the gain within 25 %); SAM ends highest."""
    frame = frames.curves(records)
    frame = frame[(frame.weight_bits == 4) & ~frame.per_channel]
    steps = _mean(
        frame.groupby(["approach", "seed"])
        .apply(_steps_to_95, include_groups=False)
        .rename("steps")
        .reset_index(),
        "steps",
    )
    w4 = _w4(records)
    end = _mean(w4, "after")
    same = max(steps.values()) <= 1.25 * min(steps.values())
    first = end["sam"] > max(end["adam"], end["arch"])
    order = ("adam", "sam", "arch")
    text = (
        f"steps to 95 % of the gain: {_chain(steps, order, 0)}, "
        f"{'within' if same else 'not within'} 25 % of one another; W4 top-1 at the end: "
        f"{_chain(end, order, 2)}, SAM's is {'' if first else 'not '}the highest"
    )
    rival = max(("adam", "arch"), key=end.__getitem__)
    return Finding(same and first, _gap(w4, "sam", rival), "points of W4 top-1", text)


def _steps_to_95(curve: pd.DataFrame) -> float:
    """First reading at which 95 % of the gain from start to end is there."""
    curve = curve.sort_values("step")
    start, end = curve.val_top1.iloc[0], curve.val_top1.iloc[-1]
    return float(curve.step[curve.val_top1 >= start + 0.95 * (end - start)].iloc[0])


# claim -> (artefact whose records it reads, its test)
JUDGES: dict[str, tuple[str, Callable[[Sequence[Record]], Finding]]] = {
    "ptq-resnet20": ("table3", ptq_resnet20),
    "one-shot": ("figure5", one_shot),
    "ptq-curves": ("figure6", ptq_curves),
    "ablation": ("table4", ablation),
}
