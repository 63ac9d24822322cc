"""Figure 7: one-shot pruning of ResNet-20 on CIFAR-10, with and without augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from snt_core.paper.evidence import (
    Claim,
    Finding,
    by_approach,
    chain,
    frame,
    gap,
    image_drops,
    means,
)
from snt_core.paper.looks import canvas, lines
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import THREE, training
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TWO = ("adam", "arch")


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


def figure(table: pd.DataFrame) -> Figure:
    """Draw the drop over sparsity for nets trained with crops and flips, and without."""
    figure = canvas(9, 3.8)
    for ax, (augment, title) in zip(
        figure.subplots(1, 2, sharey=True),
        (("crop-flip", "with augmentation"), ("none", "without")),
        strict=True,
    ):
        lines(ax, table[table.augment == augment], "sparsity", "drop")
        ax.set(xlabel="sparsity", ylabel="drop from the dense net (points)", title=title)
        ax.label_outer()
    return figure


def augmentation(records: Sequence[Record]) -> Finding:
    """Test that accuracy is lower without augmentation, and ARCH keeps more than base at 50 %."""
    sweep = table(records)
    plain, augmented = sweep[sweep.augment == "none"], sweep[sweep.augment != "none"]
    without, with_it = (
        by_approach(part[part.sparsity == 0], "top1") for part in (plain, augmented)
    )
    lower = all(without[a] < with_it[a] for a in TWO)
    half = plain[plain.sparsity == 0.5]
    effect = gap(image_drops(plain, half), "adam", "arch", "drop")
    return Finding(
        holds=lower and effect.mean > 0,
        effect=effect,
        gaps=[effect],
        unit="points of drop at 50 % without augmentation, ADAM above ARCH",
        text=(
            f"dense top-1 without augmentation {chain(without, TWO, 2)}, with it "
            f"{chain(with_it, TWO, 2)}; drop at 50 % without: "
            f"{chain(by_approach(half, 'drop'), TWO, 2)} points"
        ),
    )


CLAIMS = {"augmentation": Claim(test=augmentation, approaches=TWO, kinds=("one_shot",))}
