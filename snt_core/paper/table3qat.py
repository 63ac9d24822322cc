"""Table 3, quantization-aware training with 4-bit weights and activations."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper import numbers, quantized
from snt_core.paper.effects import higher, sharper, widest
from snt_core.paper.evidence import Assertion, of
from snt_core.paper.looks import or_absent
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import BACKBONES, THREE, lambda_max, qat, training
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
            specs += [net, lambda_max(profile, net), qat(profile, net)]
    return specs


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net: lambda_max, and top-1 after quantization-aware training."""
    return quantized.nets(records, kind="qat", weight_bits=4)


def theirs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's rows for the backbone of `table`."""
    return numbers.table3("QAT", BACKBONES[table.model.iloc[0]])


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw lambda_max and 4/4 top-1 of one backbone beside the paper's."""
    return quantized.figure(table, theirs(table), ORDER, what="4/4")


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of `figure`."""
    if table.empty:
        return table
    return quantized.comparison(table, theirs(table), COLUMNS, ORDER)


def _higher(better: str, worse: str, part: dict[str, str]) -> Assertion:
    return Assertion(
        effect=higher(better, worse), reads=of("qat"), approaches=(better, worse), part=part
    )


def _flatter(more: str, less: str, part: dict[str, str]) -> Assertion:
    return Assertion(
        effect=sharper(more, less),
        reads=of("lambda_max"),
        approaches=(more, less),
        part=part,
        log=True,
    )


RESNET, MIXER, MOBILENET = ({"backbone": name} for name in DATA)
CLAIMS = {
    "qat-resnet18": {
        "lambda-arch": _flatter("adam", "arch", RESNET),
        "top1-arch": _higher("arch", "adam", RESNET),
    },
    "qat-mixer": {
        "alike": Assertion(
            effect=widest(ORDER),
            reads=of("qat"),
            approaches=ORDER,
            part=MIXER,
            allowed=(-quantized.POINT, quantized.POINT),
        ),
        "top1-sam-adam": _higher("sam", "adam", MIXER),
        "top1-sam-arch": _higher("sam", "arch", MIXER),
    },
    "qat-mobilenet": {
        "top1-arch": _higher("arch", "adam", MOBILENET),
        "top1-sam": _higher("sam", "adam", MOBILENET),
        "top1-arch-sam": _higher("arch", "sam", MOBILENET),
        "lambda-arch": _flatter("sam", "arch", MOBILENET),
    },
}
