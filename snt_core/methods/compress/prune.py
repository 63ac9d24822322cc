"""Global magnitude pruning: the smallest weights of the whole network become zero.

The criterion of the paper's pruning experiments (Han et al., 2015, arXiv:1506.02626; Frankle and
Carbin, 2019, arXiv:1803.03635): one threshold for all layers. Works on any model::

    import torch
    from snt_core.methods.compress.prune import (
        magnitude_masks,
        prune_iterative,
        prune_magnitude,
        sparsity,
    )

    half = prune_magnitude(my_model, 0.5)  # my_model stays as it was
    print(sparsity(half))  # 0.5
    kept = magnitude_masks(my_model, 0.5)["conv1.weight"]  # True where the weight stays


    def finetune(model, after_step):  # any training loop, with one call after every step
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for i, (x, y) in enumerate(loader):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            after_step((i + 1) / len(loader))


    for level, pruned in prune_iterative(my_model, (0.3, 0.6, 0.9), finetune):
        print(level, accuracy(pruned))

Weights of convolutions, linear, attention and recurrent layers count and are pruned, first and last
layer included; biases, normalisation and embeddings are not
(:func:`~snt_core.methods.models.coverage.coverage` lists all by name). Where a layer computes its
weight (weight or spectral normalisation, a mask of ``torch.nn.utils.prune``), the computed one
counts, and is a plain weight in what is returned. ``sparsity`` is the pruned share, in [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import BoolTensor, nn

from snt_core.common.arguments import require_number
from snt_core.methods.compress.magnitude import smallest
from snt_core.methods.compress.masking import Mask, compute_by, parametrized_by
from snt_core.methods.compress.quantize import FakeQuantize
from snt_core.methods.models.compressible import (
    check_finite,
    check_kinds,
    full_names,
    prunable,
    sites,
    standardised,
)
from snt_core.methods.models.coverage import mark
from snt_core.methods.models.folding import effective, fold, plain
from snt_core.methods.models.wrapping import copied, unwrapped

RAMP = 0.5  # share of a round in which weights go; the rest of it only trains
UPDATES = 20  # how often they go in that time


def magnitude_masks(model: nn.Module, sparsity: float) -> dict[str, BoolTensor]:
    """Return which weights stay when the smallest ``sparsity`` of them all are removed.

    Of n weights exactly k = round(sparsity * n) go. Ties are broken by position, first layer first,
    so that the masks are the same on every run and a weight that goes at one sparsity goes at every
    higher one.

    Returns:
        For each weight, by its name in the pruned model, a mask of its shape, True = kept.

    Raises:
        ValueError: ``sparsity`` is outside [0, 1], the model has no such weights, or one of them is
            not finite, not in a float format, on the meta device, not initialised or rounded in
            each pass (:func:`~snt_core.methods.compress.quantize.fake_quantize_weights`).
    """
    check_sparsity(sparsity)
    check_prunable(model)
    weights = prunable(plain(model))
    check_finite(weights)
    [masks] = smallest(weights.values(), [sparsity])
    return dict(zip(weights, masks, strict=True))


def prune_magnitude(model: nn.Module, sparsity: float) -> nn.Module:
    """Return a copy of the model with the smallest ``sparsity`` of its weights set to zero.

    Raises:
        ValueError: as :func:`magnitude_masks`.
    """
    [(_, pruned)] = prune_sweep(model, [sparsity])
    return pruned


def prune_sweep(model: nn.Module, sparsities: Iterable[float]) -> Iterator[tuple[float, nn.Module]]:
    """Yield each sparsity and what :func:`prune_magnitude` returns for it, sorting only once.

    Example::

        from snt_core.methods.compress.prune import prune_sweep

        for level, pruned in prune_sweep(my_model, (0.3, 0.5, 0.7)):
            print(level, accuracy(pruned))

    Raises:
        ValueError: as :func:`magnitude_masks`, at the first model.
    """
    sparsities = _several(sparsities)
    for level in sparsities:
        check_sparsity(level)
    check_prunable(model)
    model = plain(model)
    weights = prunable(model)
    check_finite(weights)
    for level, masks in zip(sparsities, smallest(weights.values(), sparsities), strict=True):
        pruned = copied(model)
        with torch.no_grad():
            for weight, kept in zip(prunable(pruned).values(), masks, strict=True):
                weight.masked_fill_(~kept, 0)
        mark_pruned(pruned, level)
        yield level, pruned


def sparsity(model: nn.Module) -> float:
    """Return the share of exact zeros among all weights that pruning acts on, in [0, 1].

    Weights count as the layers use them, behind masks, normalisation and rounding.

    Raises:
        ValueError: the model has no such weights.
    """
    check_kinds(model := unwrapped(model))
    weights = prunable(plain(model)).values()
    total = sum(w.numel() for w in weights)
    return sum(int((w == 0).sum()) for w in weights) / max(1, total)


def _several(sparsities: Iterable[float]) -> list[float]:
    try:
        return list(sparsities)
    except TypeError as error:  # a number, or a tensor that is one
        raise ValueError(
            f"sparsities is {sparsities!r}; it must be several numbers, such as (0.3, 0.5)"
        ) from error


def check_sparsity(sparsity: float) -> None:
    """Refuse a sparsity outside [0, 1].

    Raises:
        ValueError: it is.
    """
    require_number(sparsity=sparsity)
    if not 0 <= sparsity <= 1:
        raise ValueError(
            f"sparsity {sparsity} is outside [0, 1]: it is the share of pruned weights"
        )


def check_prunable(model: nn.Module) -> None:
    """Refuse what cannot be pruned, by name and before any work.

    Raises:
        ValueError: as :func:`~snt_core.methods.models.compressible.check_kinds`, or weights are
            rounded in each pass.
    """
    check_kinds(model := unwrapped(model))
    for site, name in full_names(model).items():
        if parametrized_by(*site, FakeQuantize):
            raise ValueError(
                f"weight '{name}' is rounded in each pass:"
                " prune before fake_quantize_weights, or after freeze"
            )
        check_zeros_stay(site[0], name)


def check_zeros_stay(module: nn.Module, name: str) -> None:
    """Refuse layers in which a pruned weight would not stay zero.

    Raises:
        ValueError: the layer standardises its weight.
    """
    if kind := standardised(module):
        raise ValueError(
            f"weight '{name}' is standardised by {kind} in each pass, so that pruned weights would"
            " not stay zero: replace the layer by a plain one that holds the standardised weight"
        )


def mark_pruned(model: nn.Module, level: float) -> None:
    """Leave on the layers what :func:`~snt_core.methods.models.coverage.coverage` reads."""
    for module, name in sites(model):
        mark(module, name, sparsity=level)


def exponential_sparsity(start: float, end: float, share: float) -> float:
    """Return the sparsity on the way from ``start`` to ``end``: the density decays exponentially.

    With densities d = 1 - sparsity it is 1 - d_start * (d_end / d_start) ** share, ``share`` in
    [0, 1]; a way that ends with nothing left is walked in a straight line.
    """
    if end >= 1 or start >= 1:
        return start + (end - start) * share
    return 1 - (1 - start) * ((1 - end) / (1 - start)) ** share


def prune_iterative(
    model: nn.Module,
    sparsities: Iterable[float],
    finetune: Callable[[nn.Module, Callable[[float], None]], None],
) -> Iterator[tuple[float, nn.Module]]:
    """Prune by magnitude iteratively: prune a little, train, and so on; one round a sparsity.

    In the first half of each round the sparsity rises along :func:`exponential_sparsity`, twenty
    times by :func:`magnitude_masks`; a weight that went stays away.

    Args:
        sparsities: targets in rising order.
        finetune: ``finetune(model, after_step)`` trains ``model`` in place and calls
            ``after_step(share)`` after every step, ``share`` of its steps being done, up to 1. The
            masks are buffers of the model, so they are in its state dict. Weights that the model
            computes, by weight normalisation say, are plain ones in it.

    Yields:
        Each target and a plain copy of the model at it.

    Raises:
        ValueError: as :func:`magnitude_masks`, or ``sparsities`` do not rise.
    """
    sparsities = _several(sparsities)
    check_prunable(model)
    model = fold(copied(unwrapped(model)))
    check_finite(prunable(model))
    student = copied(model)
    level = sparsity(student)
    if len(sites(student)) != len(prunable(student)):
        raise ValueError("two layers of the model share a weight; give each its own")
    for module, name in sites(student):
        compute_by(module, name, Mask(getattr(module, name)))
    for target in sparsities:
        if target < level:
            raise ValueError(f"sparsity {target} comes after {level}: give them in rising order")
        finetune(student, _Ramp(student, level, target))
        pruned = _plain(student, model)
        mark_pruned(pruned, target)
        yield target, pruned
        level = sparsity(pruned)  # as counted, which is what a later start from here would find


class _Ramp:
    """The ``after_step`` of a round, which raises the sparsity of a masked model on the way."""

    def __init__(self, model: nn.Module, start: float, end: float) -> None:
        self.model, self.start, self.end = model, start, end
        self.updates = 0

    def __call__(self, share: float) -> None:
        # 1e-9: no rounding of `share` may delay an update by a step
        due = min(UPDATES, int(UPDATES * share / RAMP + 1e-9))
        if due > self.updates:
            self.updates = due
            _mask(self.model, exponential_sparsity(self.start, self.end, due / UPDATES))


def _mask(model: nn.Module, level: float) -> None:
    """Prune a masked model further, in place."""
    found = sites(model)
    # the weights as masked: a pruned one is 0, the smallest there is, and so stays away
    [masks] = smallest([effective(m, name) for m, name in found], [level])
    for (module, name), kept in zip(found, masks, strict=True):
        parametrized_by(module, name, Mask).kept.copy_(kept)


def _plain(masked: nn.Module, like: nn.Module) -> nn.Module:
    """Return a copy of a masked model in the form of `like`, its pruned weights zero."""
    plain = copied(like)
    state = masked.state_dict()  # of weights it has those before the mask; they are masked below
    names = {
        re.sub(r"(^|\.)parametrizations\.(\w+)\.original$", r"\1\2", key): key
        for key in state
        if not re.search(r"(^|\.)parametrizations\.\w+\.0\.kept$", key)
    }
    plain.load_state_dict({name: state[key] for name, key in names.items()})
    with torch.no_grad():
        for (mine, name), (theirs, _) in zip(sites(plain), sites(masked), strict=True):
            getattr(mine, name).copy_(getattr(theirs, name))
    return plain
