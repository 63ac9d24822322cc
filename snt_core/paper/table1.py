"""Table 1: what a step of Adam, SAM and SNT costs, alternating on one machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from snt_core.common.checks import all_or_one
from snt_core.paper.effects import Effect
from snt_core.paper.evidence import Assertion, frame, of
from snt_core.paper.looks import COLOURS, MARKERS, canvas, described, key, or_absent, values
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import BACKBONES
from snt_core.paper.statistics import Interval, median
from snt_core.runs.kinds.step_time import StepTimeSpec, baseline
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DATA = {"resnet20": "cifar100", "mixer_s": "cifar10", "mobilenet_v1": "cifar100"}
CONTENDERS = {
    "adam": "ADAM",
    "sam": "SAM",
    "snt": "SNT",
    "adam_eager": "ADAM, plain operators",
    "snt_eager": "SNT, plain operators",
}
MOST, TWICE = 1.10, (1.7, 2.3)  # SNT's and SAM's step in steps of Adam: the limits of the test


def runs(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """Return the timings of each backbone."""
    return [
        StepTimeSpec(
            data=profile.data[DATA[model]],
            val_size=profile.val_size,
            model=model,
            variant="base",
            batch_size=profile.step_batch,
            rounds=profile.step_rounds,
            fused=profile.step_rounds >= 10,  # compiling is for long runs
            seed=seed,
        )
        for seed in seeds
        for model in all_or_one("backbone", backbone, DATA)
    ]


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per backbone and contender: seconds, the quotient to Adam's, memory."""
    return frame(records, "step_time")


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw the time of a step over Adam's, a group of marks per backbone."""
    figure = canvas(7, 3.6)
    ax = figure.subplots()
    models = list(dict.fromkeys(table.model))
    looks = {"adam": "adam", "sam": "sam", "snt": "arch", "snt_eager": "preact"}
    drawn = {name: label for name, label in CONTENDERS.items() if name in looks}
    named = table[table.contender.isin(drawn)].replace({"contender": CONTENDERS})
    for k, (contender, label) in enumerate(drawn.items()):
        rows = table[table.contender == contender]
        at = [models.index(model) + 0.16 * (k - 1.5) for model in rows.model]
        look = looks[contender]
        ax.plot(at, rows.ratio, MARKERS[look], color=COLOURS[look], ms=8, label=label)
    for limit in (MOST, *TWICE):
        ax.axhline(limit, color="0.5", lw=0.8, ls=":")
    ax.set_xticks(range(len(models)), [BACKBONES[model] for model in models])
    ax.set(ylabel="time of a step / Adam's", ylim=(0, None))
    key(figure, ax)
    each = (
        f"{BACKBONES[model]}: {values(named[named.model == model], 'ratio', by='contender')}"
        for model in models
    )
    return described(figure, f"Dot plot of the time of a step in steps of Adam. {'. '.join(each)}.")


def step_ratio(contender: str, column: str = "rounds") -> Effect:
    """Return a contender's step in steps of Adam: time by rounds in pairs, or memory.

    A machine that slows down slows the contenders of a round alike, so quotients are taken round by
    round; the interval is a bootstrap of their median. So it is for memory, process by process.
    """

    def effect(records: Sequence[Record]) -> Interval:
        name, rows = contender, table(records).set_index(["contender", "seed"])
        measured = set(rows.index.get_level_values("contender"))
        if name not in measured:  # without kernels all is plain, and so measured once
            name = name.removesuffix("_eager")
        adam = baseline(name, measured)
        seeds = sorted(rows.loc[adam].index)
        pairs = [np.divide(rows.loc[(name, s), column], rows.loc[(adam, s), column]) for s in seeds]
        return median(np.concatenate(pairs), len(seeds))

    return effect


def _assertions(model: str) -> dict[str, Assertion]:
    part = {"backbone": model}
    asks: dict[str, Any] = {"reads": of("step_time"), "part": part, "trained": False}
    return {
        f"step-{model}": Assertion(effect=step_ratio("snt"), allowed=(0, MOST), **asks),
        f"plain-{model}": Assertion(effect=step_ratio("snt_eager"), allowed=(0, MOST), **asks),
        f"sam-{model}": Assertion(effect=step_ratio("sam"), allowed=TWICE, **asks),
        f"memory-{model}": Assertion(
            effect=step_ratio("snt", "processes"), allowed=(0, MOST), **asks
        ),
    }


CLAIMS = {"overhead": {k: v for model in DATA for k, v in _assertions(model).items()}}
