"""Figure 5: pruning on CIFAR-10, one-shot and iterative."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper.effects import drops_more, keeps_more
from snt_core.paper.evidence import Assertion, frame, of
from snt_core.paper.looks import described, lines, or_absent, panels, values
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import THREE, retraining, sharpness, training
from snt_core.runs.kinds.imp import IMPSpec
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PRUNED = ("resnet20", "mixer_s")
METHODS = ("one-shot", "iterative")
ORDER = ("adam", "sam", "arch")


def runs(
    profile: Profile,
    seeds: Iterable[int],
    *,
    backbone: str = "",
    method: str = "",
    sparsities: Sequence[float] = OneShotSpec.sparsities,
) -> list[Spec]:
    """Return the nets, pruned once at `sparsities` and iteratively at the profile's."""
    methods = all_or_one("method", method, METHODS)
    specs: list[Spec] = []
    for seed, model in product(seeds, all_or_one("backbone", backbone, PRUNED)):
        for approach in THREE:
            net = training(profile, "cifar10", approach, seed, model)
            specs.append(net)
            if "one-shot" in methods:
                specs.append(OneShotSpec(parent=net, sparsities=tuple(sparsities)))
                specs += sharpness(profile, net)
            if "iterative" in methods:
                finetune = retraining(profile, net, profile.prune_epochs)
                specs.append(
                    IMPSpec(parent=net, sparsities=profile.sparsities, finetune=finetune, seed=seed)
                )
    return specs


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and sparsity, of one way of pruning: test top-1, drop in points."""
    return frame(records, "one_shot", "imp")


@or_absent
def figure(table: pd.DataFrame) -> Figure:
    """Draw test top-1, and the drop from the dense net, over sparsity."""
    figure, (left, right) = panels(2)
    lines(left, table, "sparsity", "top1")
    lines(right, table, "sparsity", "drop")
    left.set(xlabel="sparsity", ylabel="test top-1 (%)")
    right.set(xlabel="sparsity", ylabel="drop from the dense net (points)")
    most = table[table.sparsity == table.sparsity.max()]
    return described(
        figure,
        f"Two line charts over sparsity: test top-1, and points lost against the dense net. Top-1 "
        f"of the dense nets: {values(table[table.sparsity == 0], 'top1')}; at "
        f"{table.sparsity.max():.0%}: {values(most, 'top1')}.",
    )


def _one_shot(model: str) -> dict[str, Assertion]:
    part = {"backbone": model, "method": "one-shot"}
    return {
        f"{less}-{more}-{model}": Assertion(
            effect=drops_more(more, less, "one_shot", sparsities),
            reads=of("one_shot"),
            approaches=(more, less),
            part=part,
        )
        for more, less, sparsities in (
            ("adam", "sam", (0.0, 0.9)),
            ("arch", "sam", (0.0, 0.9)),
            ("adam", "arch", (0.5, 0.9)),
        )
    }


CLAIMS = {
    "imp-mixer": {
        f"top1-{rival}": Assertion(
            effect=keeps_more("arch", rival, "imp"),
            reads=of("imp"),
            approaches=("arch", rival),
            part={"backbone": "mixer_s", "method": "iterative"},
        )
        for rival in ("adam", "sam")
    },
    "imp-resnet": {
        "drop": Assertion(
            effect=drops_more("adam", "arch", "imp"),
            reads=of("imp"),
            approaches=("adam", "arch"),
            part={"backbone": "resnet20", "method": "iterative"},
        )
    },
    "one-shot": {k: v for model in PRUNED for k, v in _one_shot(model).items()},
}
