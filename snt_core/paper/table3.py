"""Table 3, quantization after training.

ResNet-20: 4 and 8 bit weights, per tensor and per channel. Mixer-S and MobileNet-V1: static 8/8,
as the table prints, and 4-bit weights, as the text says. Beside them what a referee would ask: the
same nets rounded without training, the float nets under the same fine-tuning, and measures of
sharpness that the proxy chapter compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper import numbers, quantized
from snt_core.paper.effects import higher, loses_more, sharper, widest
from snt_core.paper.evidence import Assertion, Reads, either, frame, means, of
from snt_core.paper.looks import described, lines, or_absent, panels, values
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import (
    BACKBONES,
    THREE,
    lambda_max,
    ptq,
    sharpness,
    static,
    trained_on,
    training,
)
from snt_core.runs.kinds.rounding import RoundingSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DATA = {"resnet20": "cifar100", "mixer_s": "cifar10", "mobilenet_v1": "cifar100"}
ORDER = ("adam", "arch", "sam")
COLUMNS = {"lambda_max": "lambda_max", "top1": "quantized top-1 (%)"}


def runs(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """Return the nets of each backbone, with lambda_max and their quantizations."""
    specs: list[Spec] = []
    for seed, model in product(seeds, all_or_one("backbone", backbone, DATA)):
        for approach in THREE:
            net = training(profile, DATA[model], approach, seed, model)
            specs += [net, lambda_max(profile, net)]
            specs += [RoundingSpec(parent=net), trained_on(profile, net), *sharpness(profile, net)]
            if model == "resnet20":
                specs += [ptq(profile, net, b, c) for b in (4, 8) for c in (False, True)]
            else:
                specs += [static(profile, net, 8, finetune=True), ptq(profile, net, 4, False)]
    return specs


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net of one backbone, quantized as the paper's table prints it."""
    records = list(records)
    if any(record.spec.kind == "static" for record in records):
        return quantized.nets(records, kind="static", weight_bits=8)
    return quantized.nets(records, kind="ptq", weight_bits=4)


def theirs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's rows for the backbone of `table`."""
    return numbers.table3("PTQ", BACKBONES[table.model.iloc[0]])


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw lambda_max and quantized top-1 of one backbone beside the paper's."""
    what = "W4" if table.kind.iloc[0] == "ptq" else "8/8"
    return quantized.figure(table, theirs(table), ORDER, what=what)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of `figure`."""
    if table.empty:
        return table
    return quantized.comparison(table, theirs(table), COLUMNS, ORDER)


def rounding(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net, bit width and granularity: points lost by rounding alone."""
    return frame(records, "rounding")


@or_absent
def rounding_figure(rounding: pd.DataFrame) -> Figure:
    """Draw what rounding alone costs over the bit width, with one scale a tensor and a channel."""
    titles = {False: "one scale a tensor", True: "one scale a channel"}
    figure, axes = panels(2, height=3.6, sharey=True)
    for ax, (per_channel, title) in zip(axes, titles.items(), strict=True):
        lines(ax, rounding[rounding.per_channel == per_channel], "weight_bits", "drop")
        ax.set(title=title, xlabel="bits of a weight", ylabel="points lost by rounding")
        ax.set_xticks(sorted(set(rounding.weight_bits)))
    four = rounding[rounding.weight_bits == 4]
    lost = (f"{t}: {values(four[four.per_channel == c], 'drop')}" for c, t in titles.items())
    return described(
        figure,
        f"Two line charts of points lost by rounding, over the bits of a weight. At 4 bits, "
        f"{'; '.join(lost)}.",
    )


def control(records: Iterable[Record]) -> pd.DataFrame:
    """Return what the epoch of fine-tuning adds to the float nets, mean over seeds."""
    rows = means(frame(records, "control"), ["approach"], ["before", "after"])
    rows = rows.rename(columns={"before": "float", "after": "float, trained on"})
    return rows.assign(gain=rows["float, trained on"] - rows["float"])


# claims --------------------------------------------------------------------------------------


def _lambdas(part: dict[str, str]) -> dict[str, Assertion]:
    return {
        f"lambda-{less}": Assertion(
            effect=sharper(more, less),
            reads=of("lambda_max"),
            approaches=(more, less),
            part=part,
            log=True,
        )
        for more, less in (("adam", "arch"), ("arch", "sam"))
    }


def _rising(part: dict[str, str], reads: Reads) -> dict[str, Assertion]:
    return {
        f"top1-{better}": Assertion(
            effect=higher(better, worse), reads=reads, approaches=(better, worse), part=part
        )
        for worse, better in (("adam", "arch"), ("arch", "sam"))
    }


RESNET, MIXER, MOBILENET = ({"backbone": name} for name in DATA)
W4 = of("ptq", weight_bits=4, per_channel=False)  # as the text of section 5.2.1 says
CLAIMS = {
    "ptq-resnet20": {
        **_lambdas(RESNET),
        **_rising(RESNET, W4),
        **{
            f"loss-{less}": Assertion(
                effect=loses_more("adam", less),
                reads=either(W4, of("train")),
                approaches=("adam", less),
                part=RESNET,
            )
            for less in ("arch", "sam")
        },
    },
    "ptq-mixer": {
        **_lambdas(MIXER),
        "alike": Assertion(
            effect=widest(ORDER),
            reads=of("static"),
            approaches=ORDER,
            part=MIXER,
            allowed=(-quantized.POINT, quantized.POINT),
        ),
    },
    "ptq-mobilenet": {**_lambdas(MOBILENET), **_rising(MOBILENET, of("static"))},
}
