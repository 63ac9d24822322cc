"""SAM by hand arithmetic, against its base optimizer, and against pytorch-optimizer."""

import pytest
import torch
import torch.nn.functional as F
from pytorch_optimizer import SAM as PeerSAM
from torch import nn

from snt_core.methods.sam import SAM


def quadratic(w: torch.Tensor):
    """Loss w1^2/2 + 2 w2^2, gradient (w1, 4 w2), as a closure."""

    def closure():
        loss = 0.5 * w[0] ** 2 + 2 * w[1] ** 2
        loss.backward()
        return loss

    return closure


def test_one_step_on_a_quadratic_by_hand():
    # w = (3, 1): g = (3, 4), |g| = 5, e = rho g / |g| = (0.3, 0.4) with rho 0.5.
    # Gradient at w + e = (3.3, 1.4) is (3.3, 5.6); SGD with lr 0.1 ends at (2.67, 0.44).
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    loss = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5).step(quadratic(w))
    assert loss.item() == pytest.approx(0.5 * 9 + 2)
    assert w.tolist() == pytest.approx([2.67, 0.44])


def test_one_adaptive_step_by_hand():
    # |w| g = (9, 4), norm sqrt(97); e = rho w^2 g / norm = 0.5 (27, 4) / 9.848858.
    w = nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    SAM(torch.optim.SGD([w], lr=0.1), rho=0.5, adaptive=True).step(quadratic(w))
    e = [0.5 * 27 / 97**0.5, 0.5 * 4 / 97**0.5]
    assert w.tolist() == pytest.approx([3 - 0.1 * (3 + e[0]), 1 - 0.1 * 4 * (1 + e[1])])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )


def batches(n: int = 6):
    g = torch.Generator().manual_seed(3)
    for _ in range(n):
        yield torch.randn(16, 3, 8, 8, generator=g), torch.randint(5, (16,), generator=g)


def train(model: nn.Module, optimizer, steps=batches) -> nn.Module:
    for x, y in steps():

        def closure(x=x, y=y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if isinstance(optimizer, SAM):
            optimizer.step(closure)
        elif isinstance(optimizer, PeerSAM):
            optimizer.zero_grad()
            closure()
            optimizer.step(closure)
        else:
            optimizer.zero_grad()
            closure()
            optimizer.step()
    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)


def test_rho_zero_is_the_base_optimizer_bitwise():
    one, two = net(), net()
    train(one, adam(one))
    train(two, SAM(adam(two), rho=0.0, buffers=two.buffers()))
    assert same(one, two)


@pytest.mark.parametrize("adaptive", [False, True])
def test_agrees_with_pytorch_optimizer(adaptive):
    # Without batch norm: the peer lets the second pass change the batch statistics.
    def plain():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, 5))

    ours, theirs = plain(), plain()
    train(ours, SAM(torch.optim.SGD(ours.parameters(), lr=0.1), rho=0.1, adaptive=adaptive))
    peer = PeerSAM(theirs.parameters(), torch.optim.SGD, rho=0.1, adaptive=adaptive, lr=0.1)
    train(theirs, peer)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_batch_statistics_are_those_of_the_first_pass():
    model, reference = net(), net()
    batch = next(batches())
    train(model, SAM(adam(model), rho=0.5, buffers=model.buffers()), lambda: [batch])
    reference.train()(batch[0])
    for name, buffer in reference.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name])


def test_the_second_pass_sees_the_perturbed_weights_under_autocast():
    """Inside one shared autocast context it would read a stale low-precision copy."""
    model = nn.Linear(64, 64)
    x = torch.randn(32, 64)
    losses = []

    def closure():
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=1.0).step(closure)
    assert losses[1] > losses[0] * 1.05


def test_a_saved_optimizer_goes_on_bitwise():
    first, second = net(), net()
    steps = list(batches(6))
    whole = SAM(adam(first), rho=0.1, buffers=first.buffers())
    train(first, whole, lambda: steps)

    half = SAM(adam(second), rho=0.1, buffers=second.buffers())
    train(second, half, lambda: steps[:3])
    third = net()
    third.load_state_dict(second.state_dict())
    resumed = SAM(adam(third), rho=9.9, buffers=third.buffers())
    resumed.load_state_dict(half.state_dict())
    train(third, resumed, lambda: steps[3:])
    assert same(first, third)


def test_a_zero_gradient_is_no_division_by_zero():
    w = nn.Parameter(torch.zeros(2))
    SAM(torch.optim.SGD([w], lr=0.1), rho=0.5).step(quadratic(w))
    assert torch.equal(w.data, torch.zeros(2))


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match=r"rho is -0.1"):
        SAM(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), rho=-0.1)
