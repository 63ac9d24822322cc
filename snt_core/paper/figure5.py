"""Tests of the claims about weight pruning: Figures 5 and 7."""

from __future__ import annotations

from collections.abc import Sequence

from snt_core.paper import frames
from snt_core.paper.claims.findings import Finding, chain, gap, image_drops, means
from snt_core.runs.store import Record

ORDER = ("adam", "sam", "arch")


def one_shot(records: Sequence[Record]) -> Finding:
    """Figure 5: SAM's mean drop is the smallest; ARCH's is under base's at 60-90 %."""
    frame = frames.sweeps(records)
    low, high = frame[frame.sparsity.between(0.05, 0.95)], frame[frame.sparsity.between(0.55, 0.95)]
    mean, far = means(low, "drop"), means(high, "drop")
    each = high.pivot_table(index="sparsity", columns="approach", values="drop")
    best = mean["sam"] < min(mean["adam"], mean["arch"])
    keeps = bool((each["arch"] < each["adam"]).all())
    drops, far_drops = image_drops(frame, low), image_drops(frame, high)
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
    """Figure 5: with iterative pruning ARCH is above base and SAM, on average over 10-90 %."""
    frame = frames.sweeps(records, "imp")
    frame = frame[frame.sparsity > 0]
    top1 = means(frame, "top1")
    keys = ["approach", "seed"]
    kept = frame.groupby(keys).correct.agg(lambda c: sum(x.astype(float) for x in c) / len(c))
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
    """Figure 5: ARCH's drop is at most base's at six of nine sparsities or more."""
    frame = frames.sweeps(records, "imp")
    pruned = frame[frame.sparsity > 0]
    each = pruned.pivot_table(index="sparsity", columns="approach", values="drop")
    kept = int((each["arch"] <= each["adam"]).sum())
    effect = gap(image_drops(frame, pruned), "adam", "arch", "drop")
    return Finding(
        holds=kept * 9 >= 6 * len(each),
        effect=effect,
        gaps=[effect],
        unit="points of mean drop, ADAM above ARCH",
        text=(
            f"ARCH's drop is at most ADAM's at {kept} of {len(each)} sparsities; mean drop "
            f"{chain(means(pruned, 'drop'), ('adam', 'arch'), 2)} points"
        ),
    )


def augmentation(records: Sequence[Record]) -> Finding:
    """Figure 7: accuracy is lower without augmentation; at 50 % ARCH still keeps more than base."""
    frame = frames.sweeps(records)
    plain = frame[frame.augment == "none"]
    dense, before = plain[plain.sparsity == 0], frame[(frame.augment != "none")]
    without, with_it = means(dense, "top1"), means(before[before.sparsity == 0], "top1")
    lower = all(without[a] < with_it[a] for a in ("adam", "arch"))
    half = plain[plain.sparsity == 0.5]
    drop = means(half, "drop")
    effect = gap(image_drops(plain, half), "adam", "arch", "drop")
    return Finding(
        holds=lower and effect.mean > 0,
        effect=effect,
        gaps=[effect],
        unit="points of drop at 50 % without augmentation, ADAM above ARCH",
        text=(
            f"dense top-1 without augmentation {chain(without, ('adam', 'arch'), 2)}, with it "
            f"{chain(with_it, ('adam', 'arch'), 2)}; drop at 50 % without: "
            f"{chain(drop, ('adam', 'arch'), 2)} points"
        ),
    )
