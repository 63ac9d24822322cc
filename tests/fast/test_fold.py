"""Folding batch normalisation changes no function; a sweep counts as `evaluate` does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snt_core.data.load import load
from snt_core.fast.fold import fold
from snt_core.methods.compress.activations import quantize_static
from snt_core.methods.compress.prune import prune_magnitude, sparsity
from snt_core.methods.compress.quantize import fake_quantize_weights
from snt_core.nets import build
from snt_core.runs.kinds.one_shot import evaluations
from snt_core.training.engine import Engine
from snt_core.training.evaluate import evaluate

NETS = [
    *[("resnet20", variant) for variant in ("base", "preact", "snt", "snt-nofinal")],
    *[("mobilenet_v1", variant) for variant in ("base", "preact", "snt")],
    *[("mixer_s", variant) for variant in ("base", "snt", "snt-channels")],
    ("resnet18_cifar", "base"),
    ("vit_tiny", "base"),
]


def used(model: str, variant: str) -> nn.Module:
    """A net whose statistics and activations are no longer those of the start."""
    net = build(model, variant, 10, 0)
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


def pictures(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def watched(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: 2 * out)
    return net


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize(("model", "variant"), NETS)
def test_a_folded_net_computes_the_same(model, variant):
    net = used(model, variant).double()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    folded = fold(net)
    with torch.no_grad():
        torch.testing.assert_close(folded(pictures().double()), net(pictures().double()))
        torch.testing.assert_close(
            fold(net.float())(pictures()), net(pictures()), rtol=1e-3, atol=1e-3
        )
    assert norms(folded) == 0
    assert all(torch.equal(value, state[key]) for key, value in net.double().state_dict().items())


@pytest.mark.parametrize(
    "compress",
    [
        lambda net: fake_quantize_weights(net, 4),
        lambda net: quantize_static(net, pictures(8).double(), weight_bits=8, act_bits=8),
        lambda net: watched(net),
    ],
)
def test_convolutions_that_quantize_or_are_watched_stay_as_they_are(compress):
    net = compress(used("resnet20", "base").double())
    folded = fold(net)
    assert norms(folded) == norms(net) > 0
    with torch.no_grad():
        torch.testing.assert_close(folded(pictures().double()), net(pictures().double()))


@pytest.mark.parametrize("variant", ["base", "snt"])
def test_a_sweep_finds_what_evaluation_of_each_pruned_net_finds(variant):
    data = load("few-digits", 48)
    net = used("resnet20", variant)
    exact = Engine(device="cpu", dtype="fp32", fused=False)
    found = list(evaluations(net, (0.3, 0.8), data.test, data.facts, exact))
    for level, ours in zip((0.0, 0.3, 0.8), found, strict=True):
        pruned = prune_magnitude(net, level)
        assert sparsity(pruned) == pytest.approx(level, abs=1e-4)
        theirs = evaluate(pruned, data.test, data.facts)
        assert torch.equal(ours.correct, theirs.correct)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
