"""The plain module inside wrappers: torch.compile, DistributedDataParallel, DataParallel.

Wrappers prefix every parameter's name, have no second derivative, or share gradients between
processes, so each public function of `methods` works on what they wrap::

    import torch
    from snt_core.methods.models.wrapping import unwrapped

    print(unwrapped(torch.compile(my_model)) is my_model)  # True
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
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


def copied(model: M) -> M:
    """Return a deep copy of a model, also where it keeps results of its last forward pass.

    Those of hooks and of recurrent layers are part of a graph, which ``copy.deepcopy`` refuses.
    They are computed anew in the next pass, so that the copy gets their values only.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, Tensor) and not item.is_leaf:
                    memo[id(item)] = item.detach().clone()
    return copy.deepcopy(model, memo)


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the plain module in eval mode; wrapped modules within it are plain too.

    Raises:
        ValueError: as :func:`eval_copy`.
    """
    return opened(eval_copy(model))


def eval_copy(model: nn.Module) -> nn.Module:
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
    return copied(model).eval()


def opened(model: nn.Module) -> nn.Module:
    """Put plain modules in the place of wrapped ones within a model, in place, and return it."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(module, WRAPPERS) and _inner(child) is not None:
                setattr(module, name, unwrapped(child))
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    # torch.compile's OptimizedModule by its attribute: to import its class takes seconds
    if "_orig_mod" in model._modules:
        return model._modules["_orig_mod"]
    return model.module if isinstance(model, WRAPPERS) else None
