"""Figure 1: principal components of a transformer's weights, ADAM against SAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from snt_core.paper import numbers
from snt_core.paper.effects import Effect, difference
from snt_core.paper.evidence import Assertion, frame, of
from snt_core.paper.looks import COLOURS, PAPER, described, lines, or_absent, panels, values
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import training
from snt_core.paper.statistics import Interval, over_seeds
from snt_core.runs.kinds.pca import SHARE, PCASpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "sam")
TITLES = {"ffn": "feed-forward", "qkv": "query, key, value"}


def runs(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Return both nets and their components."""
    nets = [
        training(profile, "imagenet", a, seed, "vit") for seed in seeds for a in ("sam", "adam")
    ]
    return [spec for net in nets for spec in (net, PCASpec(parent=net))]


def ranks(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and part: explained variance at 26 % of the width, effective rank.

    The net before training is the approach `untrained`; it is all approaches' and stands once a
    seed.
    """
    import pandas as pd

    rows = frame(records, "pca")
    trained, untrained = (rows[rows.state == state] for state in ("trained", "untrained"))
    untrained = untrained.drop_duplicates(["seed", "part"]).assign(approach="untrained")
    return pd.concat([trained, untrained]).sort_index(kind="stable")


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net, part (ffn, qkv) and component: share of the width, explained."""
    rows = ranks(records)
    widths = rows.curve.map(len)
    rows = rows.assign(components=[np.arange(1, n + 1) / n for n in widths], explained=rows.curve)
    long = rows.drop(columns="curve").explode(["components", "explained"], ignore_index=True)
    return long.astype({"components": float, "explained": float})


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw cumulative explained variance over the share of components, FFN and QKV."""
    figure, axes = panels(2, sharey=True)
    theirs = numbers.figure1()
    for ax, (part, title) in zip(axes, TITLES.items(), strict=True):
        lines(ax, table[table.part == part], "components", "explained", mark=False)
        ax.axvline(SHARE, color="0.2", lw=0.8, ls=":")
        for row in theirs[theirs.part == part].itertuples():
            at = row.components / row.width
            ax.plot(at, row.explained, **{**PAPER, "color": COLOURS[row.approach]})
        ax.set(title=title, xlabel="components / width", ylabel="explained variance", ylim=(0, 1))
    axes[0].plot([], [], label="paper", **PAPER)
    axes[0].legend()
    read = table[(table.components - SHARE).abs() < 0.5 / table.components.nunique()]
    shares = (
        f"{title}: {values(read[read.part == part], 'explained')}" for part, title in TITLES.items()
    )
    return described(
        figure,
        f"Two line charts of explained variance over the share of components. At {SHARE:.0%} of "
        f"the width, {'; '.join(shares)}.",
    )


def _ffn_lead(records: Sequence[Record]) -> Interval:
    rows = ranks(records)
    return difference(rows[rows.part == "ffn"], "explained", "sam", "adam")


def _qkv_lead(approach: str) -> Effect:
    def effect(records: Sequence[Record]) -> Interval:
        rows = ranks(records)
        rows = rows[rows.approach == approach]
        by = rows.pivot_table(index="seed", columns="part", values="explained")
        return over_seeds((by["qkv"] - by["ffn"]).to_numpy())

    return effect


CLAIMS = {
    "pca": {
        "ffn": Assertion(effect=_ffn_lead, reads=of("pca"), approaches=ORDER),
        "qkv-sam": Assertion(effect=_qkv_lead("sam"), reads=of("pca"), approaches=("sam",)),
        "qkv-adam": Assertion(effect=_qkv_lead("adam"), reads=of("pca"), approaches=("adam",)),
    }
}
