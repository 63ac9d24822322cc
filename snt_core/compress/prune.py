"""Global magnitude pruning: the smallest weights of the whole network become zero.

The criterion of the paper's pruning experiments (Han et al., 2015, arXiv:1506.02626; Frankle and
Carbin, 2019, arXiv:1803.03635): one threshold for all layers. Works on any model::

    from snt_core.compress.prune import magnitude_masks, prune_magnitude, sparsity

    half = prune_magnitude(my_model, 0.5)  # my_model stays as it was
    print(sparsity(half))  # 0.5
    kept = magnitude_masks(my_model, 0.5)["conv1.weight"]  # True where the weight stays

Only weights of convolutions and linear layers count and are pruned, first and last layer included;
biases and normalisation are not, nor is the packed ``in_proj_weight`` of ``nn.MultiheadAttention``.
``sparsity`` is the pruned share, in [0, 1].
"""

from __future__ import annotations

import copy

import torch
from torch import BoolTensor, nn

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights that pruning may remove, by their name in ``model.named_parameters()``.

    A weight that two layers share is named once.
    """
    owned = {id(module.weight) for module in model.modules() if isinstance(module, LAYERS)}
    return {name: p for name, p in model.named_parameters() if id(p) in owned}


def magnitude_masks(model: nn.Module, sparsity: float) -> dict[str, BoolTensor]:
    """Which weights stay when the smallest ``sparsity`` of them all are removed.

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
    magnitudes = torch.cat([w.detach().abs().flatten() for w in weights.values()])
    kept = torch.ones_like(magnitudes, dtype=torch.bool)
    kept[magnitudes.argsort(stable=True)[: round(sparsity * len(kept))]] = False
    pieces = kept.split([w.numel() for w in weights.values()])
    return {name: m.view_as(w) for (name, w), m in zip(weights.items(), pieces, strict=True)}


def prune_magnitude(model: nn.Module, sparsity: float) -> nn.Module:
    """Copy of the model with the smallest ``sparsity`` of its weights set to zero.

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
    """Share of exact zeros among the weights of :func:`prunable`, in [0, 1].

    Raises:
        ValueError: the model has no such weights.
    """
    weights = prunable(model).values()
    if not weights:
        raise ValueError("the model has no convolution or linear layer to prune")
    zeros = sum(int((w == 0).sum()) for w in weights)
    return zeros / sum(w.numel() for w in weights)
