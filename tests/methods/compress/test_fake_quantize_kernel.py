"""The one-pass kernel of fake quantization against the plain operators that stand in without it."""

from __future__ import annotations

import pytest
import torch

from snt_core.fast import kernels
from snt_core.methods.compress.activations import _FakeQuantize, _OnePass, fake_quantize

pytestmark = pytest.mark.skipif(kernels.compiler() is None, reason="there is no C++ compiler")

LEVELS = [(0, 15), (128, 255), (7, 15), (255, 255), (3, 3)]  # zero point, top


def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if x.numel() > 8:
        # ties, ends, and values far outside
        x.view(-1)[:8] = torch.tensor([0.05, 0.15, -0.25, 0.0, -0.0, 1e9, -1e9, 1e-30])
    return x.to(dtype)


def both(x: torch.Tensor, zero_point: int, top: int) -> tuple:
    """Values and gradients of kernel and plain operators."""
    found = []
    for function in (_OnePass, _FakeQuantize):
        mine = x.clone(memory_format=torch.preserve_format).requires_grad_()
        scale = torch.tensor(0.1).requires_grad_()
        wide = mine if function is _OnePass else mine.float()
        y = function.apply(wide, scale, zero_point, top).to(x.dtype)
        grad = torch.sin(torch.arange(x.numel(), dtype=torch.float32)).view(x.shape).to(x.dtype)
        found.append((y, *torch.autograd.grad(y, (mine, scale), grad)))
    return tuple(found)


@pytest.mark.parametrize(("zero_point", "top"), LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (15,), (16,), (33,), (4099,), (2, 3, 5, 7)])
def test_values_and_gradients_are_those_of_plain_operators(shape, dtype, zero_point, top):
    ours, plain = both(numbers(shape, dtype), zero_point, top)
    assert torch.equal(ours[0], plain[0])
    assert torch.equal(ours[1], plain[1])
    torch.testing.assert_close(ours[2], plain[2], rtol=1e-4, atol=1e-3)


def test_memory_format_stays_and_strides_are_served():
    x = numbers((2, 16, 5, 7), torch.float32)
    for laid in (x.to(memory_format=torch.channels_last), x[:, ::2], x.transpose(1, 3)):
        ours, plain = both(laid, 7, 15)
        assert all(torch.equal(a, b) for a, b in zip(ours[:2], plain[:2], strict=True))
    last = x.to(memory_format=torch.channels_last)
    y = fake_quantize(last, torch.tensor(0.1), 7, 15)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_nan_stays():
    x = torch.full((20,), 0.3)
    x[[0, 17]] = torch.nan
    y = fake_quantize(x, torch.tensor(0.1), 7, 15)
    assert y.isnan().nonzero().flatten().tolist() == [0, 17]


def test_plain_operators_serve_without_a_compiler(monkeypatch):
    x = numbers((33,), torch.float32)
    with_it = fake_quantize(x, torch.tensor(0.1), 7, 15)
    monkeypatch.setattr(kernels, "available", lambda: False)
    monkeypatch.setattr(_OnePass, "apply", lambda *_: pytest.fail("the kernel ran"))
    assert torch.equal(fake_quantize(x, torch.tensor(0.1), 7, 15), with_it)


@pytest.mark.parametrize("function", [_OnePass, _FakeQuantize])
def test_second_derivatives_are_those_of_the_straight_through_gradient(function):
    x = torch.linspace(-1, 1, 21, requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    y = function.apply(x, scale, 4, 9)  # levels -0.4 to 0.5
    (first,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    inside = (x >= -0.4) & (x <= 0.5)
    torch.testing.assert_close(first, 2 * y * inside)
    torch.testing.assert_close(second, 2.0 * inside)
