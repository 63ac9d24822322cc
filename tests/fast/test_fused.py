"""One-pass kernels of training against PyTorch's own operators in float64."""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import profile

from snt_core.fast import kernels
from snt_core.fast.fused import depthwise, eq1, fuse, norm_act
from snt_core.methods.snt.transform import SNTActivation, snt_activation
from snt_core.nets import build
from snt_core.nets.layers import DepthwiseConv2d, conv_bn
from snt_core.training.engine import Engine, detect
from snt_core.training.fit import update

pytestmark = pytest.mark.skipif(kernels.compiler() is None, reason="there is no C++ compiler")

DTYPES = {torch.float32: 2e-6, torch.bfloat16: 5e-3}  # and the relative error that rounding makes
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
ACTS = {"none": lambda c: None, "identity": lambda c: nn.Identity(), "relu": lambda c: nn.ReLU()}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def snt(channels: int) -> SNTActivation:
    act = fuse(SNTActivation(channels))
    for p in act.parameters():
        nn.init.normal_(p)
    return act


def pictures(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = 2 * torch.randn(*shape) + 1
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def close(ours: list[Tensor], theirs: list[Tensor], dtype: torch.dtype) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() <= DTYPES[dtype] * max(b.norm(), 1e-3)


def wide(*tensors: Tensor) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


@dtypes
@pytest.mark.parametrize("channels", [16, 32, 48])
@pytest.mark.parametrize("size", [(6, 5, 7), (4, 1, 3), (9, 8, 8)])
@pytest.mark.parametrize(
    ("act", "added"),
    [("none", False), ("none", True), ("identity", True), ("relu", False), ("relu", True)]
    + [("snt", False)],
)
def test_normalisation_with_what_follows_it(act, added, size, channels, dtype):
    shape = (size[0], channels, *size[1:])
    x = pictures(*shape, dtype=dtype).requires_grad_()
    plus = pictures(*shape, dtype=dtype).requires_grad_() if added else None
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    then = snt(channels) if act == "snt" else ACTS[act](channels)
    exact, exact_then = copy.deepcopy(norm).double(), copy.deepcopy(then)
    if exact_then is not None:
        exact_then = fuse(exact_then.double(), False)

    y = norm_act(x, norm, then, plus)
    x64, *plus64 = wide(x, *([plus] if added else []))
    z = exact(x64)
    z = z + plus64[0] if added else z
    z = z if exact_then is None else exact_then(z)
    grad = torch.randn_like(y)
    modules = [norm] if then is None else [norm, then]
    exact_modules = [exact] if then is None else [exact, exact_then]
    inputs = [x, *([plus] if added else []), *(p for m in modules for p in m.parameters())]
    exact_inputs = [x64, *plus64, *(p for m in exact_modules for p in m.parameters())]
    ours = torch.autograd.grad(y, inputs, grad)
    theirs = torch.autograd.grad(z, exact_inputs, grad.double())

    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    close([y], [z], dtype)
    close(list(ours), list(theirs), dtype)
    assert norm.num_batches_tracked == exact.num_batches_tracked == 1
    close([norm.running_mean, norm.running_var], [exact.running_mean, exact.running_var], dtype)


LAYOUTS = {
    "channels last": (lambda: pictures(3, 16, 5, 7), 1),
    "channels first": (lambda: torch.randn(3, 5, 4, 8), 1),
    "tokens": (lambda: torch.randn(3, 7, 48), -1),
    "tokens of a transposition": (lambda: torch.randn(3, 64, 32).transpose(1, 2), -1),
    "many rows": (lambda: torch.randn(5, 130, 16), -1),
}


@dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
def test_eq1_in_every_layout(layout, dtype):
    make, dim = LAYOUTS[layout]
    x = make().to(dtype).requires_grad_()
    act = snt(x.shape[dim])
    y = eq1(x, act.gamma, act.beta, act.zeta, dim)
    shape = [1] * x.ndim
    shape[dim] = -1
    x64, *triple = wide(x, act.gamma, act.beta, act.zeta)
    z = snt_activation(x64, *(p.view(shape) for p in triple))
    grad = torch.randn(x.shape).to(dtype)
    close([y], [z], dtype)
    assert y.stride() == x.stride()
    ours = torch.autograd.grad(y, (x, act.gamma, act.beta, act.zeta), grad)
    close(list(ours), list(torch.autograd.grad(z, (x64, *triple), grad.double())), dtype)


@dtypes
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [16, 48, 64])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 7), (8, 8), (12, 16)])
def test_depthwise_convolution(size, channels, stride, dtype):
    x = pictures(5, channels, *size, dtype=dtype).requires_grad_()
    weight = torch.randn(channels, 1, 3, 3, requires_grad=True)
    y = depthwise(x, weight, stride)
    x64, weight64 = wide(x, weight)
    z = F.conv2d(x64, weight64, stride=stride, padding=1, groups=channels)
    grad = torch.randn_like(y)
    close([y], [z], dtype)
    ours = torch.autograd.grad(y, (x, weight), grad)
    close(list(ours), list(torch.autograd.grad(z, (x64, weight64), grad.double())), dtype)


