"""Oracles: scipy's entropy, nearest levels in numpy, torch's observers and quantizers."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.ao.quantization import MinMaxObserver

from snt_core.methods.analysis.entropy import (
    CodeEntropy,
    activation_entropy,
    code_entropy,
    weight_entropy,
)
from tests.small import conv_net, images


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(2)


def test_code_entropy() -> None:
    codes = torch.randint(-7, 8, (6, 50), dtype=torch.int8)
    shares = np.unique(codes.numpy(), return_counts=True)[1]
    assert code_entropy(codes, 4) == pytest.approx(stats.entropy(shares, base=2), rel=1e-12)
    assert code_entropy(torch.arange(256), 8) == pytest.approx(8)
    assert code_entropy(torch.tensor([3, 3, 3]), 2) == 0


@pytest.mark.parametrize("per_channel", [False, True])
def test_weight_entropy(per_channel: bool) -> None:
    model = conv_net()
    found = weight_entropy(model, 3, per_channel=per_channel)
    assert list(found.layers) == ["0", "3", "6"]
    entropies, sizes = [], []
    for name in found.layers:
        w = model[int(name)].weight.detach().flatten(1).double().numpy()
        top = np.abs(w).max(1, keepdims=True) if per_channel else np.abs(w).max()
        levels = np.arange(-4, 4)
        nearest = np.abs((w / top * 3)[..., None] - levels).argmin(-1)
        assert found.counts[name] == [(nearest == k).sum() for k in range(8)]
        assert found.counts[name][0] == 0
        entropies.append(stats.entropy(found.counts[name], base=2))
        sizes.append(w.size)
        assert found.layers[name] == pytest.approx(entropies[-1])
    assert found.mean == pytest.approx(np.average(entropies, weights=sizes))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("batch_size", [3, 128])
def test_activation_entropy_counts_as_torch_quantizes(bits: int, batch_size: int) -> None:
    model, x = conv_net(), images()
    found = activation_entropy(model, x, bits, batch_size=batch_size)
    plain = copy.deepcopy(model).eval()
    inputs = {"0": x, "3": plain[:3](x), "6": plain[:6](x)}
    assert list(found.layers) == list(inputs)
    for name, value in inputs.items():
        value = value.detach()
        observer = MinMaxObserver(quant_min=0, quant_max=2**bits - 1)  # per tensor, affine
        scale, zero = (q.item() for q in (observer(value), observer.calculate_qparams())[1])
        levels = torch.fake_quantize_per_tensor_affine(value, scale, zero, 0, 2**bits - 1)
        codes = (levels / scale).round().long() + zero
        # convolutions of another batch differ in the last bit, which can move a value over a tie
        theirs = codes.flatten().bincount(minlength=2**bits)
        assert (theirs - torch.tensor(found.counts[name])).abs().sum() <= 4
        assert sum(found.counts[name]) == value.numel()
        assert found.layers[name] == pytest.approx(stats.entropy(theirs, base=2), abs=1e-2)
    sizes = [v.numel() for v in inputs.values()]
    assert found.mean == pytest.approx(np.average(list(found.layers.values()), weights=sizes))


def test_ranges_of_codes_contain_zero_and_zeros_have_no_entropy() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    shifted = torch.tensor([[10.0, 11.0], [14.0, 15.0]])
    assert activation_entropy(model, shifted).counts["0"] == [0] * 10 + [1, 1, 0, 0, 1, 1]
    below = activation_entropy(model, -shifted).counts["0"]
    assert below == [1, 1, 0, 0, 1, 1] + [0] * 10
    # zero falls between two levels and is moved to one: the far end has no level left, and clips
    around = activation_entropy(model, torch.tensor([[-1.0, 1.0]])).counts["0"]
    assert around == [1] + [0] * 14 + [1]
    zeros = activation_entropy(model, torch.zeros(4, 2))
    assert (zeros.mean, zeros.counts["0"][0]) == (0, 8)


def test_layers_that_run_twice_count_twice_and_unused_ones_are_left_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.twice(self.twice(x))

    found = activation_entropy(Net(), torch.randn(5, 3))
    assert list(found.layers) == ["twice"]
    assert sum(found.counts["twice"]) == 30


def test_preprocess_and_autocast_change_nothing() -> None:
    raw = torch.randint(256, (9, 3, 8, 8), dtype=torch.uint8)

    def normalise(x: Tensor) -> Tensor:
        return x.float().div(255).sub(0.5)

    plain = activation_entropy(conv_net(), normalise(raw))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert activation_entropy(conv_net(), raw, preprocess=normalise) == plain


def test_model_is_left_as_it_was() -> None:
    model = conv_net()
    state = copy.deepcopy(model.state_dict())
    activation_entropy(model, images())
    weight_entropy(model)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_findings_are_json() -> None:
    found = weight_entropy(conv_net())
    assert CodeEntropy(**json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: code_entropy(torch.tensor([0, 4]), 2), "from 0 to 4"),
        (lambda: code_entropy(torch.tensor([0.0]), 2), "float32"),
        (lambda: code_entropy(torch.tensor([], dtype=torch.long), 2), "0 in all"),
        (lambda: code_entropy(torch.tensor([0]), 1), "1 bits are outside 2..8"),
        (lambda: weight_entropy(nn.ReLU()), "no convolution or linear layer"),
        (lambda: activation_entropy(conv_net(), images(), 9), "9 bits are outside"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
