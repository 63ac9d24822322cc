"""Figure 2: activation channels of a transformer, ADAM against SAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from snt_core.paper.evidence import Claim, Finding, frame
from snt_core.paper.looks import COLOURS, canvas
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import LABELS, training
from snt_core.paper.table2 import quotient
from snt_core.runs.kinds.channels import ChannelsSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "sam")
LEAST = 1.5  # times that ADAM's outliers must be SAM's


def runs(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Return both nets and the ranges of their channels."""
    nets = [
        training(profile, "imagenet", a, seed, "vit") for seed in seeds for a in ("sam", "adam")
    ]
    return [
        spec for net in nets for spec in (net, ChannelsSpec(parent=net, n_samples=profile.n_images))
    ]


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net: the largest widest-to-median ratio, and that block's channels."""
    return frame(records, "channels")


def figure(table: pd.DataFrame) -> Figure:
    """Draw the lowest and highest value of every channel, in the block with the widest one."""
    first = table.drop_duplicates("approach").set_index("approach")
    figure = canvas(9, 3.4)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, approach in zip(axes, ORDER, strict=True):
        if approach not in first.index:  # diverged
            continue
        row = first.loc[approach]
        at = np.arange(len(row.low))
        ax.vlines(at, row.low, row.high, color=COLOURS[approach], lw=max(0.4, 200 / len(at)))
        ax.set(title=f"{LABELS[approach]}, {row.block}", xlabel="channel", ylabel="range")
        ax.label_outer()
    return figure


def outliers(records: Sequence[Record]) -> Finding:
    """Test that the widest channel over the median one is 1.5 times as much in ADAM as in SAM."""
    return quotient(table(records), "ratio", LEAST, "widest over median channel")


CLAIMS = {"outliers": Claim(test=outliers, approaches=ORDER, kinds=("channels",))}