def test_what_the_kernels_do_not_serve_is_left_to_plain_operators():
    norm, x = nn.BatchNorm2d(16), pictures(2, 16, 4, 4)
    assert norm_act(x.double(), copy.deepcopy(norm).double()) is None
    assert norm_act(x.contiguous(), norm) is None
    assert norm_act(x, norm, nn.GELU()) is None
    assert norm_act(x, norm, snt(16), x) is None
    assert norm_act(pictures(2, 12, 4, 4), nn.BatchNorm2d(12)) is None
    assert norm_act(x, nn.BatchNorm2d(16, affine=False)) is None
    assert norm_act(x, nn.BatchNorm2d(16, momentum=None)) is None
    assert norm.num_batches_tracked == 0
    act = snt(12)
    assert eq1(torch.randn(2, 5, 12), act.gamma, act.beta, act.zeta, -1) is None
    assert eq1(torch.randn(1, 16).expand(3, 16), *snt(16).parameters(), -1) is None
    assert depthwise(x, torch.randn(16, 1, 5, 5), 1) is None
    assert depthwise(x.contiguous(), torch.randn(16, 1, 3, 3), 1) is None
    assert depthwise(x, torch.randn(16, 1, 3, 3), 3) is None
    assert depthwise(x, torch.randn(16, 1, 3, 3).bfloat16(), 1) is None


@pytest.mark.parametrize(("channels", "dtype"), [(12, torch.float32), (16, torch.float64)])
def test_modules_that_no_kernel_serves_give_plain_results(channels, dtype):
    x = pictures(2, channels, 4, 4).to(dtype)
    modules = [conv_bn(channels, channels, 1), DepthwiseConv2d(channels, 3), snt(channels)]
    for module in modules:
        module.to(dtype).train()
        fused, plain = (fuse(copy.deepcopy(module), on)(x) for on in (True, False))
        assert torch.equal(fused, plain)


