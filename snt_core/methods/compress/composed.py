"""Fake quantization of differentiable operators, for whatever follows a model operator by operator.

torch.export, jit.trace, torch.compile, make_fx and torch.func see into it, in both modes of
differentiation; :func:`snt_core.methods.compress.activations.fake_quantize` calls it there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def composed(x: Tensor, scale: Tensor, zero_point: Tensor | int, top: int) -> Tensor:
    """Return ``scale * (code - zero_point)`` of the nearest code in 0..top, of plain operators.

    Value and gradients are those of ``fake_quantize``: x passes straight through between the levels
    of codes 0 and top, and beyond them the scale gets their codes, minus zero_point.

    Args:
        x: any shape, float32 or float64.
        scale: a scalar of x's dtype, above 0.
        zero_point: a whole number in 0..top.
    """
    # times the reciprocal, as torch's kernels do: division differs from them near ties
    codes = ((x * (1 / scale)).round() + zero_point).clamp(0, top)
    rounded = (codes - zero_point) * scale
    # jit.trace compares a trace with one without gradients, where forward mode works, too
    straight = torch.is_grad_enabled() or forward_ad._current_level >= 0
    if not straight and not torch.jit.is_tracing():
        return rounded
    clipped = x.clamp(scale * -zero_point, scale * (top - zero_point))
    return rounded.detach() + (clipped - clipped.detach())
