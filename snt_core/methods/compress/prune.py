"""Global magnitude pruning: the smallest weights of the whole network become zero.

The criterion of the paper's pruning experiments (Han et al., 2015, arXiv:1506.02626; Frankle and
Carbin, 2019, arXiv:1803.03635): one threshold for all layers. Works on any model::

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
        for i in range(1000):
            step(model)
            after_step((i + 1) / 1000)


    for level, pruned in prune_iterative(my_model, (0.3, 0.6, 0.9), finetune):
        print(level, accuracy(pruned))

Only weights of convolutions and linear layers count and are pruned, first and last layer included;
biases and normalisation are not, nor is the packed ``in_proj_weight`` of ``nn.MultiheadAttention``.
``sparsity`` is the pruned share, in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import BoolTensor, Tensor, nn
from torch.nn.utils import parametrize

from snt_core.methods.compressible import LAYERS, Layer, prunable

RAMP = 0.5  # share of a round in which weights go; the rest of it only trains
UPDATES = 20  # how often they go in that time


def magnitude_masks(model: nn.Module, sparsity: float) -> dict[str, BoolTensor]:
    """Return which weights stay when the smallest ``sparsity`` of them all are removed.

    Of n weights exactly k = round(sparsity * n) go. Ties are broken by position, first layer first,
    so that the masks are the same on every run and a weight that goes at one sparsity goes at every
    higher one.

    Returns:
        For each name of :func:`prunable` a mask of the weight's shape, True = kept.

    Raises:
        ValueError: ``sparsity`` is outside [0, 1], or the model has no such weights.
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(
            f"sparsity {sparsity} is outside [0, 1]: it is the share of pruned weights"
        )
    weights = prunable(model)
    if not weights:
        raise ValueError("the model has no convolution or linear layer to prune")
    return dict(zip(weights, _largest(weights.values(), sparsity), strict=True))


def _largest(weights: Iterable[Tensor], sparsity: float) -> list[BoolTensor]:
    """Return a mask of what stays for each weight; the smallest of all together go."""
    weights = list(weights)
    magnitudes = torch.cat([w.detach().abs().flatten() for w in weights])
    kept = torch.ones_like(magnitudes, dtype=torch.bool)
    # not by a threshold: equal magnitudes would all stay or go, and the count would be missed
    kept[magnitudes.argsort(stable=True)[: round(sparsity * len(kept))]] = False
    pieces = kept.split([w.numel() for w in weights])
    return [mask.view_as(w) for w, mask in zip(weights, pieces, strict=True)]


def prune_magnitude(model: nn.Module, sparsity: float) -> nn.Module:
    """Return a copy of the model with the smallest ``sparsity`` of its weights set to zero.

    Raises:
        ValueError: as :func:`magnitude_masks`.
    """
    pruned = copy.deepcopy(model)
    weights = prunable(pruned)
    with torch.no_grad():
        for name, mask in magnitude_masks(model, sparsity).items():
            weights[name].masked_fill_(~mask, 0)
    return pruned


def sparsity(model: nn.Module) -> float:
    """Return the share of exact zeros among the weights of :func:`prunable`, in [0, 1].

    Raises:
        ValueError: the model has no such weights.
    """
    weights = prunable(model).values()
    if not weights:
        raise ValueError("the model has no convolution or linear layer to prune")
    zeros = sum(int((w == 0).sum()) for w in weights)
    return zeros / sum(w.numel() for w in weights)


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
            masks are buffers of the model, so they are in its state dict.

    Yields:
        Each target and a plain copy of the model at it.

    Raises:
        ValueError: as :func:`magnitude_masks`, or ``sparsities`` do not rise.
    """
    student = copy.deepcopy(model)
    level = sparsity(student)
    if len(_layers(student)) != len(prunable(student)):
        raise ValueError("two layers of the model share a weight; give each its own")
    for layer in _layers(student):
        parametrize.register_parametrization(layer, "weight", Mask(layer.weight))
    for target in sparsities:
        if target < level:
            raise ValueError(f"sparsity {target} comes after {level}: give them in rising order")
        finetune(student, _Ramp(student, level, target))
        pruned = _plain(student, model)
        yield target, pruned
        level = sparsity(pruned)  # as counted, which is what a later start from here would find


class Mask(nn.Module):
    """A parametrization that lets weights through, save those that are zero at first or pruned."""

    kept: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", weight.detach() != 0)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


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
    layers = _layers(model)
    # the weights as masked: a pruned one is 0, the smallest there is, and so stays away
    for layer, kept in zip(layers, _largest([m.weight for m in layers], level), strict=True):
        parametrizations: Any = layer.parametrizations
        parametrizations.weight[0].kept.copy_(kept)


def _layers(model: nn.Module) -> list[Layer]:
    return [module for module in model.modules() if isinstance(module, LAYERS)]


def _plain(masked: nn.Module, like: nn.Module) -> nn.Module:
    """Return a copy of a masked model in the form of `like`, its pruned weights zero."""
    plain = copy.deepcopy(like)
    names = {
        key.replace(".parametrizations.weight.original", ".weight"): key
        for key in masked.state_dict()
        if not key.endswith(".parametrizations.weight.0.kept")
    }
    state = masked.state_dict()  # of weights it has those before the mask; they are masked below
    plain.load_state_dict({name: state[key] for name, key in names.items()})
    with torch.no_grad():
        for mine, theirs in zip(_layers(plain), _layers(masked), strict=True):
            mine.weight.copy_(theirs.weight)
    return plain
