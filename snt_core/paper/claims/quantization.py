"""Tests of the claims about quantization: Tables 3 and 4, Figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from snt_core.paper import frames
from snt_core.paper.claims.findings import Finding, chain, gap, means, rises
from snt_core.runs.store import Record

POINT = 1.0  # "within 1 point of one another"


def _net(records: Sequence[Record], kind: str) -> pd.DataFrame:
    """The quantized nets that a claim speaks of: of one kind; W4 per tensor where it is ptq."""
    frame = frames.quantized(records)
    frame = frame[(frame.kind == kind) & ~frame.per_channel.astype(bool)]
    return frame[frame.weight_bits == 4] if kind == "ptq" else frame


def _orders(records: Sequence[Record], order: Sequence[str], kind: str) -> Finding:
    """lambda_max falls and quantized top-1 rises along `order`; the effect is ARCH above ADAM."""
    nets = _net(records, kind)
    curvature = means(frames.sharpness(records), "lambda_max")
    top1 = means(nets, "after")
    falling = rises([-curvature[a] for a in order])
    rising = rises([top1[a] for a in order])
    return Finding(
        holds=falling and rising,
        effect=gap(nets, "arch", "adam"),
        gaps=[gap(nets, better, worse) for worse, better in pairwise(order)],
        unit="points of quantized top-1, ARCH above ADAM",
        text=(
            f"lambda_max {'falls' if falling else 'does not fall'} along "
            f"{chain(curvature, order, 1)}; quantized top-1 "
            f"{'rises' if rising else 'does not rise'} along {chain(top1, order, 2)}"
        ),
    )


def ablation(records: Sequence[Record]) -> Finding:
    """Table 4: each step of the transformation lowers lambda_max and raises W4 top-1."""
    return _orders(records, ("adam", "preact", "arch"), "ptq")


def ptq_resnet20(records: Sequence[Record]) -> Finding:
    """Table 3: ADAM, ARCH, SAM in falling lambda_max and rising W4 top-1."""
    return _orders(records, ("adam", "arch", "sam"), "ptq")


def ptq_mobilenet(records: Sequence[Record]) -> Finding:
    """Table 3: ADAM, ARCH, SAM in falling lambda_max and rising 8/8 top-1."""
    return _orders(records, ("adam", "arch", "sam"), "static")


def _nearness(nets: pd.DataFrame) -> tuple[float, list]:
    """Largest distance between two approaches' means, and how far each pair is within a point."""
    top1 = means(nets, "after")
    pairs = [("arch", "adam"), ("sam", "adam"), ("sam", "arch")]
    inside = []
    for one, other in pairs:
        better, worse = (one, other) if top1[one] >= top1[other] else (other, one)
        inside.append((-gap(nets, better, worse)).above(-POINT))
    return max(top1.values()) - min(top1.values()), inside


def ptq_mixer(records: Sequence[Record]) -> Finding:
    """Table 3: lambda_max falls from ADAM over ARCH to SAM; 8/8 top-1 within a point."""
    nets, order = _net(records, "static"), ("adam", "arch", "sam")
    curvature, top1 = means(frames.sharpness(records), "lambda_max"), means(nets, "after")
    falling = rises([-curvature[a] for a in order])
    spread, inside = _nearness(nets)
    return Finding(
        holds=falling and spread <= POINT,
        effect=gap(nets, "arch", "adam"),
        gaps=inside,
        unit="points of 8/8 top-1, ARCH above ADAM",
        text=(
            f"lambda_max {'falls' if falling else 'does not fall'} along "
            f"{chain(curvature, order, 1)}; 8/8 top-1 {chain(top1, order, 2)}, {spread:.2f} "
            f"points apart at most"
        ),
    )


def qat_resnet18(records: Sequence[Record]) -> Finding:
    """Table 3: with QAT, ARCH has higher top-1 and lower lambda_max than ADAM."""
    nets, order = _net(records, "qat"), ("adam", "arch")
    curvature, top1 = means(frames.sharpness(records), "lambda_max"), means(nets, "after")
    effect = gap(nets, "arch", "adam")
    return Finding(
        holds=curvature["arch"] < curvature["adam"] and top1["arch"] > top1["adam"],
        effect=effect,
        gaps=[effect],
        unit="points of 4/4 top-1, ARCH above ADAM",
        text=f"lambda_max {chain(curvature, order, 1)}; 4/4 top-1 {chain(top1, order, 2)}",
    )


def qat_mixer(records: Sequence[Record]) -> Finding:
    """Table 3: with QAT the three are within a point, SAM first."""
    nets, order = _net(records, "qat"), ("adam", "arch", "sam")
    top1 = means(nets, "after")
    spread, inside = _nearness(nets)
    lead = [gap(nets, "sam", rival) for rival in ("adam", "arch")]
    first = top1["sam"] > max(top1["adam"], top1["arch"])
    return Finding(
        holds=spread <= POINT and first,
        effect=min(lead, key=lambda found: found.mean),
        gaps=[*inside, *lead],
        unit="points of 4/4 top-1, SAM above the better of the others",
        text=(
            f"4/4 top-1 {chain(top1, order, 2)}, {spread:.2f} points apart at most, SAM is "
            f"{'' if first else 'not '}first"
        ),
    )


def qat_mobilenet(records: Sequence[Record]) -> Finding:
    """Table 3: with QAT, ARCH >= SAM > ADAM in top-1, and ARCH's lambda_max is under SAM's."""
    nets, order = _net(records, "qat"), ("adam", "sam", "arch")
    curvature, top1 = means(frames.sharpness(records), "lambda_max"), means(nets, "after")
    ordered = top1["arch"] >= top1["sam"] > top1["adam"]
    flatter = curvature["arch"] < curvature["sam"]
    return Finding(
        holds=ordered and flatter,
        effect=gap(nets, "arch", "adam"),
        gaps=[gap(nets, "arch", "adam"), gap(nets, "sam", "adam")],
        unit="points of 4/4 top-1, ARCH above ADAM",
        text=(
            f"4/4 top-1 {chain(top1, order, 2)}, {'in' if ordered else 'not in'} the paper's "
            f"order; lambda_max {chain(curvature, order, 1)}, ARCH's is "
            f"{'' if flatter else 'not '}under SAM's"
        ),
    )


def ptq_curves(records: Sequence[Record]) -> Finding:
    """Figure 6: equal speed (steps to 95 % of the gain within 25 %); SAM ends highest."""
    speed = frames.curves(records).groupby(["approach", "seed"])
    speed = speed.apply(_steps_to_95, include_groups=False).rename("steps").reset_index()
    steps, nets = means(speed, "steps"), _net(records, "ptq")
    end = means(nets, "after")
    gained = bool(speed.steps.notna().all())  # without a gain there is no speed
    same = gained and max(steps.values()) <= 1.25 * min(steps.values())
    first = end["sam"] > max(end["adam"], end["arch"])
    order = ("adam", "sam", "arch")
    lead = [gap(nets, "sam", rival) for rival in ("adam", "arch")]
    return Finding(
        holds=same and first,
        effect=min(lead, key=lambda found: found.mean),
        gaps=lead,
        unit="points of W4 top-1, SAM above the better of the others",
        text=(
            f"steps to 95 % of the gain: {chain(steps, order, 0)}, "
            f"{'within' if same else 'not within'} 25 % of one another; W4 top-1 at the end: "
            f"{chain(end, order, 2)}, SAM's is {'' if first else 'not '}the highest"
        ),
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
