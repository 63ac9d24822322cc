"""Table 3, quantization after training.

ResNet-20: 4 and 8 bit weights, per tensor and per channel. Mixer-S and MobileNet-V1: static 8/8,
as the table prints, and 4-bit weights, as the text says. Beside them what a referee would ask: the
same nets rounded without training, the float nets under the same fine-tuning, and measures of
sharpness that the proxy chapter compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper import numbers, quantized
from snt_core.paper.evidence import Claim, Finding, backbones, by_approach, chain, frame, gap, rises
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import (
    BACKBONES,
    THREE,
    control,
    lambda_max,
    ptq,
    sharpness,
    static,
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
            specs += [RoundingSpec(parent=net), control(profile, net), *sharpness(profile, net)]
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


def figure(table: pd.DataFrame) -> Figure:
    """Draw lambda_max and quantized top-1 of one backbone beside the paper's."""
    what = "W4" if table.kind.iloc[0] == "ptq" else "8/8"
    return quantized.figure(table, theirs(table), ORDER, what=what)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of `figure`."""
    return quantized.comparison(table, theirs(table), COLUMNS, ORDER)


def ptq_resnet20(records: Sequence[Record]) -> Finding:
    """Test that ADAM, ARCH, SAM are in falling lambda_max and rising W4 top-1."""
    return quantized.ordered(records, ORDER, "ptq")


def ptq_mobilenet(records: Sequence[Record]) -> Finding:
    """Test that ADAM, ARCH, SAM are in falling lambda_max and rising 8/8 top-1."""
    return quantized.ordered(records, ORDER, "static")


def ptq_mixer(records: Sequence[Record]) -> Finding:
    """Test that lambda_max falls from ADAM over ARCH to SAM; 8/8 top-1 within a point."""
    rows = quantized.per_tensor(records, "static")
    curvature = by_approach(frame(records, "lambda_max"), "lambda_max")
    falling = rises([-curvature[a] for a in ORDER])
    spread, inside = quantized.nearness(rows)
    return Finding(
        holds=falling and spread <= quantized.POINT,
        effect=gap(rows, "arch", "adam"),
        gaps=inside,
        unit="points of 8/8 top-1, ARCH above ADAM",
        text=(
            f"lambda_max {'falls' if falling else 'does not fall'} along "
            f"{chain(curvature, ORDER, 1)}; 8/8 top-1 "
            f"{chain(by_approach(rows, 'after'), ORDER, 2)}, {spread:.2f} points apart at most"
        ),
    )


CLAIMS = {
    "ptq-resnet20": Claim(
        test=ptq_resnet20,
        approaches=ORDER,
        kinds=("lambda_max", "ptq"),
        parts=backbones("resnet20"),
    ),
    "ptq-mixer": Claim(
        test=ptq_mixer,
        approaches=ORDER,
        kinds=("lambda_max", "static"),
        parts=backbones("mixer_s"),
    ),
    "ptq-mobilenet": Claim(
        test=ptq_mobilenet,
        approaches=ORDER,
        kinds=("lambda_max", "static"),
        parts=backbones("mobilenet_v1"),
    ),
}
