"""Weights that are computed on each access, made plain ones.

Weight and spectral normalisation (as parametrizations or as the older hooks), the masks of
``torch.nn.utils.prune`` and the user's own parametrizations compute a layer's weight from other
parameters. What the layer multiplies with is this effective weight; folding keeps it and drops what
computed it, so that the outputs in eval mode stay as they are::

    from snt_core.methods.models.folding import plain

    list(plain(my_model).state_dict())  # "0.weight" instead of "0.parametrizations.weight..."
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

from snt_core.methods.models.compressible import Sites, sites, stored, weight_names
from snt_core.methods.models.wrapping import copied, unwrapped

Hook = WeightNorm | SpectralNorm | prune.BasePruningMethod
M = TypeVar("M", bound=nn.Module)


def plain(model: nn.Module) -> nn.Module:
    """Return the model with all weights plain: itself if they are, else a folded copy.

    Wrappers like ``torch.compile`` are taken off.
    """
    model = unwrapped(model)
    if not any(True for _ in hooks(model)) and not parametrized(model):
        return model
    return fold(copied(model))


def fold(model: M) -> M:
    """Make all weights of a model plain, in place, and return it."""
    fold_hooks(model)
    for module, name in parametrized(model):
        bake(module, name, effective(module, name))
    return model


def fold_hooks(model: nn.Module) -> dict[tuple[nn.Module, str], Tensor]:
    """Fold the weights that hooks compute, in place; return the masks of ``nn.utils.prune``.

    Those are True where a weight stays.
    """
    masks = {}
    for module, name, hook in list(hooks(model)):
        trainable = any(p.requires_grad for p in stored(module, name))
        with torch.no_grad():
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, name)
            else:
                masks[module, name] = getattr(module, f"{name}_mask") != 0
                prune.remove(module, name)
        _settle(module, name, getattr(module, name).detach(), trainable)
    return masks


def _forget_loading(module: nn.Module, name: str) -> None:
    """Drop the hooks on loading that torch leaves behind where a normalisation of weights ends.

    One wants its state loaded, the other cannot be pickled.
    """
    for key, wrapped in list(module._load_state_dict_pre_hooks.items()):
        hook = getattr(wrapped, "hook", wrapped)
        old = isinstance(hook, SpectralNormLoadStateDictPreHook) and hook.fn.name == name
        new = getattr(hook, "__name__", "") == "_weight_norm_compat_hook"
        if old or (new and not parametrize.is_parametrized(module)):
            del module._load_state_dict_pre_hooks[key]


def hooks(model: nn.Module) -> Iterator[tuple[nn.Module, str, Hook]]:
    """Yield the weights that a hook computes before each pass, and that hook."""
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm):
                name = hook.name
            elif isinstance(hook, prune.BasePruningMethod):
                name = hook._tensor_name
            else:
                continue
            if name in weight_names(module):
                yield module, name, hook


def parametrized(model: nn.Module) -> Sites:
    """Return the weights that a parametrization computes."""
    return [(m, name) for m, name in sites(model) if parametrize.is_parametrized(m, name)]


def effective(module: nn.Module, name: str) -> Tensor:
    """Return what a weight is in eval mode; spectral normalisation keeps its state."""
    if not parametrize.is_parametrized(module, name):
        return getattr(module, name).detach()
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    before = {m: m.training for m in chain.modules()}
    chain.eval()
    try:
        with torch.no_grad():
            return getattr(module, name).detach()
    finally:
        for m, training in before.items():
            m.training = training


def bake(module: nn.Module, name: str, value: Tensor) -> Tensor | None:
    """End the parametrization of a weight, in place; the weight becomes a parameter of this value.

    Other modules that hold the same parameter keep it.

    Returns:
        The parameter that the weight was computed from; None if there were several.
    """
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    trainable = any(p.requires_grad for p in chain.parameters(recurse=False))
    original = getattr(chain, "original", None)
    if original is not None:
        # torch writes into the original, which another layer may hold
        chain.original = nn.Parameter(original.detach().clone(), original.requires_grad)
    own_class(module)
    with torch.enable_grad():  # without, torch would leave a buffer
        parametrize.remove_parametrizations(module, name)
    _settle(module, name, value, trainable)
    return original


def own_class(module: nn.Module) -> None:
    """Give a parametrized module a class of its own.

    A copy shares its class with the original, and torch adds and deletes weights in the class.
    """
    if parametrize.is_parametrized(module):
        shared = type(module)
        module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))


def _settle(module: nn.Module, name: str, value: Tensor, trainable: bool) -> None:
    """Put a parameter in the place that it has in a module of this kind."""
    _forget_loading(module, name)
    module.__dict__.pop(name, None)
    module._buffers.pop(name, None)
    module._parameters[name] = nn.Parameter(value.clone(), trainable)
    reorder(module)


def reorder(module: nn.Module) -> None:
    """Restore the order of parameters that a module of this kind has: torch puts new ones last."""
    first = getattr(module, "_flat_weights_names", None) or weight_names(module)
    for key in [*first, *(key for key in module._parameters if key not in first)]:
        if key in module._parameters:
            module._parameters[key] = module._parameters.pop(key)
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [getattr(module, key) for key in module._flat_weights_names]
        settle_recurrent(module)


def settle_recurrent(module: Any, *_: object) -> None:
    """Let a recurrent layer forget the graph of its last pass, so that it can be copied: a hook."""
    module._flat_weights = [w if w.is_leaf else w.detach() for w in module._flat_weights]
