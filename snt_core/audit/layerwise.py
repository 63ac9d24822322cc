"""Which layers cost the accuracy, and the cheapest mix of 8 and 4 bits that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from snt_core.audit import calls
from snt_core.audit.scene import Scene, Score, score

HIGH, LOW = 8, 4  # bits of a mix
Row = dict[str, Any]


def one_layer(scene: Scene, name: str, treatment: str) -> list[Row]:
    """Return how the net does with one layer at 4 bits ("W4") or half pruned ("50 %")."""
    weight = calls.weights(scene.plain)[name]
    if treatment == "W4":
        changed = calls.rounded(scene.plain, name, LOW)
    else:
        calls.check_prunable(scene, name)
        changed = calls.thinned(weight, 0.5)
    with calls.changed(scene.plain, {name: changed}) as model:
        found = score(model, scene, scene.sizes.layer)
    return [found.row(layer=name, treatment=treatment, weights=weight.numel())]


def by_harm(model: nn.Module, rises: Mapping[str, float]) -> list[str]:
    """Return layers in the order of what 4 bits cost for each weight that becomes smaller."""
    known = calls.weights(model)
    return sorted(rises, key=lambda name: rises[name] / known[name].numel())


def cheapest_mix(scene: Scene, rises: Mapping[str, float], lose: float) -> list[Row]:
    """Return the mix of 8 and 4 bits with the fewest bits that loses at most `lose`.

    The layers become 4 bits in the order of `by_harm`; how many may is found by bisection, which
    takes for granted that more of them cost more. It is chosen on one half of the samples and
    confirmed on the other.

    Args:
        rises: how much the loss rises with each layer alone at 4 bits; other layers stay at 8.
        lose: points of top-1, or percent of the loss where there are no classes.

    Returns:
        A row: bits, loss and top-1 before and after on the other half, whether it keeps what was
        asked there, and how many were tried.
    """
    half = max(1, scene.sizes.evaluate // 2)
    order = by_harm(scene.plain, rises)
    known = calls.weights(scene.plain)
    high = {name: calls.rounded(scene.plain, name, HIGH) for name in known}
    low = {name: calls.rounded(scene.plain, name, LOW) for name in order}
    float_chosen = score(scene.model, scene, half)

    def tried(count: int, first: int) -> Score:
        mix = {**high, **{name: low[name] for name in order[:count]}}
        with calls.changed(scene.plain, mix) as model:
            return score(model, scene, half, first)

    good, bad, tries = -1, len(order) + 1, 0  # counts of layers at 4 bits that keep it, and do not
    while bad - good > 1:
        middle = (good + bad) // 2 if tries else 0  # 8 bits everywhere first: else nothing will
        tries += 1
        if lost(float_chosen, tried(middle, 0)) <= lose:
            good = middle
        elif middle == 0:
            break
        else:
            bad = middle
    if good < 0:
        return [
            {"kept": False, "tries": tries, "low_layers": [], "why": "8 bits lose more already"}
        ]
    before, after = score(scene.model, scene, half, half), tried(good, half)
    bits = {name: LOW if name in order[:good] else HIGH for name in known}
    sizes = {name: known[name].numel() for name in known}
    mean = sum(bits[n] * sizes[n] for n in bits) / sum(sizes.values())
    return [
        after.row(
            kept=lost(before, after) <= lose,
            tries=tries,
            four=good,
            of=len(known),
            bits=mean,
            names=", ".join(order[:good]),
            eight=", ".join(n for n in known if bits[n] == HIGH),
            lost=lost(before, after),
            bytes=calls.packed_bytes(calls.mixed(scene, bits)),
            n=min(half, max(0, len(scene.inputs) - half)),
        )
    ]


def lost(before: Score, after: Score) -> float:
    """Return the points of top-1 that were lost, or by how many percent the loss rose."""
    if before.top1 is not None and after.top1 is not None:
        return before.top1 - after.top1
    return 100 * (after.loss - before.loss) / max(abs(before.loss), 1e-9)
