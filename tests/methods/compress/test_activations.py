"""Oracles: the nearest level by search, torch's operator, integer arithmetic."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.common.vision import torchvision
from snt_core.methods.compress.activations import (
    ActQuantizer,
    calibrate,
    fake_quantize,
    fake_quantize_static,
    quantize_static,
)
from snt_core.methods.compress.quantize import codes, freeze, quantize_weights
from snt_core.methods.compress.ranges import affine

BITS = range(2, 9)
ENDS = [(-1.0, 3.0), (0.0, 5.0), (-4.0, 0.0), (2.0, 5.0), (-7.0, -2.0), (-1e6, 1.0), (0.0, 0.0)]
OBSERVERS = ["minmax", "percentile", "mse"]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 10),
    )


LAYERS = (0, 3, 6)


def batch(n: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, 8, 8, generator=generator)
    return images, torch.randint(10, (n,), generator=generator)


def inputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What each convolution and linear layer computes with."""
    seen: dict[str, Tensor] = {}
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.update({name: args[0].detach().clone()})
            )
    model.eval()(images)
    return seen


def levels_of(quantizer: ActQuantizer) -> np.ndarray:
    codes = np.arange(2**quantizer.act_bits) - quantizer.zero_point.item()
    return codes * quantizer.scale.double().item()


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("act_bits", BITS)
def test_each_value_goes_to_the_nearest_level(act_bits: int, ends: tuple[float, float]) -> None:
    quantizer = ActQuantizer(act_bits, ends)
    levels = levels_of(quantizer)
    low, high = min(ends[0], 0), max(ends[1], 0)
    step = (high - low) / (len(levels) - 1) or 1
    assert 0 in levels
    # rounding the zero point moves the range by half a step at most
    assert abs(levels[0] - low) <= 0.501 * step
    assert levels[-1] - levels[0] == pytest.approx(step * (len(levels) - 1))
    x = torch.rand(500, generator=torch.Generator().manual_seed(0)) * 1.4 * (high - low or 1)
    x += low - 0.2 * (high - low)
    nearest = [min(levels, key=lambda level: abs(level - v)) for v in x.tolist()]
    np.testing.assert_allclose(quantizer(x).numpy(), nearest, rtol=1e-5)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("act_bits", BITS)
def test_equals_torch_fake_quantize_bit_for_bit(act_bits: int, ends: tuple[float, float]) -> None:
    quantizer, top = ActQuantizer(act_bits, ends), 2**act_bits - 1
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * max(map(abs, ends))
    x[:3] = torch.tensor([1e9, -1e9, 0.0])
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    expected = torch.fake_quantize_per_tensor_affine(
        theirs, quantizer.scale, quantizer.zero_point, 0, top
    )
    found = quantizer(ours)
    assert torch.equal(found, expected)
    for y in (found, expected):
        (y * torch.arange(len(x))).sum().backward()
    # torch lets half a step beyond the ends pass; between them and far outside both agree
    levels, half = levels_of(quantizer), quantizer.scale.item() / 2
    band = ((x - levels[0] + half / 2).abs() < half) | ((x - levels[-1] - half / 2).abs() < half)
    assert torch.equal(ours.grad[~band], theirs.grad[~band])


