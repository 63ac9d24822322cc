"""One-pass kernels are called on plain memory alone: the rest runs as plain operators."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from snt_core.fast import kernels
from snt_core.fast.fused import depthwise, eq1, fuse, norm_act
from snt_core.methods.snt.transform import SNTActivation
from snt_core.nets import build

pytestmark = pytest.mark.skipif(kernels.compiler() is None, reason="there is no C++ compiler")


def test_numbers_without_memory_of_their_own_are_not_served():
    x = torch.randn(4, 16)
    assert kernels.served(x, None)
    odd = [
        x.to("meta"),
        x.to_sparse(),
        x.double(),
        torch.complex(x, x).conj().imag,
        torch._efficientzerotensor((4, 16)),
        x.as_subclass(type("Kind", (torch.Tensor,), {})),
    ]
    for other in odd:
        assert not kernels.served(other)
        assert not kernels.served(x, other)
    with FakeTensorMode() as mode:
        assert not kernels.served(mode.from_tensor(x))
        assert not kernels.served(x)
    seen = []
    torch.vmap(lambda row: seen.append(kernels.served(row)) or row)(x)
    torch.jit.trace(lambda x: seen.append(kernels.served(x)) or x + 1, x, check_trace=False)
    with torch.autograd.forward_ad.dual_level():
        seen.append(kernels.served(x))
    assert seen == [False] * 3


def test_parameters_that_kernels_would_misread_are_not_served():
    act = fuse(SNTActivation(16))
    x = torch.randn(2, 16, 4, 4).bfloat16().contiguous(memory_format=torch.channels_last)
    ours = [p.detach() for p in act.parameters()]
    assert eq1(x, *ours, 1) is not None
    assert eq1(x, ours[0].bfloat16(), *ours[1:], 1) is None
    assert eq1(x, torch.zeros(1).expand(16), *ours[1:], 1) is None
    norm = torch.nn.BatchNorm2d(16)
    assert norm_act(x, norm, act) is not None
    assert norm_act(x, norm, act.bfloat16()) is None


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v1"])
def test_training_of_fused_nets_is_followed(name):
    model = fuse(build(name, "snt", 10, seed=0)).to(memory_format=torch.channels_last).train()
    torch.func.replace_all_batch_norm_modules_(model)  # no statistics that training would move
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last)
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(model, weights, (x,)).square().mean()

    found = torch.func.grad(loss)(weights)
    fuse(model, on=False)  # what stands in where the kernels are not called
    expected = torch.autograd.grad(loss(weights), list(weights.values()))
    for a, b in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["eq1", "depthwise", "norm_act"])
def test_many_gradients_at_once_are_refused(kind):
    x = torch.randn(2, 16, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = {
        "eq1": lambda: eq1(x, *SNTActivation(16).parameters(), 1),
        "depthwise": lambda: depthwise(x, torch.randn(16, 1, 3, 3), 1),
        "norm_act": lambda: norm_act(x, torch.nn.BatchNorm2d(16)),
    }[kind]()
    with pytest.raises(RuntimeError, match=r"one gradient at a time: call fuse\(model, on=False\)"):
        torch.autograd.grad(y, x, torch.ones(3, *y.shape), is_grads_batched=True)
