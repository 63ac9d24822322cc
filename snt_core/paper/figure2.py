"""Figure 2: activation channels of a transformer, ADAM against SAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from snt_core.paper import numbers
from snt_core.paper.effects import quotient
from snt_core.paper.evidence import Assertion, frame, of
from snt_core.paper.looks import COLOURS, PAPER, described, or_absent, panels, plain_symlog, values
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import LABELS, training
from snt_core.paper.statistics import Interval
from snt_core.runs.kinds.channels import ChannelsSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "sam")


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


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw the lowest and highest value of every channel, in the block with the widest one."""
    first = table.drop_duplicates("approach").set_index("approach")
    figure, axes = panels(2, height=3.4, sharey=True)
    theirs = numbers.figure2()
    for ax, approach in zip(axes, ORDER, strict=True):
        if approach not in first.index:  # diverged
            continue
        row = first.loc[approach]
        at = np.arange(len(row.low))
        ax.vlines(at, row.low, row.high, color=COLOURS[approach], lw=max(0.4, 200 / len(at)))
        ax.set(title=f"{LABELS[approach]}, {row.block}", xlabel="channel", ylabel="range")
        for end in theirs[theirs.approach == approach].itertuples():
            ax.plot([end.channel] * 2, [end.low, end.high], label="paper", **PAPER)
            ax.legend()
    plain_symlog(axes[0].yaxis, 10)  # the paper's outlier may be far beyond
    return described(
        figure,
        "Two plots of a bar per activation channel, from its lowest to its highest value. The "
        f"widest channel's range over the median one's: {values(table, 'ratio')}. The paper's "
        "widest channel of ADAM spans -60 to 60.",
    )


def _outliers(records: Sequence[Record]) -> Interval:
    return quotient(table(records), "ratio", "adam", "sam")


CLAIMS = {
    "outliers": {
        "ratio": Assertion(effect=_outliers, reads=of("channels"), approaches=ORDER, log=True)
    }
}
