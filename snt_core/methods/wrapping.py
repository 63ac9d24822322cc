"""The plain module inside wrappers: torch.compile, DistributedDataParallel, DataParallel.

Wrappers prefix every parameter's name, have no second derivative, or share gradients between
processes, so each public function of `methods` works on what they wrap::

    from snt_core.methods.wrapping import unwrapped

    unwrapped(torch.compile(my_model)) is my_model  # True
"""

from __future__ import annotations

import copy

import torch
from torch import nn

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the plain module inside torch.compile's, DDP's and DataParallel's, nested or not.

    A model without a wrapper is returned itself.

    Raises:
        ValueError: not a module, or its parameters are split over processes (FSDP).
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"a {type(model).__name__} is no model: give a torch.nn.Module")
    if type(model).__name__ == "FullyShardedDataParallel":
        raise ValueError(
            "FullyShardedDataParallel holds a part of each parameter: load the full state dict "
            "into a plain model, and give that"
        )
    inner = _inner(model)
    return model if inner is None else unwrapped(inner)


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the plain module in eval mode; wrapped modules within it are plain too.

    Raises:
        ValueError: as :func:`copied`.
    """
    return opened(copied(model))


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of the plain module in eval mode, with the names of the layers within it.

    Raises:
        ValueError: as :func:`unwrapped`, or its parameters are not there yet (lazy, meta device).
    """
    model = unwrapped(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"'{name}' has no shape yet: run the model on one batch first")
        if tensor.is_meta:
            raise ValueError(f"'{name}' is on the meta device, without values: load weights first")
    return copy.deepcopy(model).eval()


def opened(model: nn.Module) -> nn.Module:
    """Put plain modules in the place of wrapped ones within a model, in place, and return it."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(module, WRAPPERS) and _inner(child) is not None:
                setattr(module, name, unwrapped(child))
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    if isinstance(model, torch._dynamo.OptimizedModule):
        inner: nn.Module = model._orig_mod
        return inner
    return model.module if isinstance(model, WRAPPERS) else None
