"""What SAM takes; another base optimizer, radius, model or gradient is refused by name."""

from __future__ import annotations

import inspect
import math
import numbers
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

SHARDED = ("DTensor", "FlatParameter")  # each process would see the norm of its own share


def require_radius(rho: Any) -> None:
    """Raise ValueError unless the radius is a finite number >= 0."""
    if not (isinstance(rho, numbers.Real) and 0 <= float(rho) < math.inf):
        raise ValueError(f"rho is {rho}; it must be a finite number >= 0")


def require_base(base: Any) -> None:
    """Raise ValueError for a base that is no optimizer, or calls its closure itself."""
    name = type(base).__name__
    if not isinstance(base, Optimizer):
        raise ValueError(
            f"base is {base.__name__ if isinstance(base, type) else f'a {name}'}, which is no "
            "optimizer to wrap; make one first, such as torch.optim.Adam(model.parameters())"
        )
    closure = inspect.signature(base.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(f"{name} calls its closure itself; SAM wraps optimizers that need none")
    if isinstance(base, torch.optim.SparseAdam):
        raise ValueError(f"{name} takes sparse gradients, SAM dense ones; wrap torch.optim.Adam")
    for p in (p for group in base.param_groups for p in group["params"]):
        if type(p).__name__ in SHARDED:
            raise ValueError(f"a parameter is a {type(p).__name__}: SAM needs whole parameters")


def require_dense(params: list[Tensor]) -> None:
    """Raise ValueError where a gradient is sparse."""
    for p in params:
        if p.grad is not None and p.grad.layout is not torch.strided:
            raise ValueError(
                f"the gradient of a parameter of shape {tuple(p.shape)} is sparse; SAM takes dense "
                "ones: make its nn.Embedding with sparse=False"
            )


def require_owner(model: Any, base: Optimizer) -> None:
    """Raise ValueError unless the model has parameters of the optimizer."""
    if model is None:
        return
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; it must be the nn.Module to train")
    trained = {id(p) for group in base.param_groups for p in group["params"]}
    if not any(id(p) in trained for p in model.parameters()):
        raise ValueError(f"base trains no parameter of the {type(model).__name__} given as model")
