"""Figure 1: principal components of a transformer's weights, ADAM against SAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from snt_core.paper.evidence import Claim, Finding, chain, frame, paired
from snt_core.paper.looks import canvas, lines
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import training
from snt_core.paper.statistics import over_seeds
from snt_core.runs.kinds.pca import SHARE, PCASpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ORDER = ("adam", "sam")
TITLES = {"ffn": "feed-forward", "qkv": "query, key, value"}
LEAD = 0.10  # what SAM's feed-forward weights must explain more


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


def figure(table: pd.DataFrame) -> Figure:
    """Draw cumulative explained variance over the share of components, FFN and QKV."""
    figure = canvas(9, 3.8)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (part, title) in zip(axes, TITLES.items(), strict=True):
        lines(ax, table[table.part == part], "components", "explained", mark=False)
        ax.axvline(SHARE, color="0.5", lw=0.8, ls=":")
        ax.set(title=title, xlabel="components / width", ylabel="explained variance", ylim=(0, 1))
        ax.label_outer()
    return figure


def pca(records: Sequence[Record]) -> Finding:
    """Test that at 26 % of the width SAM's FFN explains 0.10 more; QKV at least as much as FFN."""
    rows = ranks(records)
    rows = rows[rows.approach.isin(ORDER)]  # without the nets before training
    ffn, qkv = (paired(rows[rows.part == part], "explained") for part in ("ffn", "qkv"))
    lead = (ffn["sam"] - ffn["adam"]).to_numpy()
    lower = bool((qkv >= ffn).all(axis=None))
    return Finding(
        holds=bool((lead >= LEAD).all()) and lower,
        effect=over_seeds(lead),
        gaps=[],
        unit="of the variance of FFN weights, SAM above ADAM",
        text=(
            f"explained at 26 % of the width: FFN {chain(ffn.mean().to_dict(), ORDER, 3)}, QKV "
            f"{chain(qkv.mean().to_dict(), ORDER, 3)}; QKV is {'' if lower else 'not '}at least "
            f"FFN for each"
        ),
    )


CLAIMS = {"pca": Claim(test=pca, approaches=ORDER, kinds=("pca",))}
