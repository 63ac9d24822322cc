"""Batch normalisation with what follows it, Eq. (1), and depthwise convolution, fast on a CPU.

Plain operations pass over an activation once each, and twice more for their gradients. The kernels
(`kernels/*.cpp`) compute the same functions in as few passes as there are dependencies, sums in
float32 and double. They serve training: they have no second derivative, and running statistics move
as in `nn.BatchNorm2d`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snt_core.fast import kernels

ACTS = {"none": 0, "relu": 1, "snt": 2}  # as in the source
Triple = tuple[Tensor | None, Tensor | None, Tensor | None]  # gamma, beta, zeta
ABSENT: Triple = (None, None, None)


def fuse(model: nn.Module, on: bool = True) -> nn.Module:
    """Switch our modules with a one-pass kernel (they have a `fused`) to it, or back.

    Returns the model. A `fused` of other people's modules means something else, and stays.
    """
    module: Any  # torch's stubs let nothing but tensors and modules be set on a module
    for module in model.modules():
        if hasattr(module, "fused") and type(module).__module__.startswith("snt_core."):
            module.fused = on
    return model


def norm_act(
    x: Tensor, norm: nn.BatchNorm2d, act: nn.Module | None = None, plus: Tensor | None = None
) -> Tensor | None:
    """Return `act(norm(x) + plus)`, B C H W, or None where the kernels do not serve.

    They serve float32 and bfloat16 on a CPU, channels last in memory and a multiple of 16; an `act`
    that is `nn.ReLU` or, where nothing is added, Eq. (1).

    Args:
        x: B C H W.
        norm: in training mode: the batch's statistics count, and the running ones move.
        act: None or `nn.Identity` for no activation.
        plus: B C H W, added before the activation.
    """
    kind, momentum = _kind(act), norm.momentum
    triple = _triple(act) if kind == "snt" else ABSENT
    if not _fits(x, x.shape[1], plus, norm.weight, norm.bias, *triple):
        return None
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    plain = norm.affine and norm.weight.dtype == torch.float32
    if kind is None or momentum is None or not channels_last or not plain:
        return None
    if not _per_channel(x.shape[1], norm.weight, norm.bias, *triple):
        return None
    if plus is not None:
        # The gradient of Eq. (1) needs its input, which x alone does not give after an addition.
        if kind == "snt":
            return None
        plus = plus.to(x.dtype).contiguous(memory_format=torch.channels_last)
    y, mean, variance = _NormAct.apply(
        x, plus, norm.weight, norm.bias, *triple, ACTS[kind], norm.eps
    )
    if norm.track_running_stats:
        running_mean, running_var = norm.running_mean, norm.running_var
        batches = norm.num_batches_tracked
        assert running_mean is not None  # all three come with tracking
        assert running_var is not None
        assert batches is not None
        n = x.numel() // x.shape[1]
        batches.add_(1)
        running_mean.lerp_(mean, momentum)
        # Bessel's correction, as in torch: running variances are unbiased, the batch's are not.
        running_var.lerp_(variance * (n / max(1, n - 1)), momentum)
    return y


def eq1(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor, dim: int) -> Tensor | None:
    """Return Eq. (1) along `dim` of `x`, or None where the kernels do not serve.

    Memory of `x` must be dense in some order of the axes, as after a transposition; the output has
    that order too.
    """
    triple = (gamma, beta, zeta)
    if not kernels.served(x, *triple) or not _per_channel(x.shape[dim], *triple):
        return None
    strides = x.stride()
    # The kernel reads outer x channels x inner: with its axes in memory's order x is that.
    order = sorted(range(x.ndim), key=lambda i: (-strides[i], i))
    dense = x.permute(order)
    at = order.index(dim % x.ndim)
    inner = dense[(0,) * (at + 1)].numel()
    if not dense.is_contiguous() or not _fits(x, inner if inner > 1 else x.shape[dim]):
        return None
    y = _Eq1.apply(dense, gamma, beta, zeta, dense.shape[at], inner)
    return y.permute([order.index(i) for i in range(x.ndim)])


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor | None:
    """Return the 3x3 convolution of each channel alone, or None where the kernels do not serve.

    They serve float32 and bfloat16 on a CPU, channels last in memory and a multiple of 16.
    Padding is 1. The output, B C H/stride W/stride, has the format of `x`; the weight is never
    rounded to it.

    Args:
        x: B C H W.
        weight: C 1 3 3, float32.
        stride: 1 or 2.
    """
    if not _fits(x, x.shape[1], weight):
        return None
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    plain = weight.shape == (x.shape[1], 1, 3, 3) and weight.dtype == torch.float32
    if stride not in (1, 2) or not channels_last or not plain:
        return None
    return _Depthwise.apply(x, weight, stride)


def _kind(act: nn.Module | None) -> str | None:
    """Return which of `ACTS` an activation is; None if it is none of them."""
    # the type itself: a subclass may compute something else
    if act is None or type(act) is nn.Identity:
        return "none"
    return "relu" if type(act) is nn.ReLU else getattr(act, "one_pass_kernel", None)


def _triple(act: Any) -> Triple:
    return act.gamma, act.beta, act.zeta


def _fits(x: Tensor, lanes: int, *others: Tensor | None) -> bool:
    """Whether the kernels serve `x` and the others; their inner loop runs over `lanes` numbers."""
    return kernels.served(x, *others) and lanes % kernels.LANES == 0 and x.numel() > 0


def _per_channel(channels: int, *parameters: Tensor | None) -> bool:
    """Whether these lie in memory as the kernels read them, `channels` float32 numbers each."""
    given = [p for p in parameters if p is not None]
    return all(
        p.shape == (channels,) and p.dtype == torch.float32 and p.is_contiguous() for p in given
    )


def _one_gradient(grad: Tensor) -> Tensor:
    """Return the gradient.

    Raises:
        RuntimeError: many are computed at once, as by ``is_grads_batched``.
    """
    if not kernels.served(grad):
        raise RuntimeError(
            "a one-pass kernel has one gradient at a time: call fuse(model, on=False)"
        )
    return grad


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
        # Where something was added before ReLU, the output's sign says where the gradient passes.
        # Else `backward` computes the activation's input anew from x, which is cheaper to keep.
        seen = y if ctx.added and act else None
        ctx.save_for_backward(x, seen, mean, inverse, scale, shift, *triple)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, seen, mean, inverse, scale, shift, *triple = ctx.saved_tensors
        grad = _one_gradient(grad).contiguous(memory_format=torch.channels_last)
        d_x = torch.empty_like(x)
        d_plus = torch.empty_like(x) if ctx.added and ctx.act else None
        d_scale, d_shift, *d_triple = _floats(5, ctx.size[1])
        kernels.call(
            "norm_backward", x.dtype, grad, x, seen, d_x, d_plus, *ctx.size, ctx.act,
            scale, shift, mean, inverse, *triple, d_scale, d_shift, *d_triple,
        )  # fmt: skip
        of_triple = ABSENT if triple[0] is None else d_triple
        if ctx.added and not ctx.act:
            d_plus = grad  # what is added to the output as it is gets the output's gradient
        return d_x, d_plus, d_scale, d_shift, *of_triple, None, None


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
        grad, d_x = _one_gradient(grad).contiguous(), torch.empty_like(x)
        d_triple = _floats(3, ctx.size[1])
        kernels.call("act_backward", x.dtype, grad, x, d_x, *ctx.size, *triple, *d_triple)
        return d_x, *d_triple, None, None


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        b, c, h, w = x.shape
        out = (b, c, (h - 1) // stride + 1, (w - 1) // stride + 1)
        y = torch.empty(out, dtype=x.dtype, memory_format=torch.channels_last)
        taps = weight.reshape(c, 9).t().contiguous()  # 9 x channels, as the kernel reads them
        ctx.size = (b, h, w, c, stride)
        kernels.call("depthwise_forward", x.dtype, x, taps, y, *ctx.size)
        ctx.save_for_backward(x, taps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        grad = _one_gradient(grad).contiguous(memory_format=torch.channels_last)
        d_x, d_taps = torch.empty_like(x), torch.empty_like(taps)
        kernels.call("depthwise_backward", x.dtype, grad, x, taps, d_x, d_taps, *ctx.size)
        return d_x, d_taps.t().reshape(-1, 1, 3, 3), None
