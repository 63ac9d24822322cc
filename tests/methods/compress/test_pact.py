"""PACT's quantizer by hand, by the paper's equation and by finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snt_core.methods.compress.pact import PACT, prepare_qat

BITS = range(2, 9)
UNSIGNED, SIGNED = (0.0, 1.0), (-1.0, 0.5)


def clip(act_bits: int, ends: tuple[float, float], clip_alpha: float, dtype=torch.float32) -> PACT:
    pact = PACT(act_bits, ends).to(dtype)
    nn.init.constant_(pact.clip_alpha, clip_alpha)
    return pact


def test_paper_form_by_hand() -> None:
    pact = clip(2, UNSIGNED, 3.0)  # levels 0, 1, 2, 3
    x = torch.tensor([-5.0, -0.1, 0.4, 0.6, 1.4, 2.6, 3.1, 9.0], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
    y = pact(x)
    assert torch.equal(y, torch.tensor([0, 0, 0, 1, 1, 3, 3, 3.0]))
    (y * weights).sum().backward()
    assert torch.equal(x.grad, torch.tensor([0, 0, 4, 8, 16, 32, 0, 0.0]))
    assert pact.clip_alpha.grad.item() == pytest.approx(64 + 128)


def test_symmetric_form_by_hand() -> None:
    pact = clip(3, SIGNED, 3.0)  # levels -3 to 3
    x = torch.tensor([-5.0, -3.1, -2.6, -0.4, 0.6, 2.4, 3.1, 9.0], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
    y = pact(x)
    assert torch.equal(y, torch.tensor([-3, -3, -3, 0, 1, 2, 3, 3.0]))
    (y * weights).sum().backward()
    assert torch.equal(x.grad, torch.tensor([0, 0, 4, 8, 16, 32, 0, 0.0]))
    assert pact.clip_alpha.grad.item() == pytest.approx(64 + 128 - 1 - 2)


@pytest.mark.parametrize("ends", [UNSIGNED, SIGNED])
@pytest.mark.parametrize("act_bits", BITS)
def test_values_are_the_papers_equation(act_bits: int, ends: tuple[float, float]) -> None:
    pact = clip(act_bits, ends, 1.7, torch.float64)
    x = torch.linspace(-4, 5, 10_000, dtype=torch.float64)
    steps = 2**act_bits - 1 if ends == UNSIGNED else 2 ** (act_bits - 1) - 1
    clipped = x.clamp(0 if ends == UNSIGNED else -1.7, 1.7)
    torch.testing.assert_close(pact(x), (clipped * steps / 1.7).round() * 1.7 / steps)
    assert len(pact(x).unique()) == steps * (1 if ends == UNSIGNED else 2) + 1


@pytest.mark.parametrize("ends", [UNSIGNED, SIGNED])
@pytest.mark.parametrize("act_bits", [2, 4, 8])
def test_gradients_equal_finite_differences(act_bits: int, ends: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights = (3 * torch.randn(200, dtype=torch.float64, generator=generator) for _ in range(2))
    pact = clip(act_bits, ends, 1.7, torch.float64)
    x.requires_grad_()
    (pact(x) * weights).sum().backward()

    def clipped(alpha: float, shift: float = 0.0) -> Tensor:
        return (x.detach() + shift).clamp(0 if ends == UNSIGNED else -alpha, alpha) * weights

    # rounding counts as the identity
    h = 1e-6
    slope = (clipped(1.7 + h) - clipped(1.7 - h)).sum() / (2 * h)
    torch.testing.assert_close(pact.clip_alpha.grad, slope, rtol=1e-6, atol=1e-6)
    slope = (clipped(1.7, h) - clipped(1.7, -h)) / (2 * h)
    torch.testing.assert_close(x.grad, slope, rtol=1e-6, atol=1e-6)
    # where all is clipped, the rounded outputs themselves have that slope
    pact.clip_alpha.grad = None
    far = 50 * x.detach().sign()
    (pact(far) * weights).sum().backward()
    ahead, behind = (clip(act_bits, ends, 1.7 + d, torch.float64) for d in (h, -h))
    slope = ((ahead(far) - behind(far)) * weights).sum() / (2 * h)
    torch.testing.assert_close(pact.clip_alpha.grad, slope.detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("ends", [(0.0, 8.0), (-9.0, 8.0)])
@pytest.mark.parametrize("act_bits", BITS)
def test_alpha_starts_at_the_least_error(act_bits: int, ends: tuple[float, float]) -> None:
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)).clamp(min=ends[0])
    x[:2, 0] = torch.tensor(ends)
    model = nn.Linear(1, 1)
    student = prepare_qat(model, x, weight_bits=8, act_bits=4, edge_bits=act_bits)
    reach = max(map(abs, ends))

    def error(alpha: float) -> float:
        return (clip(act_bits, ends, alpha)(x) - x).square().mean().item()

    best = min(error(reach * k / 100) for k in range(1, 101))
    assert error(student.act_quantizer.clip_alpha.item()) <= 1.01 * best
    assert 0 < student.act_quantizer.clip_alpha.item() <= reach * 1.001


def test_inputs_that_are_all_zero_start_at_one() -> None:
    student = prepare_qat(nn.Linear(3, 2), torch.zeros(5, 3), weight_bits=4, act_bits=4)
    assert student.act_quantizer.clip_alpha.item() == 1
    assert torch.equal(student(torch.zeros(5, 3)), student.bias.expand(5, 2))


@pytest.mark.parametrize("start", [0.0, -0.5])
def test_alpha_comes_back_from_zero_and_below(start: float) -> None:
    pact = clip(4, SIGNED, start)
    x = torch.randn(500, generator=torch.Generator().manual_seed(0))
    x[:50] = 0
    optimizer = torch.optim.AdamW(pact.parameters(), 0.05, weight_decay=0, fused=True)
    for _ in range(100):
        loss = (pact(x) - x).square().mean()
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 1 < pact.clip_alpha.item() < 3.5


# the affine form ------------------------------------------------------------------------------


def test_affine_form_by_hand() -> None:
    pact = PACT(3, (-2.0, 5.0), form="affine")  # 7 steps, 2 of them below 0: levels -2 to 5
    assert pact.clip_alpha.item() == 5
    x = torch.tensor([-5.0, -2.1, -1.6, -0.4, 0.6, 2.4, 5.1, 9.0], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
    y = pact(x)
    assert torch.equal(y, torch.tensor([-2, -2, -2, 0, 1, 2, 5, 5.0]))
    (y * weights).sum().backward()
    assert torch.equal(x.grad, torch.tensor([0, 0, 4, 8, 16, 32, 0, 0.0]))
    # the lower end moves with the upper one, at 2 / 5 of its pace
    assert pact.clip_alpha.grad.item() == pytest.approx(64 + 128 - 0.4 * (1 + 2))


@pytest.mark.parametrize("ends", [(-1.0, 0.5), (-0.3, 4.0), (-3.0, 0.001), (-1e-6, 1.0)])
@pytest.mark.parametrize("act_bits", BITS)
def test_affine_values_equal_torchs_operator(act_bits: int, ends: tuple[float, float]) -> None:
    pact = PACT(act_bits, ends, form="affine")
    x = torch.linspace(-4, 5, 10_000)
    top, scale = 2**act_bits - 1, (pact.clip_alpha / pact.above).item()
    expected = torch.fake_quantize_per_tensor_affine(x, scale, pact.below, 0, top)
    away = ((x / scale) % 1 - 0.5).abs() > 1e-3  # torch divides otherwise at ties
    torch.testing.assert_close(pact(x)[away], expected[away])
    assert pact.below + pact.above == top
    # the range covers what calibration saw, but for a lower end of half a step or less
    assert pact.clip_alpha.item() >= ends[1] * (1 - 1e-6)
    low = -ends[0]
    assert pact.below * scale >= low * (1 - 1e-6) or low <= (ends[1] + low) / top / 2


def test_without_negative_values_the_forms_are_one() -> None:
    x = torch.linspace(-1, 2, 1000)
    assert torch.equal(PACT(4, (0.0, 1.5), form="affine")(x), PACT(4, (0.0, 1.5))(x))
