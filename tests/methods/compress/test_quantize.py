"""torch's fake quantization as oracle, and what the parametrized model has to survive."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.methods.compress.quantize import (
    codes,
    fake_quantize_weights,
    freeze,
    quantize_weights,
)

BITS = range(2, 9)
WEIGHTS = ("0.weight", "3.weight", "5.weight")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.Flatten(),
        nn.Linear(8 * 36, 10),
    )


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(16, 3, 8, 8, generator=generator)
    return images, torch.randint(10, (16,), generator=generator)


def oracle(weight: Tensor, weight_bits: int, per_channel: bool) -> Tensor:
    top = 2 ** (weight_bits - 1) - 1
    if per_channel:
        scale = weight.detach().abs().flatten(1).amax(1) / top
        zero = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -top, top)
    return torch.fake_quantize_per_tensor_affine(
        weight, weight.abs().max().item() / top, 0, -top, top
    )


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_bits", BITS)
def test_equals_torch_fake_quantize_bit_for_bit(weight_bits: int, per_channel: bool) -> None:
    model = net()
    original = {k: v.clone() for k, v in model.state_dict().items()}
    quantized = quantize_weights(model, weight_bits, per_channel=per_channel)
    for name, value in quantized.state_dict().items():
        if name in WEIGHTS:
            assert torch.equal(value, oracle(original[name], weight_bits, per_channel))
            integers, scale = codes(original[name], weight_bits, per_channel)
            assert integers.dtype == torch.int8
            assert torch.equal(integers * scale, value)
        else:
            assert torch.equal(value, original[name])
    # the original is untouched, and the new model is as plain as it was
    assert all(torch.equal(v, original[k]) for k, v in model.state_dict().items())
    assert [*quantized.state_dict()] == [*original]
    assert [n for n, _ in quantized.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert type(quantized[0]) is nn.Conv2d


@pytest.mark.parametrize("weight_bits", BITS)
def test_levels_are_symmetric_and_all_used(weight_bits: int) -> None:
    top = 2 ** (weight_bits - 1) - 1
    integers, scale = codes(torch.linspace(-3, 3, 10_001), weight_bits)
    assert torch.equal(integers.unique(), torch.arange(-top, top + 1, dtype=torch.int8))
    assert scale.item() == pytest.approx(3 / top)


@pytest.mark.parametrize("per_channel", [False, True])
def test_more_bits_and_more_scales_err_less(per_channel: bool) -> None:
    weight = net()[3].weight.detach()

    def error(weight_bits: int, per_channel: bool) -> float:
        integers, scale = codes(weight, weight_bits, per_channel)
        return (integers * scale - weight).square().mean().item()

    errors = [error(bits, per_channel) for bits in (2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 0
    assert error(4, True) < error(4, False)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_bits", BITS)
def test_quantizing_twice_changes_nothing(weight_bits: int, per_channel: bool) -> None:
    once = quantize_weights(net(), weight_bits, per_channel=per_channel)
    twice = quantize_weights(once, weight_bits, per_channel=per_channel)
    for name in WEIGHTS:
        a, b = once.state_dict()[name], twice.state_dict()[name]
        first, second = (codes(w, weight_bits, per_channel)[0] for w in (a, b))
        assert torch.equal(first, second)
        torch.testing.assert_close(a, b, rtol=3e-7, atol=0)  # scale * top / top may lose one bit


@pytest.mark.parametrize("per_channel", [False, True])
def test_zeros_are_no_division_by_zero(per_channel: bool) -> None:
    weight = torch.randn(4, 3, 2, 2)
    weight[1] = 0
    weight[2] = 1e-44  # a denormal number, whose reciprocal overflows
    integers, scale = codes(weight, 4, per_channel)
    assert (integers[1:3] == 0).all()
    assert (scale > 0).all()
    assert (codes(torch.zeros(3, 3), 4, per_channel)[0] == 0).all()
    model = net()
    nn.init.zeros_(model[5].weight)
    assert (quantize_weights(model, 4, per_channel=per_channel)[5].weight == 0).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_gradient_passes_straight_through(per_channel: bool) -> None:
    model = fake_quantize_weights(net(), 4, per_channel=per_channel).eval()
    frozen = freeze(model)
    images, labels = batch()
    assert torch.equal(model(images), frozen(images))
    for each in (model, frozen):
        F.cross_entropy(each(images), labels).backward()
    for i in (0, 3, 5):
        assert torch.equal(model[i].parametrizations.weight.original.grad, frozen[i].weight.grad)


@pytest.mark.parametrize("autocast", [False, True])
def test_any_training_loop_fine_tunes_it(autocast: bool) -> None:
    model = fake_quantize_weights(net(), 3)
    images, labels = batch()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    small = freeze(model)
    assert torch.equal(small.eval()(images), model.eval()(images))
    for i in (0, 3, 5):
        original = model[i].parametrizations.weight.original
        assert original.dtype == torch.float32
        assert torch.equal(small[i].weight, oracle(original.detach(), 3, False))
        assert len(small[i].weight.unique()) <= 7


def test_copies_and_saved_states_keep_the_quantizer() -> None:
    model = fake_quantize_weights(net(), 4, per_channel=True).eval()
    images, _ = batch()
    assert torch.equal(copy.deepcopy(model)(images), model(images))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = net()
    nn.init.ones_(other[0].weight)
    other = fake_quantize_weights(other, 4, per_channel=True).eval()
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(images), model(images))


def test_freeze_and_fake_quantize_leave_their_input_alone() -> None:
    model = net()
    fake = fake_quantize_weights(model, 4)
    assert not any(parametrize.is_parametrized(m) for m in model)
    freeze(fake)
    assert [parametrize.is_parametrized(m) for m in fake] == [True, *[False] * 2, True, False, True]
    assert torch.equal(fake[0].parametrizations.weight.original, model[0].weight)


def test_freeze_keeps_parametrizations_of_others() -> None:
    model = net()
    nn.utils.parametrizations.weight_norm(model[5])
    assert parametrize.is_parametrized(freeze(model)[5])
    quantized = quantize_weights(model, 4)
    assert torch.equal(quantized[5].weight, oracle(model[5].weight.detach(), 4, False))


@pytest.mark.parametrize("weight_bits", [0, 1, 9, 2.5])
def test_bits_outside_2_to_8_are_named(weight_bits: float) -> None:
    for call in (quantize_weights, fake_quantize_weights):
        with pytest.raises(ValueError, match=rf"weight_bits {weight_bits} is outside 2\.\.8"):
            call(net(), weight_bits)
    with pytest.raises(ValueError, match=r"outside 2\.\.8"):
        codes(torch.ones(3), weight_bits)


def test_weights_that_are_not_finite_are_named() -> None:
    with pytest.raises(ValueError, match="not finite"):
        codes(torch.tensor([1.0, torch.nan]), 4)


# clipping and edges ---------------------------------------------------------------------------


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_bits", [2, 4, 8])
def test_least_error_beats_every_other_range(weight_bits: int, per_channel: bool) -> None:
    """Against a search in float64 over the same hundred ranges."""
    model = net()
    found = quantize_weights(model, weight_bits, per_channel=per_channel, clipping="mse")
    weight, ours = model[0].weight.detach().double(), found[0].weight.detach().double()
    top = 2 ** (weight_bits - 1) - 1
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    best = []
    for row in rows:
        steps = [row.abs().max() * k / 100 / top for k in range(100, 0, -1)]
        best.append(min((((row / s).round().clamp(-top, top) * s - row) ** 2).sum() for s in steps))
    missed = ((ours - weight) ** 2).reshape(len(rows), -1).sum(1)
    torch.testing.assert_close(missed, torch.stack(best), rtol=1e-4, atol=1e-12)
    plain = quantize_weights(model, weight_bits, per_channel=per_channel)[0].weight
    assert missed.sum() <= ((plain.double() - weight) ** 2).sum()


def test_the_chosen_range_stays_while_weights_are_trained() -> None:
    student = fake_quantize_weights(net(), 4, clipping="mse")
    before = student[0].parametrizations.weight[0].factor.clone()
    assert before < 1
    with torch.no_grad():
        student[0].parametrizations.weight.original.mul_(torch.rand(()) + 1)
    student(batch()[0])
    assert torch.equal(student[0].parametrizations.weight[0].factor, before)
    assert torch.equal(freeze(student)(batch()[0]), student(batch()[0]))


def test_first_and_last_layer_have_the_edges_bits() -> None:
    model = net()
    found = quantize_weights(model, 2, edge_bits=8)
    layers = [m for m in found.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    levels = [len(layer.weight.unique()) for layer in layers]
    assert all(n <= 3 for n in levels[1:-1])
    assert levels[0] > 3
    assert levels[-1] > 3


@pytest.mark.parametrize("wrong", [{"clipping": "best"}, {"edge_bits": 1}])
def test_other_words_and_bits_are_named(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        quantize_weights(net(), 4, **wrong)
