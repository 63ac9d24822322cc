"""Eq. (1) against its printed definition, and the parameter counts of the nets."""

from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional

from snt_core.fast.fused import fuse
from snt_core.methods.snt import transform
from snt_core.methods.snt.transform import SNTActivation, snt_activation
from snt_core.nets import build
from snt_core.training.engine import can_compile


def printed(x: float, gamma: float, beta: float, zeta: float) -> float:
    """Eq. (1), a number at a time."""
    return x - gamma + zeta if x > gamma else beta * (x - gamma) + zeta


def activation(channels: int, dim: int = 1) -> SNTActivation:
    act = SNTActivation(channels, dim=dim).double()
    g = torch.Generator().manual_seed(1)
    for p in act.parameters():
        p.data.copy_(torch.randn(channels, generator=g))
    return act


@pytest.mark.parametrize(("shape", "dim"), [((2, 3, 4, 4), 1), ((2, 5, 3), -1), ((4, 3), 1)])
def test_equals_the_printed_definition(shape, dim):
    act = activation(3, dim)
    x = torch.randn(shape, dtype=torch.float64)
    out = act(x)
    triples = torch.stack([act.gamma, act.beta, act.zeta]).tolist()
    for index in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        c = index[dim]
        expected = printed(x[tuple(index)].item(), *(row[c] for row in triples))
        assert out[tuple(index)].item() == pytest.approx(expected, abs=1e-12)


def test_the_boundary_belongs_to_the_lower_branch():
    one = torch.ones(1, dtype=torch.float64)
    assert snt_activation(one, one, 0.5 * one, 2 * one).item() == 2.0


def test_gradients():
    act = activation(3)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    inputs = (x, *(p.view(3, 1, 1) for p in (act.gamma, act.beta, act.zeta)))
    assert torch.autograd.gradcheck(snt_activation, inputs)
    assert torch.autograd.gradgradcheck(snt_activation, inputs)


AXES = [((2, 3, 4, 4), 1), ((2, 5, 3), -1), ((2, 3, 5), 1), ((3, 4), 0), ((2, 2, 3, 4), -2)]


@pytest.mark.parametrize(("shape", "dim"), AXES)
def test_plain_form_has_the_formulas_derivatives(shape, dim):
    """First and second, of the input and of the triple, against torch.where's."""
    act = activation(3, dim)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    v = [torch.randn_like(p) for p in (x, *act.parameters())]

    def derivatives(plain):
        triple = (act.gamma, act.beta, act.zeta)
        of = act(x) if plain else transform._along(snt_activation, x, *triple, dim)
        loss = (of**3).sum()
        grads = torch.autograd.grad(loss, (x, *triple), create_graph=True)
        along = sum((g * w).sum() for g, w in zip(grads, v, strict=True))
        return [of, *grads, *torch.autograd.grad(along, (x, *triple))]

    for ours, formula in zip(derivatives(True), derivatives(False), strict=True):
        torch.testing.assert_close(ours, formula, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("shape", "dim"), AXES)
def test_plain_form_is_differentiable_twice(shape, dim):
    act = activation(3, dim)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    inputs = (x, act.gamma, act.beta, act.zeta)
    plain = partial(transform._plain, dim=dim)
    assert torch.autograd.gradcheck(plain, inputs)
    assert torch.autograd.gradgradcheck(plain, inputs)


def test_starts_as_leaky_relu():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(SNTActivation(3)(x), nn.functional.leaky_relu(x, 0.25))


def test_keeps_a_low_precision_input():
    assert SNTActivation(3)(torch.randn(2, 3, 4, 4).bfloat16()).dtype == torch.bfloat16


@pytest.mark.skipif(not can_compile(), reason="fused kernels are chosen with a compiler only")
def test_fused_equals_plain():
    x = torch.randn(8, 16, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    plain, fused = SNTActivation(16), fuse(SNTActivation(16))
    results = []
    for act in (plain, fused):
        for p, start in zip(act.parameters(), (0.1, 0.3, -0.2), strict=True):
            nn.init.constant_(p, start)
        x.grad = None
        y = act(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in act.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_every_shape_of_a_net_is_compiled(monkeypatch):
    """MobileNet-V1 has ten shapes, and as many without gradients: more than torch's default."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    gamma, beta, zeta = (p.view(3, 1, 1) for p in SNTActivation(3).parameters())
    transform._compiled.cache_clear()
    before = counters["frames"]["ok"]
    for size in range(2, 22):  # as on a card; on a CPU there is a kernel of our own
        transform._compiled()(torch.randn(1, 3, size, size), gamma, beta, zeta)
    transform._compiled.cache_clear()
    assert counters["frames"]["ok"] == before + 20


# He et al. 2016, Table 6: 0.27 M for ten classes. Counted by hand: the convolutions and batch
# norms of the paper's option-A net make 269,722; 1x1 shortcuts with batch norm add 2,752.
@pytest.mark.parametrize("variant", ["base", "preact"])
def test_resnet20_has_the_literature_size(variant):
    net = build("resnet20", variant, 10, 0)
    assert sum(p.numel() for p in net.parameters()) == 269_722 + 2_752
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in net.modules()) == 19


def test_snt_adds_three_parameters_per_channel():
    base, snt = (build("resnet20", v, 10, 0) for v in ("base", "snt"))
    acts = [m for m in snt.modules() if isinstance(m, SNTActivation)]
    assert len(acts) == 19
    extra = sum(p.numel() for p in snt.parameters()) - sum(p.numel() for p in base.parameters())
    assert extra == 3 * sum(a.gamma.numel() for a in acts)


@pytest.mark.parametrize("variant", ["preact", "snt"])
def test_activations_come_before_convolutions(variant):
    """In the transformed nets a shortcut adds outputs of linear operations only."""
    net = build("resnet20", variant, 10, 0)
    for block in net.stages:
        assert isinstance(block.after, nn.Identity)
        assert not isinstance(block.before, nn.Identity)
    assert isinstance(net.stem_act, nn.Identity)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build("resnet20", "snt", 10, 0)
    assert torch.equal(torch.rand(3), expected)
    again = build("resnet20", "snt", 10, 0)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_asks_nothing_that_some_versions_of_torch_refuse(monkeypatch):
    real = functional.batch_norm

    def strict(*words, eps, **more):
        if eps <= 0:
            raise ValueError(f"batch_norm eps must be positive, but got {eps}")
        return real(*words, eps=eps, **more)

    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    act = activation(4)
    expected = act(x)
    monkeypatch.setattr(functional, "batch_norm", strict)
    assert torch.equal(act(x), expected)
