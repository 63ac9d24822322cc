"""The point of steepest ascent that SAM looks at, as a pure function of weights and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Tensors = list[Tensor] | tuple[Tensor, ...]

# Between these a norm in float32 has neither lost squares that underflow nor met one that
# overflows; float16 and bfloat16 are computed in float32.
SAFE = (1e-15, 1e15)


def perturbed(
    groups: Sequence[tuple[float, list[Tensor]]], *, adaptive: bool, look: bool = True
) -> list[Tensor] | None:
    """Return `w + e(w)` for the parameters of each group, or None where a gradient is not finite.

    `e(w) = rho * g / |g|`, or `rho * w^2 g / |w g|` when adaptive, with each group's own rho and
    one norm, over the parameters of all groups. A gradient of zero asks for no perturbation.

    Args:
        groups: pairs of rho and parameters; each parameter has a gradient. A negative rho goes
            down the gradient.
        adaptive: scale the neighbourhood by the weights' size.
        look: whether the norm may be read, which waits for a GPU. Where it may not (a CUDA graph
            is recorded), nothing is checked, and None is never returned.
    """
    params = [p for _, group in groups for p in group]
    sizes = torch._foreach_abs(params) if adaptive else None
    directions = _times(_gradients(params), sizes)
    norm = _norm(directions)
    if look and not SAFE[0] <= float(norm) <= SAFE[1]:
        found = _by_largest(_gradients(params), sizes)
        if found is None:
            return None
        directions, norm = found
    norm = norm.clamp_min(torch.finfo(norm.dtype).tiny)
    rest = iter(_times(directions, sizes))
    moved: list[Tensor] = []
    for rho, group in groups:
        if not group:
            continue
        step = _shrunk([next(rest) for _ in group], rho / norm)
        torch._foreach_add_(step, group)
        moved += [s if s.dtype == p.dtype else s.to(p.dtype) for s, p in zip(step, group)]
    return moved


def with_gradient(group: dict[str, Any]) -> list[Tensor]:
    """Return the parameters of an optimizer's group that have a gradient."""
    return [p for p in group["params"] if p.grad is not None]


def sign(optimizer: Optimizer, group: dict[str, Any]) -> int:
    """Return 1, or -1 where the optimizer maximizes: the worst neighbour is down the gradient."""
    # of the group in torch's optimizers, of the optimizer itself in others
    return -1 if group.get("maximize", getattr(optimizer, "maximize", False)) else 1


def finite(params: list[Tensor]) -> bool:
    """Whether every number in the gradients of these parameters is finite; waits for a GPU."""
    grads = _gradients(params)
    return bool(_norm(grads).isfinite()) or bool(_largest(grads).isfinite())


def _gradients(params: list[Tensor]) -> Tensors:
    """Return the gradients, those of 16 bits in float32: their squares overflow at 256."""
    grads: Tensors = [p.grad for p in params if p.grad is not None]
    return [g.float() if g.dtype in (torch.float16, torch.bfloat16) else g for g in grads]


def _times(tensors: Tensors, sizes: Tensors | None) -> Tensors:
    return tensors if sizes is None else torch._foreach_mul(tensors, sizes)


def _norm(tensors: Tensors, order: float = 2) -> Tensor:
    """Return the norm over all tensors, on the device of the first."""
    norms: Tensors = torch._foreach_norm(tensors, order)
    if len({n.device for n in norms}) > 1:
        norms = [n.to(norms[0].device) for n in norms]
    return torch.linalg.vector_norm(torch.stack(norms), order)


def _largest(tensors: Tensors) -> Tensor:
    """Return the largest absolute value; nan where one is."""
    return _norm([t for t in tensors if t.numel()] or [tensors[0].new_zeros(1)], float("inf"))


def _by_largest(grads: Tensors, sizes: Tensors | None) -> tuple[Tensors, Tensor] | None:
    """Return directions and their norm, scaled to a largest component of 1.

    None stands for gradients that are not finite. Where all are zero, so are the directions.
    """
    for factor in (None, sizes):
        grads = _times(grads, factor)
        largest = _largest(grads)
        if not largest.isfinite():
            return None
        if largest == 0:
            return grads, torch.ones_like(largest)
        grads = [g / largest.to(g.device) for g in grads]
    return grads, _norm(grads)


def _shrunk(tensors: list[Tensor], scale: Tensor) -> Tensors:
    """Return the tensors times a scale, which is copied where they lie on several devices."""
    if {t.device for t in tensors} <= {scale.device}:
        return torch._foreach_mul(tensors, scale)
    return torch._foreach_mul(tensors, [scale.to(t.device) for t in tensors])
