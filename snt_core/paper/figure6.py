"""Figure 6: fine-tuning curves after weight-only quantization of ResNet-20, CIFAR-100."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from snt_core.paper.effects import higher, quotient
from snt_core.paper.evidence import Assertion, Untestable, frame, of
from snt_core.paper.looks import canvas, described, lines, or_absent, values
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import THREE, ptq, training
from snt_core.paper.statistics import Interval
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "sam", "arch")
ALIKE = 1.25  # the slowest over the fastest, where speeds count as the same


def runs(profile: Profile, seeds: Iterable[int], *, weight_bits: int = 4) -> list[Spec]:
    """Return the nets and their weight quantization."""
    nets = [training(profile, "cifar100", approach, seed) for seed in seeds for approach in THREE]
    return [spec for net in nets for spec in (net, ptq(profile, net, weight_bits, False))]


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per reading while fine-tuning: step, epoch, validation top-1 (percent)."""
    return frame(records, "ptq", table="curve")


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw validation top-1 while a quantized net is fine-tuned, over its one epoch."""
    figure = canvas(6.4, 3.8)
    ax = figure.subplots()
    lines(ax, table, "epoch", "val_top1")
    ax.set(xlabel="epochs of fine-tuning", ylabel="validation top-1 (%)")
    first, last = (table[table.step == end] for end in (table.step.min(), table.step.max()))
    return described(
        figure,
        "Line chart of validation top-1 over the epoch of fine-tuning, in percent. Right after "
        f"rounding: {values(first, 'val_top1')}; at the end: {values(last, 'val_top1')}.",
    )


def steps_to_95(curve: pd.DataFrame) -> float:
    """Return the step at which 95 % of the gain is reached, between readings by a line.

    NaN where the curve gains nothing, since there is no speed of that.
    """
    curve = curve.sort_values("step")
    step, top1 = curve.step.to_numpy(float), curve.val_top1.to_numpy(float)
    if top1[-1] <= top1[0]:
        return float("nan")
    goal = top1[0] + 0.95 * (top1[-1] - top1[0])
    i = int(np.argmax(top1 >= goal))
    return float(np.interp(goal, top1[i - 1 : i + 1], step[i - 1 : i + 1]))


def _speeds(records: Sequence[Record]) -> Interval:
    """The logarithm of the slowest approach's steps over the fastest's."""
    curves = table(records).groupby(["approach", "seed"])
    steps = curves.apply(steps_to_95, include_groups=False).rename("steps").reset_index()
    if steps.steps.isna().any():
        raise Untestable("a curve gains nothing, and there is no speed of that")
    mean = steps.groupby("approach").steps.mean()
    return quotient(steps, "steps", str(mean.idxmax()), str(mean.idxmin()))


CLAIMS = {
    "ptq-curves": {
        "speed": Assertion(
            effect=_speeds,
            reads=of("ptq"),
            approaches=ORDER,
            allowed=(-math.log(ALIKE), math.log(ALIKE)),
            log=True,
        ),
        **{
            f"end-{rival}": Assertion(
                effect=higher("sam", rival), reads=of("ptq"), approaches=("sam", rival)
            )
            for rival in ("adam", "arch")
        },
    }
}
