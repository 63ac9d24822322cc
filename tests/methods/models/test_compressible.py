"""Outputs lie where the layer computes them: what belongs to one output moves that output only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, nn

from snt_core.methods.analysis.entropy import weight_entropy
from snt_core.methods.analysis.weights import effective_rank, explained_variance
from snt_core.methods.compress.levels import codes
from snt_core.methods.compress.quantize import fake_quantize_weights, freeze, quantize_weights
from snt_core.methods.curvature.scale_free import filter_scale
from snt_core.methods.curvature.surface import filter_direction, loss_surface
from snt_core.methods.models.compressible import output_axis, outputs_by_name, outputs_of

LAYERS = {
    "linear": lambda: nn.Linear(6, 4, bias=False),
    "grouped": lambda: nn.Conv2d(6, 4, 3, groups=2, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(6, 4, 3, bias=False),
    "transposed, 1 axis": lambda: nn.ConvTranspose1d(6, 4, 3, bias=False),
    "transposed, 3 axes": lambda: nn.ConvTranspose3d(6, 4, 2, bias=False),
    "transposed, grouped": lambda: nn.ConvTranspose2d(6, 4, 3, groups=2, bias=False),
    "transposed, depthwise": lambda: nn.ConvTranspose2d(4, 4, 3, groups=4, bias=False),
}


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    if name == "linear":
        return layer, torch.randn(5, 6, dtype=torch.float64)
    spatial = layer.weight.ndim - 2
    return layer, torch.randn(2, layer.in_channels, *[5] * spatial, dtype=torch.float64)


def behind_each_output(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return which weights each output depends on, from the gradients."""
    y = layer(x).movedim(1, 0)
    return [torch.autograd.grad(c.sum(), layer.weight, retain_graph=True)[0] != 0 for c in y]


@pytest.mark.parametrize("name", LAYERS)
def test_a_row_of_the_weight_makes_one_output(name: str) -> None:
    layer, x = built(name)
    outputs, y = outputs_of(layer), layer(x)
    factors = torch.arange(1.0, 5.0, dtype=torch.float64)
    with torch.no_grad():
        rows = outputs.rows(layer.weight).clone()
        layer.weight *= outputs.spread(factors, layer.weight)
        assert torch.equal(outputs.rows(layer.weight), rows * factors[:, None])
        expected = y * factors.view(-1, *[1] * (y.ndim - 2))
    torch.testing.assert_close(layer(x), expected)
    assert len(rows) == 4
    assert output_axis(layer) == int(name.startswith("transposed"))


@pytest.mark.parametrize("clipping", ["max", "mse"])
@pytest.mark.parametrize("name", LAYERS)
def test_scales_by_channel_do_not_mix_outputs(name: str, clipping: str) -> None:
    """Rounding commutes with rescaling an output by a power of two, if it has its own scale."""
    layer, x = built(name)
    options = {"per_channel": True, "clipping": clipping}
    y = quantize_weights(layer, 4, **options)(x)
    factors = 2.0 ** torch.arange(-4, 4, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.weight *= outputs_of(layer).spread(factors, layer.weight)
    shape = (-1, *[1] * (y.ndim - 2))
    student = fake_quantize_weights(layer, 4, **options)
    torch.testing.assert_close(student(x), y * factors.view(shape), rtol=1e-9, atol=1e-12)
    assert torch.equal(freeze(student)(x), student(x))


@pytest.mark.parametrize("weight_bits", range(2, 9))
def test_transposed_scales_equal_torchs_along_axis_1(weight_bits: int) -> None:
    layer = built("transposed")[0].float()
    top = 2 ** (weight_bits - 1) - 1
    scale = layer.weight.detach().abs().amax((0, 2, 3)) / top
    zero = torch.zeros(4, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(layer.weight, scale, zero, 1, -top, top)
    ours = quantize_weights(layer, weight_bits, per_channel=True).weight
    assert torch.equal(ours, expected)
    integers, scales = codes(layer.weight, weight_bits, True, outputs_of(layer))
    assert scales.shape == (1, 4, 1, 1)
    assert torch.equal(integers * scales, expected)
    assert (
        weight_entropy(layer, weight_bits, per_channel=True).counts[""]
        == torch.histc(integers.float(), 2**weight_bits, -(top + 1), top).int().tolist()
    )


@pytest.mark.parametrize("name", LAYERS)
def test_directions_and_scales_have_the_length_of_the_output_they_belong_to(name: str) -> None:
    layer, x = built(name)
    outputs = outputs_of(layer)
    direction = filter_direction(layer.weight, Generator().manual_seed(0), outputs)
    scale = filter_scale(layer).view_as(layer.weight)
    for used in behind_each_output(layer, x):
        length = layer.weight.detach()[used].norm()
        torch.testing.assert_close(direction[used].norm(), length)
        torch.testing.assert_close(scale[used], length.expand(int(used.sum())))


def test_the_surface_moves_transposed_convolutions_output_by_output() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 2, bias=False), nn.Flatten(), nn.Linear(27, 3))
    assert [o.axis for o in outputs_by_name(model).values()] == [1, 0]
    with torch.no_grad():
        model[0].weight[:, 1] = 0  # an output of zeros is not moved
    images, labels = torch.randn(4, 2, 2, 2), torch.tensor([0, 1, 2, 0])
    found = loss_surface(model, (images, labels), points=3)
    with torch.no_grad():
        model[2].weight.view(3, 3, 9)[:, 1] = 0
    assert found.losses[1][1] == loss_surface(model, (images, labels), points=3).losses[1][1]


