"""Depthwise convolutions against torch's own, in every format, compressed and compiled."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snt_core.methods.compress.prune import prune_magnitude, sparsity
from snt_core.methods.compress.quantize import fake_quantize_weights, quantize_weights
from snt_core.nets.layers import DepthwiseConv2d, depthwise_bn


def depthwise(stride: int, channels: int = 8) -> tuple[DepthwiseConv2d, nn.Conv2d]:
    """Ours, and torch's own with the same weights."""
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    ours = DepthwiseConv2d(channels, 3, stride)
    ours.load_state_dict(plain.state_dict())
    return ours, plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("stride", "size"), [(1, 8), (2, 8), (1, 2), (2, 2), (1, 1)])
def test_depthwise_equals_torchs_convolution(stride, size, dtype):
    ours, plain = (m.to(dtype) for m in depthwise(stride))
    x = torch.randn(2, 8, size, size, dtype=dtype)
    assert torch.equal(ours(x), plain(x))


@pytest.mark.parametrize(("stride", "size"), [(2, 8), (1, 2)])
def test_slow_cases_of_bfloat16_run_in_the_format_of_the_weight(stride, size):
    ours, plain = depthwise(stride)
    x = torch.randn(2, 8, size, size).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
        low = plain(x)
    exact = plain(x.detach().float())
    assert y.dtype == low.dtype == torch.bfloat16
    assert torch.equal(y, exact.bfloat16())
    y.float().square().sum().backward()
    assert ours.weight.grad.dtype == torch.float32
    # the weight is not rounded: torch's layer in bfloat16 cannot say the same
    assert (low.float() - exact).norm() > 1.2 * (y.float() - exact).norm()


def test_other_cases_follow_autocast():
    ours, plain = depthwise(1)
    x = torch.randn(2, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), plain(x))
        assert ours(x).dtype == torch.bfloat16


def test_depthwise_is_compressed_and_compiled_as_any_convolution():
    ours, plain = depthwise(2)
    x = torch.randn(2, 8, 8, 8)
    assert torch.equal(prune_magnitude(ours, 0.5).weight, prune_magnitude(plain, 0.5).weight)
    assert sparsity(prune_magnitude(ours, 0.5)) == 0.5
    assert torch.equal(quantize_weights(ours, 4)(x), quantize_weights(plain, 4)(x))
    tuned = fake_quantize_weights(ours, 4)
    with torch.autocast("cpu", torch.bfloat16):
        tuned(x).float().sum().backward()
        compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)(x.bfloat16())
        assert torch.equal(compiled, ours(x.bfloat16()))
    assert tuned.parametrizations.weight.original.grad.any()


def test_depthwise_keeps_the_variance_that_he_et_al_want():
    conv = depthwise_bn(1024, 3)[0]
    assert conv.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.03)
