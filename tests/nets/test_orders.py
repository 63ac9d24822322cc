"""What a variant is: which operations run, in which order, on which axis."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.methods.snt.transform import SNTActivation
from snt_core.nets import build
from snt_core.nets.layers import DepthwiseConv2d
from snt_core.nets.mixer import Mixer, MixerLayer

NAMES = {
    nn.Conv2d: "conv",
    DepthwiseConv2d: "depthwise",
    nn.BatchNorm2d: "bn",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky",
    nn.PReLU: "prelu",
    nn.GELU: "gelu",
    nn.LayerNorm: "ln",
    nn.Linear: "linear",
    nn.MaxPool2d: "pool",
    SNTActivation: "snt",
}


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64)


def order(module: nn.Module, x: Tensor) -> str:
    """What runs, in the order in which it runs."""
    ran: list[str] = []
    for leaf in module.modules():
        if type(leaf) in NAMES:
            leaf.register_forward_hook(lambda leaf, *_: ran.append(NAMES[type(leaf)]))
    module(x)
    return " ".join(ran)


@pytest.mark.parametrize(
    ("variant", "same", "wider"),
    [
        ("base", "conv bn relu conv bn relu", "conv bn relu conv bn conv bn relu"),
        ("leaky", "conv bn leaky conv bn leaky", "conv bn leaky conv bn conv bn leaky"),
        ("prelu", "conv bn prelu conv bn prelu", "conv bn prelu conv bn conv bn prelu"),
        ("eq1", "conv bn snt conv bn snt", "conv bn snt conv bn conv bn snt"),
        ("preact", "relu conv bn relu conv bn", "relu conv bn relu conv bn conv bn"),
        ("preact-leaky", "leaky conv bn leaky conv bn", "leaky conv bn leaky conv bn conv bn"),
        ("preact-prelu", "prelu conv bn prelu conv bn", "prelu conv bn prelu conv bn conv bn"),
        ("snt", "snt conv bn snt conv bn", "snt conv bn snt conv bn conv bn"),
        ("snt-nofinal", "snt conv bn snt conv bn", "snt conv bn snt conv bn conv bn"),
    ],
)
@pytest.mark.parametrize("model", ["resnet20", "resnet18", "resnet18_cifar"])
def test_order_in_a_resnet(model, variant, same, wider):
    net = build(model, variant, 10, 0)
    first = {"resnet20": 3, "resnet18": 2, "resnet18_cifar": 2}[model]
    width = len(net.stem[0].weight)
    x = torch.randn(2, width, 8, 8)
    assert order(net.stages[0], x) == same
    seen = []
    net.stages[first].shortcut.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert order(net.stages[first], x) == wider
    assert seen[0] is x  # the shortcut starts before the activation

    whole = order(build(model, variant, 10, 0), images()).split()
    pool = ["pool"] if model == "resnet18" else []
    act, last = same.split()[0], same.split()[-1]
    start = ["conv", "bn"] + ([last] if act == "conv" else []) + pool
    assert whole[: len(start) + 1] == [*start, act]
    end = "conv bn" if variant == "snt-nofinal" else f"bn {last if act == 'conv' else act}"
    assert whole[-3:] == [*end.split(), "linear"]


@pytest.mark.parametrize(
    ("variant", "block", "end"),
    [
        ("base", "depthwise bn relu conv bn relu", "conv bn relu linear"),
        ("preact", "relu depthwise bn relu conv bn", "conv bn relu linear"),
        ("snt", "snt depthwise bn snt conv bn", "conv bn snt linear"),
        ("snt-nofinal", "snt depthwise bn snt conv bn", "snt conv bn linear"),
    ],
)
def test_order_in_mobilenet(variant, block, end):
    ran = order(build("mobilenet_v1", variant, 10, 0), images())
    start = "conv bn relu" if variant == "base" else "conv bn"
    assert ran.startswith(f"{start} {block} {block} ")
    assert ran.endswith(end)
    assert ran.count(block) == 13


def test_without_shortcuts_the_order_changes_nothing():
    base, preact = (build("mobilenet_v1", variant, 10, 0) for variant in ("base", "preact"))
    x = images()
    assert torch.equal(base(x), preact(x))
    assert [p.shape for p in base.parameters()] == [p.shape for p in preact.parameters()]


@pytest.mark.parametrize(
    ("variant", "layer"),
    [
        ("base", "ln linear gelu linear ln linear gelu linear"),
        ("preact", "ln gelu linear gelu linear ln gelu linear gelu linear"),
        ("snt", "ln snt linear snt linear ln snt linear snt linear"),
        ("snt-channels", "ln snt linear snt linear ln snt linear snt linear"),
    ],
)
def test_order_in_mixer(variant, layer):
    ran = order(build("mixer_s", variant, 10, 0), torch.randn(2, 3, 32, 32))
    assert ran == " ".join(["conv", *[layer] * 8, "ln linear"])


def eq1(x: Tensor, act: SNTActivation, axes: str) -> Tensor:
    """Eq. (1) on `x` of three axes, its triples on that axis which is `c` in `axes`."""
    shape = [-1 if axis == "c" else 1 for axis in axes]
    gamma, beta, zeta = (p.reshape(shape) for p in (act.gamma, act.beta, act.zeta))
    return F.relu(x - gamma) - beta * F.relu(gamma - x) + zeta


@pytest.mark.parametrize(("variant", "axes"), [("snt", "bc."), ("snt-channels", "b.c")])
def test_mixers_triples_stand_on_the_axis_that_is_said(variant, axes):
    tokens, width, hidden = 4, 6, (5, 7)
    layer = MixerLayer(tokens, width, hidden, variant).double()
    torch.manual_seed(0)
    for p in layer.parameters():
        nn.init.normal_(p)
    x = torch.randn(3, tokens, width, dtype=torch.float64)

    mlp = layer.token_mixing
    y = eq1(layer.norm1(x), mlp.before, axes)
    y = torch.einsum("bnc,sn->bsc", y, mlp.linear1.weight) + mlp.linear1.bias[:, None]
    y = eq1(y, mlp.between, "bc.")
    y = torch.einsum("bsc,ns->bnc", y, mlp.linear2.weight) + mlp.linear2.bias[:, None]
    middle = x + y
    mlp = layer.channel_mixing
    y = eq1(layer.norm2(middle), mlp.before, "b.c") @ mlp.linear1.weight.T + mlp.linear1.bias
    y = eq1(y, mlp.between, "b.c") @ mlp.linear2.weight.T + mlp.linear2.bias
    torch.testing.assert_close(layer(x), middle + y, rtol=1e-12, atol=1e-12)


def test_mixer_takes_images_in_any_memory_format():
    sizes = {"image_size": 8, "patch_size": 4, "width": 6, "depth": 1, "mlp_dims": (5, 7)}
    net = Mixer(**sizes, variant="snt", num_classes=3)
    x = torch.randn(2, 3, 8, 8)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), net(x))
