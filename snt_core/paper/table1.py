"""Table 1: what a step of Adam, SAM and SNT costs, alternating on one machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper.evidence import Claim, Finding, backbones, frame
from snt_core.paper.looks import COLOURS, MARKERS, canvas
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import BACKBONES
from snt_core.paper.statistics import over_seeds
from snt_core.runs.kinds.step_time import StepTimeSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DATA = {"resnet20": "cifar100", "mixer_s": "cifar10", "mobilenet_v1": "cifar100"}
CONTENDERS = {"adam": "ADAM", "sam": "SAM", "snt": "SNT", "snt_eager": "SNT, eager"}
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


def figure(table: pd.DataFrame) -> Figure:
    """Draw the time of a step over Adam's, a group of marks per backbone."""
    figure = canvas(7, 3.6)
    ax = figure.subplots()
    models = list(dict.fromkeys(table.model))
    looks = {"adam": "adam", "sam": "sam", "snt": "arch", "snt_eager": "preact"}
    for k, (contender, label) in enumerate(CONTENDERS.items()):
        rows = table[table.contender == contender]
        at = [models.index(model) + 0.16 * (k - 1.5) for model in rows.model]
        look = looks[contender]
        ax.plot(at, rows.ratio, MARKERS[look], color=COLOURS[look], ms=8, label=label)
    for limit in (MOST, *TWICE):
        ax.axhline(limit, color="0.5", lw=0.8, ls=":")
    ax.set_xticks(range(len(models)), [BACKBONES[model] for model in models])
    ax.set(ylabel="time of a step / Adam's", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def overhead(records: Sequence[Record]) -> Finding:
    """Test that a step of SNT takes at most 1.10 of Adam's time, one of SAM 1.7 to 2.3."""
    times = table(records)
    ratio = times.pivot_table(index="seed", columns="contender", values="ratio")
    cheap, twice = bool((ratio["snt"] <= MOST).all()), bool(ratio["sam"].between(*TWICE).all())
    room = over_seeds(100 * (MOST - ratio["snt"].to_numpy()))
    # where no kernel can be compiled, SNT is eager and is not measured twice
    kernel = "a one-pass kernel" if "snt_eager" in ratio else "plain PyTorch operators"
    return Finding(
        holds=cheap and twice,
        effect=room,
        gaps=[room],
        unit="percent of Adam's step that SNT stays under 1.10 of it",
        text=(
            f"a step of SNT (Eq. (1) as {kernel}) takes {ratio['snt'].mean():.2f} of Adam's, one "
            f"of SAM {ratio['sam'].mean():.2f}"
        ),
    )


CLAIMS = {
    "overhead": Claim(
        test=overhead,
        approaches=("adam",),
        kinds=("step_time",),
        parts=backbones("resnet20", "mixer_s", "mobilenet_v1"),
    ),
}
