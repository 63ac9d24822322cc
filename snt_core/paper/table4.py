"""Table 4: pre-activation alone, then Eq. (1) too, after static weight quantization."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from snt_core.paper import numbers, quantized
from snt_core.paper.effects import higher, sharper
from snt_core.paper.evidence import Assertion, of
from snt_core.paper.looks import or_absent
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import THREE, lambda_max, ptq, training
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "preact", "arch", "sam")


def runs(profile: Profile, seeds: Iterable[int], *, weight_bits: int = 4) -> list[Spec]:
    """Return the four nets with lambda_max and weight quantization.

    SAM's net is run as well, as the reference that Table 3 gives for the same numbers.
    """
    specs: list[Spec] = []
    for seed in seeds:
        for approach in (*THREE, "preact"):
            net = training(profile, "cifar100", approach, seed)
            specs += [net, lambda_max(profile, net), ptq(profile, net, weight_bits, False)]
    return specs


def table(records: Iterable[Record], *, weight_bits: int = 4) -> pd.DataFrame:
    """Return a row per net: lambda_max, and top-1 after weight quantization."""
    return quantized.nets(records, weight_bits=weight_bits)


def theirs() -> pd.DataFrame:
    """Return the paper's Table 4, and SAM's values from Table 3."""
    sam = numbers.table3("PTQ", "ResNet-20")[["lambda_max", "top1"]]
    return sam.combine_first(numbers.table4())


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw lambda_max and quantized top-1 of the four nets beside the paper's."""
    what = f"W{table.weight_bits.iloc[0]}"
    return quantized.figure(table, theirs(), ORDER, what=what)


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of `figure`."""
    if table.empty:
        return table
    what = f"W{table.weight_bits.iloc[0]} top-1 (%)"
    columns = {"lambda_max": "lambda_max", "top1": what}
    return quantized.comparison(table, theirs(), columns, ORDER)


STEPS = (("adam", "preact"), ("preact", "arch"))
CLAIMS = {
    "ablation": {
        **{
            f"lambda-{after}": Assertion(
                effect=sharper(before, after),
                reads=of("lambda_max"),
                approaches=(before, after),
                log=True,
            )
            for before, after in STEPS
        },
        **{
            f"top1-{after}": Assertion(
                effect=higher(after, before), reads=of("ptq"), approaches=(before, after)
            )
            for before, after in STEPS
        },
    }
}
