"""Layers on integer kernels against integer arithmetic by hand; what a latency says of itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.methods.compress.activations import calibrate, quantize_static
from snt_core.methods.compress.pact import prepare_qat
from snt_core.methods.compress.quantize import freeze, quantize_weights
from snt_core.methods.export.integer import IntegerLayer, with_integer_kernels
from snt_core.methods.export.latency import latency

X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LAYERS = {
    "plain": nn.Conv2d(3, 8, 3),
    "padded": nn.Conv2d(3, 6, 3, stride=2, padding=1, dilation=2, bias=False),
    "groups": nn.Conv2d(3, 9, 3, groups=3),
    "linear": nn.Linear(12, 7),
    "linear without bias": nn.Linear(12, 7, bias=False),
}


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()


def by_hand(layer: nn.Module, x: Tensor) -> Tensor:
    """Sums of products of integers, int64, times both scales."""
    quantizer, levels = layer.act_quantizer, layer.weight_codes["weight"]
    top = 2**quantizer.act_bits - 1
    codes = (x * (1 / quantizer.scale)).round() + quantizer.zero_point
    read = codes.clamp(0, top).long() - quantizer.zero_point
    weight = levels.codes(layer.weight).long()
    scale = (levels.scale.double() * quantizer.scale.double()).reshape(-1)
    if isinstance(layer, nn.Linear):
        return F.linear(read, weight) * scale + (0 if layer.bias is None else layer.bias)
    sums = F.conv2d(read, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    bias = 0 if layer.bias is None else layer.bias.view(-1, 1, 1)
    return sums * scale.view(-1, 1, 1) + bias


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [(8, 8), (4, 8), (3, 5)])
def test_a_layer_multiplies_integers(layer, per_channel, bits):
    weight_bits, act_bits = bits
    made = {"weight_bits": weight_bits, "act_bits": act_bits, "per_channel": per_channel}
    model = quantize_static(nn.Sequential(layer), X, **made)
    fast, found = with_integer_kernels(model)
    assert found == 1
    assert isinstance(fast[0], IntegerLayer)
    x = 1.3 * X  # beyond the range, too
    torch.testing.assert_close(
        fast(x).double(), by_hand(model[0], x).detach(), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("form", ["symmetric", "affine"])
def test_learned_levels_are_served(form):
    model = prepare_qat(net(), X, weight_bits=4, act_bits=4, form=form).eval()
    fast, found = with_integer_kernels(model)
    assert found == 3
    torch.testing.assert_close(fast(X), model(X), rtol=0, atol=2e-2 * model(X).abs().max().item())


def test_layers_that_have_no_integer_kernel_stay_as_they_are():
    odd = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 2),
        type("Own", (nn.Conv2d,), {})(4, 4, 1),
    )
    model = quantize_static(odd, X, weight_bits=8, act_bits=8)
    for same in (model, calibrate(net(), X, 8), quantize_weights(net(), 8)):
        fast, found = with_integer_kernels(same)
        assert found == 0
        assert torch.equal(fast(X), same(X))


def test_a_changed_weight_is_not_taken_for_its_codes():
    model = quantize_static(net(), X, weight_bits=8, act_bits=8)
    with torch.no_grad():
        model[0].weight += 0.01
    assert with_integer_kernels(model)[1] == 2


def test_torch_measures_integers_and_calls_the_rest_simulated():
    model, threads = net(), torch.get_num_threads()
    small = quantize_static(model, X, weight_bits=8, act_bits=8)
    measured = latency(model, small, X, engine="torch", repeats=3, threads=1)
    assert (measured.kind, measured.integer_products, measured.products) == ("measured", 3, 3)
    assert measured.batch == 4
    assert measured.float_ms > 0 < measured.quantized_ms
    assert measured.engine == f"torch {torch.__version__}"
    weights = sum(m.weight.numel() for m in (model[0], model[2], model[6]))
    assert measured.float_bytes - measured.quantized_bytes == pytest.approx(3 * weights, rel=0.2)
    assert "measured, 3 of 3 products in integers" in str(measured)
    simulated = latency(model, small, X, engine="simulated", repeats=1)
    assert (simulated.kind, simulated.integer_products) == ("simulated", 0)
    # float inputs: nothing to multiply in integers
    only = latency(model, quantize_weights(model, 8), X, engine="torch", repeats=1)
    assert only.kind == "simulated"
    assert torch.get_num_threads() == threads


def test_onnxruntime_measures_what_it_merged():
    model = net()
    eight = latency(model, quantize_static(model, X, weight_bits=8, act_bits=8), X, repeats=3)
    assert eight.kind == "measured"
    assert 0 < eight.integer_products <= eight.products == 3
    assert eight.engine.startswith("onnxruntime 1.")
    assert eight.quantized_bytes < eight.float_bytes
    four = freeze(prepare_qat(model, X, weight_bits=4, act_bits=4, edge_bits=4))
    found = latency(model, four, X, repeats=1)
    assert (found.kind, found.integer_products) == ("simulated", 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"engine": "tensorrt"}, "engine is 'tensorrt'; it must be"),
        ({"threads": 0}, "threads 0 and repeats 1 must be at least 1"),
        ({"inputs": X[:0]}, "a batch of at least 1"),
        ({"inputs": X.to("meta")}, "on the CPU"),
    ],
)
def test_arguments_out_of_range_are_refused(changed, said):
    given = {"inputs": X, "engine": "torch", "repeats": 1} | changed
    with pytest.raises(ValueError, match=said):
        latency(net(), net(), **given)


def test_attention_that_reads_its_layers_weights_stays_as_it_is():
    torch.manual_seed(0)
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = torch.randn(3, 4, 8)
    model = nn.Sequential(nn.Linear(8, 8), attention, nn.Linear(8, 3)).eval()
    model = quantize_static(model, x, weight_bits=8, act_bits=8)
    fast, found = with_integer_kernels(model)
    assert found == 2
    # a number between two levels may go to the other one
    torch.testing.assert_close(fast(x), model(x), rtol=0, atol=0.02)


def test_one_sample_needs_no_batch():
    model = quantize_static(nn.Sequential(nn.Conv2d(3, 4, 3)), X, weight_bits=8, act_bits=8)
    fast, _ = with_integer_kernels(model)
    torch.testing.assert_close(fast(X[0]), fast(X)[0])
