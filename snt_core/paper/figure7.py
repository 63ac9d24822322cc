"""Figure 7: one-shot pruning of ResNet-20 on CIFAR-10, with and without augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from snt_core.paper.effects import Effect, gap, image_drops
from snt_core.paper.evidence import Assertion, frame, means, of
from snt_core.paper.looks import described, lines, or_absent, panels, values
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import THREE, training
from snt_core.paper.statistics import Interval
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Net, Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def runs(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Return the nets of both trainings, each pruned once."""
    specs: list[Spec] = []
    for seed, approach in product(seeds, THREE):
        with_it = training(profile, "cifar10", approach, seed)
        assert isinstance(with_it, TrainSpec)
        without = replace(with_it, recipe=replace(with_it.recipe, augment="none"))
        specs += [spec for net in (with_it, without) for spec in (net, OneShotSpec(parent=net))]
    return specs


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and sparsity: test top-1, drop, and how the net was augmented."""
    return frame(records, "one_shot")


def at_half(table: pd.DataFrame) -> pd.DataFrame:
    """Return test top-1 dense and at half sparsity, and the drop; mean over seeds."""
    keys = ["augment", "approach"]
    dense, half = table[table.sparsity == 0], table[table.sparsity == 0.5]
    rows = means(dense, keys, ["top1"]).merge(
        means(half, keys, ["top1", "drop"]), on=keys, suffixes=(" dense", " at 50 %")
    )
    return rows.rename(columns={"drop": "drop at 50 %"})


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw the drop over sparsity for nets trained with crops and flips, and without."""
    titles = {"crop-flip": "with augmentation", "none": "without"}
    figure, axes = panels(2, sharey=True)
    for ax, (augment, title) in zip(axes, titles.items(), strict=True):
        lines(ax, table[table.augment == augment], "sparsity", "drop")
        ax.set(xlabel="sparsity", ylabel="drop from the dense net (points)", title=title)
    half = table[table.sparsity == 0.5]
    lost = (f"{t}: {values(half[half.augment == a], 'drop')}" for a, t in titles.items())
    return described(
        figure,
        f"Two line charts of points lost over sparsity, for training with and without "
        f"augmentation. At half sparsity, {'; '.join(lost)}.",
    )


def _dense_loss(approach: str) -> Effect:
    """What training without augmentation costs in float accuracy, in points."""

    def effect(records: Sequence[Record]) -> Interval:
        rows = table(records)
        dense = rows[(rows.sparsity == 0) & (rows.approach == approach)]
        kind = dense.augment.map(lambda augment: "without" if augment == "none" else "with")
        return gap(dense.assign(approach=kind), "with", "without")

    return effect


def _augment(net: Net) -> str:
    return net.recipe.augment if isinstance(net, TrainSpec) else ""


def _drop_without(records: Sequence[Record]) -> Interval:
    rows = table(records)
    plain = rows[rows.augment == "none"]
    return gap(image_drops(plain, plain[plain.sparsity == 0.5]), "adam", "arch", "drop")


CLAIMS = {
    "augmentation": {
        **{
            f"dense-{approach}": Assertion(
                effect=_dense_loss(approach), reads=of("one_shot"), approaches=(approach,)
            )
            for approach in ("adam", "arch")
        },
        "drop": Assertion(
            effect=_drop_without,
            reads=lambda spec: spec.kind == "one_shot" and _augment(spec.net) == "none",
            approaches=("adam", "arch"),
        ),
    }
}
