"""Quantized nets under whatever follows them operator by operator, against the eager nets.

Oracles: the eager net on other inputs than those traced, autograd's own gradients, finite facts of
the straight-through gradient.
"""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from snt_core.fast.fused import fuse
from snt_core.methods.compress.activations import (
    ActQuantizer,
    fake_quantize,
    fake_quantize_static,
    quantize_static,
)
from snt_core.methods.compress.composed import composed
from snt_core.methods.compress.pact import prepare_qat
from snt_core.methods.compress.quantize import freeze
from snt_core.methods.snt.transform import SNTActivation


def images(seed: int) -> Tensor:
    return torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), SNTActivation(16), nn.Conv2d(16, 16, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()


X, OTHER = images(0), images(1)
BITS = {"weight_bits": 4, "act_bits": 4}
NETS = {
    "static": lambda: quantize_static(net(), X, weight_bits=8, act_bits=8),
    "fake": lambda: fake_quantize_static(net(), X, **BITS, per_channel=True),
    "pact": lambda: prepare_qat(net(), X, **BITS).eval(),
    "affine": lambda: freeze(prepare_qat(net(), X, **BITS, form="affine")).eval(),
    "fused": lambda: fuse(net()),
}
WAYS = {
    "trace": lambda m: torch.jit.trace(m, X),
    "export": lambda m: torch.export.export(m, (X,)).module(),
    "strict": lambda m: torch.export.export(m, (X,), strict=True).module(),
    "compile": lambda m: torch.compile(m, fullgraph=True, backend="aot_eager"),
    "make_fx": lambda m: make_fx(m)(X),
    "make_fx fake": lambda m: make_fx(m, tracing_mode="fake", _allow_non_fake_inputs=True)(X),
    "symbolic": torch.fx.symbolic_trace,
    "vmap": lambda m: torch.vmap(lambda x: m(x[None])[0]),
    "copy": copy.deepcopy,
}
nets = pytest.mark.parametrize("make", NETS.values(), ids=NETS.keys())


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()


@nets
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_what_was_recorded_agrees_on_other_images(make, way):
    model = make()
    torch.testing.assert_close(way(model)(OTHER), model(OTHER), rtol=0, atol=1e-6)


def test_a_trace_does_not_end_the_interpreter():
    """In a process of its own, which a segmentation fault would end."""
    code = """
import torch
from torch import nn
from snt_core.methods.compress.activations import quantize_static
x = torch.randn(4, 3, 8, 8)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
net = quantize_static(net, x, weight_bits=8, act_bits=8)
assert torch.equal(torch.jit.trace(net, x, check_trace=False)(2 * x), net(2 * x))
"""
    run = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(run, timeout=120).returncode == 0


def test_a_symbolic_batch_is_exported():
    model = NETS["static"]()
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model, (X,), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(exported(OTHER[:3]), model(OTHER[:3]))


@nets
def test_functional_gradients_are_autograds(make):
    model = make()
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, (OTHER,)).square().sum()

    expected = torch.autograd.grad(loss(weights), list(weights.values()))
    found = torch.func.grad(loss)(weights)
    for a, b in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)

    generator = torch.Generator().manual_seed(2)
    along = {k: torch.randn(p.shape, generator=generator) for k, p in weights.items()}
    with torch.no_grad():  # where forward mode works, too
        _, slope = torch.func.jvp(loss, (weights,), (along,))
    inner = sum((g * along[k]).sum() for g, k in zip(expected, along, strict=True))
    torch.testing.assert_close(slope, inner, rtol=1e-3, atol=1e-3)


@nets
def test_hessian_of_an_input_is_that_of_double_backward(make):
    model = fuse(make(), on=False)  # the one-pass kernel has no second derivative by autograd
    x = OTHER[:1, :, :5, :5].clone().requires_grad_()
    head = nn.Sequential(*list(model)[:4])

    def loss(x: Tensor) -> Tensor:
        return head(x).pow(3).sum()

    (first,) = torch.autograd.grad(loss(x), x, create_graph=True)
    rows = [torch.autograd.grad(g, x, retain_graph=True)[0].flatten() for g in first.flatten()]
    found = torch.func.hessian(loss)(x.detach()).reshape(x.numel(), -1)
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("make", [NETS["static"], NETS["pact"]], ids=["static", "pact"])
def test_many_gradients_at_once_are_those_one_by_one(make):
    model = make()
    together = torch.autograd.functional.jacobian(model, OTHER[:1], vectorize=True)
    torch.testing.assert_close(together, torch.autograd.functional.jacobian(model, OTHER[:1]))


@pytest.mark.parametrize(("zero_point", "top"), [(0, 15), (128, 255), (7, 15), (255, 255), (3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_composition_is_the_kernel_to_the_last_bit(zero_point, top, dtype):
    x = 3 * torch.randn(500, generator=torch.Generator().manual_seed(0))
    x[:6] = torch.tensor([0.05, 0.15, -0.25, 0.0, 1e9, -torch.inf])
    found = []
    for function in (fake_quantize, composed):
        mine, scale = x.to(dtype).requires_grad_(), torch.tensor(0.1).requires_grad_()
        wide = mine.to(torch.promote_types(dtype, torch.float32))
        theirs = (mine, scale) if function is fake_quantize else (wide, scale.to(wide.dtype))
        y = function(*theirs, zero_point, top).to(dtype)
        found.append((y, *torch.autograd.grad(y.sum(), (mine, scale))))
    (y, d_x, d_scale), (other, other_x, other_scale) = found
    assert torch.equal(y, other)
    assert torch.equal(d_x, other_x)
    torch.testing.assert_close(d_scale, other_scale, rtol=1e-5, atol=1e-3)


def test_views_that_keep_a_sign_aside_are_read_with_it():
    x = torch.complex(torch.zeros(20), torch.linspace(-1, 1, 20)).conj().imag
    assert x.is_neg()
    quantizer = ActQuantizer(8, (-1.0, 1.0))
    assert torch.equal(quantizer(x), quantizer(x.resolve_neg()))


@nets
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_formats_stay_near_float32(make, dtype):
    model = make()
    far = (copy.deepcopy(model).to(dtype)(OTHER.to(dtype)).float() - model(OTHER)).norm()
    # half precision moves some numbers to the level beside theirs
    assert far <= (1e-4 if dtype == torch.float64 else 0.2) * model(OTHER).norm()


def test_half_precision_keeps_the_levels():
    quantizer = ActQuantizer(8, (-1e-6, 3e-6))  # the scale, 1.6e-8, is zero in half precision
    scale = quantizer.scale.clone()
    quantizer.half()
    assert torch.equal(quantizer.scale, scale)
    assert quantizer(torch.tensor([2e-6]).half()).item() == pytest.approx(2e-6, rel=0.05)
    assert torch.equal(copy.deepcopy(quantizer).to(torch.float64).scale, scale)


@nets
def test_meta_tensors_give_shapes(make):
    assert make().to("meta")(X.to("meta")).shape == (4, 5)


@nets
def test_a_state_loads_strictly_into_another_of_its_kind(make):
    model, other = make(), make()
    with torch.no_grad():
        for value in other.state_dict().values():
            value.zero_()
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other(OTHER), model(OTHER))