def test_gradient_by_hand() -> None:
    x = torch.tensor([-2.0, -1.01, -1.0, -0.9, 0.0, 2.5, 2.51, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
    y = fake_quantize(x, scale, 2, 7)  # between -1 and 2.5
    torch.testing.assert_close(y, torch.tensor([-1, -1, -1, -1, 0, 2.5, 2.5, 2.5]))
    (y * weights).sum().backward()
    assert torch.equal(x.grad, torch.tensor([0, 0, 4, 8, 16, 32, 0, 0.0]))
    assert scale.grad.item() == -2 * (1 + 2) + 5 * (64 + 128)


def test_outliers_reach_the_ends_and_nan_stays() -> None:
    x = torch.tensor([torch.inf, 1e38, -1e38, -torch.inf, torch.nan])
    y = fake_quantize(x, torch.tensor(1e-3), 100, 255)
    torch.testing.assert_close(y[:4], torch.tensor([0.155, 0.155, -0.1, -0.1]))
    assert y[4].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_memory_format_are_the_inputs(dtype: torch.dtype) -> None:
    quantizer = ActQuantizer(8, (-1.0, 3.0))
    x = torch.randn(2, 3, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    y = quantizer(x)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    # computed in float32 at least, and only the result is rounded to the input's dtype
    assert torch.equal(y, quantizer(x.float()).to(dtype)) or dtype == torch.float64
    torch.testing.assert_close(y.float(), quantizer(x.float()), rtol=8e-3, atol=1e-6)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("act_bits", BITS)
def test_every_layer_reads_few_values(act_bits: int, observer: str) -> None:
    images, _ = batch()
    seen = inputs(calibrate(net(), images, act_bits, observer=observer), images)
    assert set(seen) == {str(i) for i in LAYERS}
    for x in seen.values():
        assert 2 < len(x.unique()) <= 2**act_bits
        assert (x == 0).any() or act_bits > 4


def test_min_max_of_all_images_is_kept_exactly() -> None:
    images, _ = batch()
    model = net()
    for name, x in inputs(model, images).items():
        scale, zero_point = affine((x.min().item(), x.max().item()), 8)
        for batch_size in (5, 100):
            quantizer = calibrate(model, images, 8, batch_size=batch_size).get_submodule(
                f"{name}.act_quantizer"
            )
            torch.testing.assert_close(quantizer.scale, torch.tensor(scale))
            assert quantizer.zero_point.item() == zero_point


@pytest.mark.parametrize("training", [False, True])
def test_the_original_stays_and_only_buffers_are_new(training: bool) -> None:
    images, _ = batch()
    model = net().train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    small = quantize_static(model, images, weight_bits=4, act_bits=4, per_channel=True)
    assert [*model.state_dict()] == [*before]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert model.training == small.training == small[1].training == training
    weights = quantize_weights(model, 4, per_channel=True).state_dict()
    state = small.state_dict()
    new = {f"{i}.act_quantizer.{b}" for i in LAYERS for b in ("scale", "zero_point")}
    assert {*state} - {*before} == new
    assert all(torch.equal(state[k], weights[k]) for k in before)
    assert [n for n, _ in small.named_parameters()] == [n for n, _ in model.named_parameters()]
    assert type(small[0]) is nn.Conv2d
    # activations alone: the weights are the model's
    calibrated = calibrate(model, images, 4).state_dict()
    assert all(torch.equal(calibrated[k], before[k]) for k in before)


def test_equals_integer_arithmetic() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(20, 7), torch.randn(64, 20) + 0.3
    small = quantize_static(layer, x, weight_bits=8, act_bits=8)
    low, high = x.min().item(), x.max().item()
    scale = (high - low) / 255
    zero_point = round(-low / scale)
    x_codes = (x.double() / scale).round().long() + zero_point
    w_codes, w_scale = codes(layer.weight, 8)
    assert x_codes.min() >= 0
    assert x_codes.max() <= 255
    sums = (x_codes - zero_point) @ w_codes.long().T  # exact
    torch.testing.assert_close(small(x), (sums * (scale * w_scale) + layer.bias).float())


@pytest.mark.parametrize("autocast", [False, True])
def test_fine_tuning_keeps_the_ranges(autocast: bool) -> None:
    images, labels = batch()
    model = fake_quantize_static(net(), images, weight_bits=4, act_bits=4, observer="mse")
    model.to(memory_format=torch.channels_last)
    ranges = {k: v.clone() for k, v in model.state_dict().items() if "act_quantizer" in k}
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, fused=True)
    losses = []
    for _ in range(15):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    small = freeze(model)
    assert not any(parametrize.is_parametrized(m) for m in small.modules())
    assert torch.equal(small.eval()(images), model.eval()(images))
    assert all(torch.equal(small.state_dict()[k], v) for k, v in ranges.items())
    assert all(len(x.unique()) <= 16 for x in inputs(small, images).values())
    with torch.autocast("cpu", torch.bfloat16):
        assert all(len(x.unique()) <= 16 for x in inputs(small, images).values())


def test_copies_and_saved_states_keep_the_quantizers() -> None:
    images, _ = batch()
    model = calibrate(net(), images, 3).eval()
    twin = copy.deepcopy(model)
    assert torch.equal(twin(images), model(images))
    twin[0].act_quantizer.scale.mul_(2)
    assert not torch.equal(twin(images), model(images))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = calibrate(net(), 5 * images, 3).eval()
    assert not torch.equal(other(images), model(images))
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(images), model(images))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(images), model(images))


def test_vision_transformer() -> None:
    torchvision()
    import timm

    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=8, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=5
    ).eval()
    images, labels = batch(8)
    reference = model(images)

    def error(bits: int) -> float:
        small = quantize_static(model, images, weight_bits=bits, act_bits=bits)
        return (small(images) - reference).norm().item()

    assert error(8) < 0.05 * reference.norm().item()
    assert error(8) < error(4)
    student = fake_quantize_static(model, images, weight_bits=4, act_bits=4)
    seen = inputs(student, images)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert set(seen) == set(layers)
    assert "blocks.0.attn.qkv" in seen
    assert all(len(x.unique()) <= 16 for x in seen.values())
    F.cross_entropy(student(images), labels % 5).backward()
    assert all(p.grad is not None for p in student.parameters())


def test_layers_out_of_reach_stay_float() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    tokens = torch.randn(4, 5, 16)
    small = quantize_static(model, tokens, weight_bits=8, act_bits=8)
    assert not hasattr(small.self_attn.out_proj, "act_quantizer")  # read by its parent
    assert hasattr(small.linear1, "act_quantizer")
    torch.testing.assert_close(small(tokens), model(tokens), rtol=0.1, atol=0.1)


def test_wrong_arguments_are_named() -> None:
    images, _ = batch(4)
    with pytest.raises(ValueError, match=r"act_bits 9 is outside 2\.\.8"):
        calibrate(net(), images, 9)
    with pytest.raises(ValueError, match=r"weight_bits 1 is outside 2\.\.8"):
        quantize_static(net(), images, weight_bits=1, act_bits=8)
    with pytest.raises(ValueError, match="observer 'max'"):
        calibrate(net(), images, 8, observer="max")
    with pytest.raises(ValueError, match="percentile 50 is outside"):
        calibrate(net(), images, 8, observer="percentile", percentile=50)
    with pytest.raises(ValueError, match="Conv2d of the model quantizes its input already"):
        calibrate(calibrate(net(), images, 8), images, 8)
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        calibrate(nn.ReLU(), images, 8)
    with pytest.raises(ValueError, match="0 images"):
        calibrate(net(), images[:0], 8)
    with pytest.raises(ValueError, match="not finite"):
        calibrate(net(), images / 0, 8)
