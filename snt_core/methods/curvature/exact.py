"""Models made fit for exact second derivatives, and passes over data that must agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from snt_core.fast.fused import fuse
from snt_core.methods.models.wrapping import plain_copy
from snt_core.methods.tasks.objective import changed

Params = dict[str, Tensor]
HALVES = (torch.float16, torch.bfloat16)
# how far the mean losses of two passes may lie apart by rounding, relative to the loss
CLOSE = {torch.float64: 1e-9, torch.float32: 3e-5}
LEAST = 0.01  # a mean loss below it is compared as if it were as large


def exact_copy(model: nn.Module) -> nn.Module:
    """Return a plain copy in eval mode, in one floating-point format of at least float32.

    Raises:
        ValueError: a parameter is complex, or not there yet.
    """
    model = fuse(plain_copy(model), on=False)  # one-pass kernels have no second derivative
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # only the layout of gradients, which must be that of vectors
    for name, p in model.named_parameters():
        if p.is_complex():
            raise ValueError(f"parameter '{name}' is complex: its Hessian is not defined here")
    formats = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if len(formats) > 1 or formats & set(HALVES):
        model = model.to(reduce(torch.promote_types, formats, torch.float32))
    return model


class Folded(nn.Module):
    """A convolution followed by BatchNorm with running statistics, as one convolution."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None  # `fold_with` asks for both
        assert variance is not None
        # norm(conv(x)) = scale * (w x + b - mean) + norm.bias; what is rounded is w * scale, once
        scale = norm.weight * (variance + norm.eps).rsqrt()
        start = -mean if conv.bias is None else conv.bias - mean
        weight = conv.weight * scale.view(-1, 1, 1, 1)
        bias = norm.bias + start * scale
        return F.conv2d(
            x, weight.to(x.dtype), bias.to(x.dtype), conv.stride, conv.padding, conv.dilation,
            conv.groups,
        )  # fmt: skip


class _Call(nn.Module):
    """A model as the child of a module whose forward pass is a function of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: Callable[[nn.Module], Any]) -> Any:
        return call(self.model)


def call_with(
    model: nn.Module, params: Mapping[str, Tensor], call: Callable[[nn.Module], Any]
) -> Any:
    """Return `call(model)` with these parameters in the place of the model's own."""
    named = {f"model.{name}": p for name, p in params.items()}
    return functional_call(_Call(model), named, (call,))


class Passes:
    """The mean losses of passes over the data, which must be one function of the weights."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.close = CLOSE.get(dtype, 2e-2)
        self.first: float | None = None

    def compare(self, loss: float) -> None:
        """Raise ValueError where this pass's loss is not the first one's."""
        if self.first is None:
            self.first = loss
        if abs(loss - self.first) > self.close * max(abs(self.first), LEAST):
            raise changed(f"gave the losses {self.first:.8g} and {loss:.8g}")


@contextmanager
def with_second_derivatives() -> Iterator[None]:
    """Within it, operators without a second derivative are computed by ones that have one."""
    with _Smooth(), torch.backends.cudnn.flags(enabled=False):
        yield


class _Smooth(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return SUBSTITUTES.get(func, func)(*args, **(kwargs or {}))


class WrongSecond(TorchFunctionMode):
    """Notes in ``met`` whether a function was called whose second derivative torch has wrong."""

    met = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.met |= func is torch._weight_norm
        return func(*args, **(kwargs or {}))


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return F.relu6(input + 3) / 6


def _hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    return input * F.relu6(input + 3) / 6


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    return torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), ord=p, dim=-1)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Return v at the length g; torch's own has a wrong second derivative (as of torch 2.13)."""
    others = [axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim]
    if not others:  # a vector along its only axis
        return v * (g / v.abs())
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1))


SUBSTITUTES: dict[Callable[..., Any], Callable[..., Any]] = {
    F.hardsigmoid: _hardsigmoid,
    F.hardswish: _hardswish,
    torch._C._nn.hardsigmoid: _hardsigmoid,
    torch._C._nn.hardswish: _hardswish,
    torch.cdist: _cdist,
    torch._weight_norm: _weight_norm,
}