def test_the_surface_moves_a_normalised_weight_as_it_is_used() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    images, labels = torch.randn(4, 2, 2, 2), torch.tensor([0, 1, 2, 0])
    expected = loss_surface(model, (images, labels), points=3)
    nn.utils.parametrizations.weight_norm(model[1])
    found = loss_surface(model, (images, labels), points=3)
    torch.testing.assert_close(torch.tensor(found.losses), torch.tensor(expected.losses))


@pytest.mark.parametrize("name", ["transposed", "transposed, grouped", "linear"])
def test_principal_components_are_those_of_the_outputs(name: str) -> None:
    layer, x = built(name)
    weight = layer.weight.detach()
    rows = np.stack([weight[used].numpy() for used in behind_each_output(layer, x)])
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    expected = values.cumsum() / values.sum()
    np.testing.assert_allclose(explained_variance(layer).numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(effective_rank(layer), effective_rank(torch.tensor(rows)))


def test_a_layers_weight_is_the_one_that_it_uses() -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    assert torch.equal(explained_variance(layer), explained_variance(layer.weight))
    with pytest.raises(ValueError, match="LSTM has 2 weights"):
        explained_variance(nn.LSTM(3, 3))


# number formats -----------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("clipping", ["max", "mse"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("std", [1e-5, 2e-4, 2e-2, 100.0])
def test_half_precision_is_rounded_with_scales_in_float32(
    std: float, dtype: torch.dtype, clipping: str, per_channel: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 64).to(dtype)
    layer.weight.data = (std * torch.randn(64, 64)).to(dtype)
    wide = nn.Linear(64, 64)
    wide.weight.data = layer.weight.data.float()
    options = {"per_channel": per_channel, "clipping": clipping}
    ours = quantize_weights(layer, 8, **options).weight
    assert ours.dtype == dtype
    assert torch.equal(ours, quantize_weights(wide, 8, **options).weight.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_filter_lengths_do_not_overflow_in_half_precision(dtype: torch.dtype) -> None:
    layer = nn.Linear(1000, 2, bias=False).to(dtype)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[2000.0], [1e-6]]).to(dtype)
    expected = layer.weight.double().norm(dim=1)[:, None].expand(2, 1000)
    torch.testing.assert_close(
        filter_scale(layer).double().view(2, 1000), expected, rtol=1e-5, atol=0
    )
    direction = filter_direction(layer.weight, Generator().manual_seed(0))
    assert direction.dtype == dtype
    lengths = direction.double().norm(dim=1)
    torch.testing.assert_close(lengths[0], expected[0, 0], rtol=1e-2, atol=0)


def test_memory_formats_do_not_matter() -> None:
    torch.manual_seed(0)
    for layer in (nn.Conv2d(4, 6, 3), nn.ConvTranspose2d(4, 6, 3, groups=2)):
        plain = quantize_weights(layer, 4, per_channel=True).weight
        last = quantize_weights(layer.to(memory_format=torch.channels_last), 4, per_channel=True)
        assert torch.equal(last.weight, plain)
        layer.weight = nn.Parameter(layer.weight.detach().transpose(2, 3).contiguous().mT)
        assert torch.equal(quantize_weights(layer, 4, per_channel=True).weight, plain)


def test_tensors_without_real_values_are_refused() -> None:
    for weight, words in (
        (torch.ones(3, 3, dtype=torch.complex64), "complex64"),
        (torch.ones(3, 3, dtype=torch.int64), "int64"),
        (torch.ones(3, 3, device="meta"), "meta device"),
    ):
        with pytest.raises(ValueError, match=f"the weight is.* {words}"):
            codes(weight, 4)
    for weight in (torch.ones(3, 3, dtype=torch.complex64), torch.ones(3, 3, device="meta")):
        with pytest.raises(ValueError, match="need real numbers"):
            explained_variance(weight)