def test_the_layer_uses_the_kernel_in_training_only():
    layer = DepthwiseConv2d(16, 3, 2)
    x = pictures(4, 16, 8, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        for kept in (fuse(layer).eval()(x), fuse(layer, False).train()(x)):
            assert "Depthwise" not in kept.grad_fn.name()
        y = fuse(layer)(x)
    assert torch.equal(y, depthwise(x, layer.weight, 2))
    assert y.grad_fn.name() == "_DepthwiseBackward"
    y.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@dtypes
def test_results_repeat_bitwise(dtype):
    x = pictures(9, 48, 8, 8, dtype=dtype).requires_grad_()
    weight, norm, act = torch.randn(48, 1, 3, 3, requires_grad=True), nn.BatchNorm2d(48), snt(48)

    def once() -> list[Tensor]:
        y = eq1(norm_act(depthwise(x, weight, 1), norm, act), *act.parameters(), 1)
        inputs = (x, weight, *norm.parameters(), *act.parameters())
        return [y, *torch.autograd.grad(y.square().sum(), inputs)]

    assert all(map(torch.equal, once(), once()))


def test_nan_passes_through():
    x = pictures(2, 16, 4, 4)
    x[0, 3, 0, 0] = torch.nan
    for act in (None, nn.ReLU(), snt(16)):
        assert norm_act(x, nn.BatchNorm2d(16), act)[:, 3].isnan().all()
    assert eq1(x, *snt(16).parameters(), 1).isnan().sum() == 1
    assert depthwise(x, torch.ones(16, 1, 3, 3), 1).isnan().any()


@pytest.mark.parametrize("model", ["resnet20", "mobilenet_v1", "mixer_s"])
@pytest.mark.parametrize("variant", ["base", "snt"])
def test_a_net_has_its_gradient_as_nearly_as_plain_operators_have(model, variant):
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)

    def step(dtype: torch.dtype, fused: bool) -> tuple[Tensor, dict[str, Tensor]]:
        net = build(model, variant, 10, 0).to(dtype).to(memory_format=torch.channels_last).train()
        fuse(net, fused)
        loss = F.cross_entropy(net(images.to(dtype)), labels)
        grads = torch.autograd.grad(loss, list(net.parameters()))
        return torch.cat([g.flatten() for g in grads]), net.state_dict()

    exact, exact_state = step(torch.float64, False)
    ours, state = step(torch.float32, True)
    assert torch.equal(ours, step(torch.float32, True)[0])  # bitwise, every time
    plain, _ = step(torch.float32, False)
    assert torch.equal(ours, plain) == (model == "mixer_s" and variant == "base")  # no kernel there
    # a net of ReLU magnifies rounding: what plain operators lose is the measure
    assert (ours - exact).norm() <= 3 * (plain - exact).norm() + 1e-5 * exact.norm()
    for key, value in exact_state.items():
        torch.testing.assert_close(state[key].double(), value.double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["resnet20", "mobilenet_v1", "mixer_s"])
@pytest.mark.parametrize("variant", ["base", "snt"])
def test_a_training_goes_as_with_plain_operators(model, variant):
    """So far as rounding lets it: MobileNet's base net is chaotic on a few images of noise.

    There, plain operators in float32 are percents away from float64 after three steps.
    """
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    engine = Engine(device="cpu", dtype="fp32", fused=True)
    losses = []
    for fused in (True, False):
        net = build(model, variant, 10, 0).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.SGD(fuse(net, fused).parameters(), lr=1e-3)
        steps = [update(net, optimizer, engine, images, labels) for _ in range(4)]
        losses.append(torch.stack(steps))
    assert losses[0][-1] < losses[0][0]
    torch.testing.assert_close(losses[0][0], losses[1][0], rtol=1e-4, atol=0)
    chaotic = (model, variant) == ("mobilenet_v1", "base")
    torch.testing.assert_close(*losses, rtol=0.1 if chaotic else 2e-3, atol=0)


@pytest.mark.parametrize("variant", ["base", "preact", "snt", "snt-nofinal"])
def test_every_activation_of_mobilenet_shares_the_pass_of_a_normalisation(variant):
    """There are no shortcuts that would need the values in between."""
    net = fuse(build("mobilenet_v1", variant, 10, 0).train())
    x = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    with profile() as seen:
        net(x)
    names = Counter(event.name for event in seen.events())
    assert names["_NormAct"] == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert not {"_Eq1", "aten::relu", "aten::clamp_min"} & set(names)


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])  # none, or one that fails
def test_without_a_compiler_plain_operators_run(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("SNT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    kernels._library.cache_clear()
    kernels.available.cache_clear()
    try:
        assert not kernels.available()
        assert detect().device == "cuda" or not detect().fused
    finally:
        kernels._library.cache_clear()
        kernels.available.cache_clear()


def _compile(folder: str, seen: multiprocessing.Queue) -> None:
    os.environ["SNT_CACHE_DIR"] = folder
    seen.put(kernels.available())


def test_processes_that_compile_at_once_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context("spawn")
    seen = context.Queue()
    both = [context.Process(target=_compile, args=(str(tmp_path), seen)) for _ in range(2)]
    for process in both:
        process.start()
    assert [seen.get(timeout=120) for _ in both] == [True, True]
    for process in both:
        process.join()
    assert {path.suffix for path in (tmp_path / "native").iterdir()} == {".so", ".sha256"}
