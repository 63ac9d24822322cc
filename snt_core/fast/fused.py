"""Batch normalisation with what follows it, Eq. (1), and depthwise convolution, fast on a CPU.

Plain operations pass over an activation once each, and twice more for their gradients. The kernels
here (`native/*.cpp`) compute the same functions in as few passes as there are dependencies, sums in
float32 and double. They serve training: they have no second derivative, and running statistics move
as in `nn.BatchNorm2d`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snt_core.fast import kernels
from snt_core.methods.transform import SNTActivation

ACTS = {"none": 0, "relu": 1, "snt": 2}  # as in the source
Triple = tuple[Tensor | None, Tensor | None, Tensor | None]  # gamma, beta, zeta
ABSENT: Triple = (None, None, None)


def norm_act(
    x: Tensor, norm: nn.BatchNorm2d, act: nn.Module | None = None, plus: Tensor | None = None
) -> Tensor | None:
    """`act(norm(x) + plus)` with the batch's statistics; None where the kernels do not serve.

    They serve float32 and bfloat16 on a CPU, channels last in memory and a multiple of 16; an `act`
    that is `nn.ReLU` or, where nothing is added, Eq. (1).

    Args:
        x: B C H W.
        norm: in training mode; its running statistics move.
        act: None or `nn.Identity` for no activation.
        plus: B C H W, added before the activation.
    """
    kind = _kind(act)
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    plain = norm.affine and norm.momentum is not None and norm.weight.dtype == torch.float32
    if kind is None or not channels_last or not plain or not _fits(x, x.shape[1]):
        return None
    if plus is not None:
        if kind == "snt":
            return None
        plus = plus.to(x.dtype).contiguous(memory_format=torch.channels_last)
    triple = (act.gamma, act.beta, act.zeta) if kind == "snt" else ABSENT
    y, mean, variance = _NormAct.apply(
        x, plus, norm.weight, norm.bias, *triple, ACTS[kind], norm.eps
    )
    if norm.track_running_stats:
        n = x.numel() // x.shape[1]
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (n / max(1, n - 1)), norm.momentum)
    return y


def eq1(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor, dim: int) -> Tensor | None:
    """Eq. (1) along `dim`; None where the kernels do not serve.

    Memory of `x` must be dense in some order of the axes, as after a transposition; the output has
    that order too.
    """
    order = sorted(range(x.ndim), key=lambda i: (-x.stride(i), i))
    dense = x.permute(order)
    at = order.index(dim % x.ndim)
    inner = dense[(0,) * (at + 1)].numel()
    if not dense.is_contiguous() or not _fits(x, inner if inner > 1 else x.shape[dim]):
        return None
    y = _Eq1.apply(dense, gamma, beta, zeta, dense.shape[at], inner)
    return y.permute([order.index(i) for i in range(x.ndim)])


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor | None:
    """3x3 convolution of each channel alone, padding 1; None where the kernels do not serve.

    They serve float32 and bfloat16 on a CPU, channels last in memory and a multiple of 16. The
    output has the format of `x`; the weight is never rounded to it.

    Args:
        x: B C H W.
        weight: C 1 3 3, float32.
        stride: 1 or 2.
    """
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    plain = weight.shape == (x.shape[1], 1, 3, 3) and weight.dtype == torch.float32
    if stride not in (1, 2) or not channels_last or not plain or not _fits(x, x.shape[1]):
        return None
    return _Depthwise.apply(x, weight, stride)


def _kind(act: nn.Module | None) -> str | None:
    if act is None or type(act) is nn.Identity:
        return "none"
    return {nn.ReLU: "relu", SNTActivation: "snt"}.get(type(act))


def _fits(x: Tensor, lanes: int) -> bool:
    served = x.device.type == "cpu" and x.dtype in kernels.DTYPES
    return served and lanes % kernels.LANES == 0 and x.numel() > 0


def _floats(count: int, channels: int) -> tuple[Tensor, ...]:
    return torch.empty(count, channels).unbind()


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        plus: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        zeta: Tensor | None,
        act: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        y = torch.empty_like(x)
        mean, variance, inverse, scale, shift = _floats(5, channels)
        size = (x.numel() // channels, channels)
        triple = (gamma, beta, zeta)
        kernels.call(
            "norm_forward", x.dtype, x, plus, y, *size, act, float(eps), weight, bias, *triple,
            mean, variance, inverse, scale, shift,
        )  # fmt: skip
        ctx.mark_non_differentiable(mean, variance)
        ctx.size, ctx.act, ctx.added = size, act, plus is not None
        seen = y if ctx.added and act else None  # else the output need not be kept
        ctx.save_for_backward(x, seen, mean, inverse, scale, shift, *triple)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, seen, mean, inverse, scale, shift, *triple = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        d_x = torch.empty_like(x)
        d_plus = torch.empty_like(x) if ctx.added and ctx.act else None
        d_scale, d_shift, *d_triple = _floats(5, ctx.size[1])
        kernels.call(
            "norm_backward", x.dtype, grad, x, seen, d_x, d_plus, *ctx.size, ctx.act,
            scale, shift, mean, inverse, *triple, d_scale, d_shift, *d_triple,
        )  # fmt: skip
        if triple[0] is None:
            d_triple = ABSENT
        if ctx.added and not ctx.act:
            d_plus = grad  # what is added to the output as it is gets the output's gradient
        return d_x, d_plus, d_scale, d_shift, *d_triple, None, None


class _Eq1(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        zeta: Tensor,
        channels: int,
        inner: int,
    ) -> Tensor:
        y = torch.empty_like(x)
        ctx.size = (x.numel() // (channels * inner), channels, inner)
        kernels.call("act_forward", x.dtype, x, y, *ctx.size, gamma, beta, zeta)
        ctx.save_for_backward(x, gamma, beta, zeta)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *triple = ctx.saved_tensors
        d_x = torch.empty_like(x)
        d_triple = _floats(3, ctx.size[1])
        kernels.call(
            "act_backward", x.dtype, grad.contiguous(), x, d_x, *ctx.size, *triple, *d_triple
        )
        return d_x, *d_triple, None, None


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        b, c, h, w = x.shape
        out = (b, c, (h - 1) // stride + 1, (w - 1) // stride + 1)
        y = torch.empty(out, dtype=x.dtype, memory_format=torch.channels_last)
        taps = weight.reshape(c, 9).t().contiguous()
        ctx.size = (b, h, w, c, stride)
        kernels.call("depthwise_forward", x.dtype, x, taps, y, *ctx.size)
        ctx.save_for_backward(x, taps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        d_x, d_taps = torch.empty_like(x), torch.empty_like(taps)
        kernels.call("depthwise_backward", x.dtype, grad, x, taps, d_x, d_taps, *ctx.size)
        return d_x, d_taps.t().reshape(-1, 1, 3, 3), None
