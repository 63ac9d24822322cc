"""Figure 5: pruning on CIFAR-10, one-shot and iterative."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper.evidence import (
    Claim,
    Finding,
    backbones,
    by_approach,
    chain,
    frame,
    gap,
    image_drops,
)
from snt_core.paper.looks import canvas, lines
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


def figure(table: pd.DataFrame) -> Figure:
    """Draw test top-1, and the drop from the dense net, over sparsity."""
    figure = canvas(9, 3.8)
    left, right = figure.subplots(1, 2)
    lines(left, table, "sparsity", "top1")
    lines(right, table, "sparsity", "drop")
    left.set(xlabel="sparsity", ylabel="test top-1 (%)")
    right.set(xlabel="sparsity", ylabel="drop from the dense net (points)")
    return figure


def one_shot(records: Sequence[Record]) -> Finding:
    """Test that SAM's mean drop is the smallest, and ARCH's is under base's at 60-90 %."""
    sweep = frame(records, "one_shot")
    low, high = sweep[sweep.sparsity.between(0.05, 0.95)], sweep[sweep.sparsity.between(0.55, 0.95)]
    mean, far = by_approach(low, "drop"), by_approach(high, "drop")
    each = high.pivot_table(index="sparsity", columns="approach", values="drop")
    best = mean["sam"] < min(mean["adam"], mean["arch"])
    keeps = bool((each["arch"] < each["adam"]).all())
    drops, far_drops = image_drops(sweep, low), image_drops(sweep, high)
    effect = gap(drops, "adam", "sam", "drop")
    return Finding(
        holds=best and keeps,
        effect=effect,
        gaps=[effect, gap(drops, "arch", "sam", "drop"), gap(far_drops, "adam", "arch", "drop")],
        unit="points of mean drop, ADAM above SAM",
        text=(
            f"mean drop over 10-90 %: {chain(mean, ORDER, 2)} points, SAM's is "
            f"{'' if best else 'not '}the smallest; at 60-90 % ARCH {far['arch']:.2f} against ADAM "
            f"{far['adam']:.2f}, {'under it' if keeps else 'not under it'} at every sparsity"
        ),
    )


def imp_mixer(records: Sequence[Record]) -> Finding:
    """Test that iterative pruning leaves ARCH above base and SAM, on average over 10-90 %."""
    sweep = frame(records, "imp")
    sweep = sweep[sweep.sparsity > 0]
    top1 = by_approach(sweep, "top1")
    keys = ["approach", "seed"]
    kept = sweep.groupby(keys).correct.agg(lambda c: sum(x.astype(float) for x in c) / len(c))
    kept = kept.reset_index()
    gaps = [gap(kept, "arch", rival) for rival in ("adam", "sam")]
    return Finding(
        holds=all(found.mean > 0 for found in gaps),
        effect=gaps[0],
        gaps=gaps,
        unit="points of mean top-1 over 10-90 %, ARCH above ADAM",
        text=(
            f"mean top-1 over the sparsities: {chain(top1, ORDER, 2)}; ARCH is {gaps[0].mean:+.2f} "
            f"from ADAM and {gaps[1].mean:+.2f} from SAM"
        ),
    )


def imp_resnet(records: Sequence[Record]) -> Finding:
    """Test that ARCH's drop is at most base's at six of nine sparsities or more."""
    sweep = frame(records, "imp")
    pruned = sweep[sweep.sparsity > 0]
    each = pruned.pivot_table(index="sparsity", columns="approach", values="drop")
    kept = int((each["arch"] <= each["adam"]).sum())
    effect = gap(image_drops(sweep, pruned), "adam", "arch", "drop")
    return Finding(
        holds=kept * 9 >= 6 * len(each),
        effect=effect,
        gaps=[effect],
        unit="points of mean drop, ADAM above ARCH",
        text=(
            f"ARCH's drop is at most ADAM's at {kept} of {len(each)} sparsities; mean drop "
            f"{chain(by_approach(pruned, 'drop'), ('adam', 'arch'), 2)} points"
        ),
    )


CLAIMS = {
    "imp-mixer": Claim(
        test=imp_mixer,
        approaches=ORDER,
        kinds=("imp",),
        parts=backbones("mixer_s", method="iterative"),
    ),
    "imp-resnet": Claim(
        test=imp_resnet,
        approaches=("adam", "arch"),
        kinds=("imp",),
        parts=backbones("resnet20", method="iterative"),
    ),
    "one-shot": Claim(
        test=one_shot,
        approaches=ORDER,
        kinds=("one_shot",),
        parts=backbones("resnet20", "mixer_s", method="one-shot"),
    ),
}
