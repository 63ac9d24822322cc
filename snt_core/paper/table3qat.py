"""Table 3, quantization-aware training with 4-bit weights and activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper import numbers, quantized
from snt_core.paper.evidence import Claim, Finding, backbones, by_approach, chain, frame, gap
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import BACKBONES, THREE, lambda_max, retraining, training
from snt_core.runs.kinds.qat import QATSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DATA = {"resnet18": "imagenet", "mixer_s": "cifar10", "mobilenet_v1": "cifar10"}
ORDER = ("adam", "arch", "sam")
COLUMNS = {"lambda_max": "lambda_max", "top1": "4/4 top-1 (%)"}


def runs(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """Return the nets of each backbone, with lambda_max and quantization-aware training."""
    specs: list[Spec] = []
    for seed, model in product(seeds, all_or_one("backbone", backbone, DATA)):
        for approach in ("adam", "arch") if model == "resnet18" else THREE:
            net = training(profile, DATA[model], approach, seed, model)
            qat = QATSpec(
                parent=net,
                weight_bits=4,
                act_bits=4,
                n_calibration=profile.n_calibration,
                finetune=retraining(profile, net, profile.qat_epochs),
                seed=seed,
            )
            specs += [net, lambda_max(profile, net), qat]
    return specs


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net: lambda_max, and top-1 after quantization-aware training."""
    return quantized.nets(records, kind="qat", weight_bits=4)


def theirs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's rows for the backbone of `table`."""
    return numbers.table3("QAT", BACKBONES[table.model.iloc[0]])


def figure(table: pd.DataFrame) -> Figure:
    """Draw lambda_max and 4/4 top-1 of one backbone beside the paper's."""
    return quantized.figure(table, theirs(table), ORDER, what="4/4")


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of `figure`."""
    return quantized.comparison(table, theirs(table), COLUMNS, ORDER)


def qat_resnet18(records: Sequence[Record]) -> Finding:
    """Test that ARCH has higher top-1 and lower lambda_max than ADAM."""
    rows, order = quantized.per_tensor(records, "qat"), ("adam", "arch")
    curvature = by_approach(frame(records, "lambda_max"), "lambda_max")
    top1 = by_approach(rows, "after")
    effect = gap(rows, "arch", "adam")
    return Finding(
        holds=curvature["arch"] < curvature["adam"] and top1["arch"] > top1["adam"],
        effect=effect,
        gaps=[effect],
        unit="points of 4/4 top-1, ARCH above ADAM",
        text=f"lambda_max {chain(curvature, order, 1)}; 4/4 top-1 {chain(top1, order, 2)}",
    )


def qat_mixer(records: Sequence[Record]) -> Finding:
    """Test that the three are within a point, SAM first."""
    rows = quantized.per_tensor(records, "qat")
    top1 = by_approach(rows, "after")
    spread, inside = quantized.nearness(rows)
    lead = [gap(rows, "sam", rival) for rival in ("adam", "arch")]
    first = top1["sam"] > max(top1["adam"], top1["arch"])
    return Finding(
        holds=spread <= quantized.POINT and first,
        effect=min(lead, key=lambda found: found.mean),
        gaps=[*inside, *lead],
        unit="points of 4/4 top-1, SAM above the better of the others",
        text=(
            f"4/4 top-1 {chain(top1, ORDER, 2)}, {spread:.2f} points apart at most, SAM is "
            f"{'' if first else 'not '}first"
        ),
    )


def qat_mobilenet(records: Sequence[Record]) -> Finding:
    """Test that ARCH >= SAM > ADAM in top-1, and ARCH's lambda_max is under SAM's."""
    rows, order = quantized.per_tensor(records, "qat"), ("adam", "sam", "arch")
    curvature = by_approach(frame(records, "lambda_max"), "lambda_max")
    top1 = by_approach(rows, "after")
    in_order = top1["arch"] >= top1["sam"] > top1["adam"]
    flatter = curvature["arch"] < curvature["sam"]
    return Finding(
        holds=in_order and flatter,
        effect=gap(rows, "arch", "adam"),
        gaps=[gap(rows, "arch", "adam"), gap(rows, "sam", "adam")],
        unit="points of 4/4 top-1, ARCH above ADAM",
        text=(
            f"4/4 top-1 {chain(top1, order, 2)}, {'in' if in_order else 'not in'} the paper's "
            f"order; lambda_max {chain(curvature, order, 1)}, ARCH's is "
            f"{'' if flatter else 'not '}under SAM's"
        ),
    )


CLAIMS = {
    "qat-resnet18": Claim(
        test=qat_resnet18,
        approaches=("adam", "arch"),
        kinds=("lambda_max", "qat"),
        parts=backbones("resnet18"),
    ),
    "qat-mixer": Claim(
        test=qat_mixer,
        approaches=ORDER,
        kinds=("qat",),
        parts=backbones("mixer_s"),
    ),
    "qat-mobilenet": Claim(
        test=qat_mobilenet,
        approaches=ORDER,
        kinds=("lambda_max", "qat"),
        parts=backbones("mobilenet_v1"),
    ),
}
