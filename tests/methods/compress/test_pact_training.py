"""Training with PACT: what it prepares, has to survive, and achieves on digits."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.common.vision import torchvision
from snt_core.methods.compress.activations import calibrate, quantize_static
from snt_core.methods.compress.pact import PACT, prepare_qat
from snt_core.methods.compress.quantize import freeze, quantize_weights


def net() -> nn.Module:
    """Layers read images (signed), ReLU's output, a learned slope's (signed), ReLU's."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.PReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


LAYERS = (0, 3, 6, 11)


def digits() -> tuple[Tensor, Tensor]:
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(found.images, dtype=torch.float32)[order, None] / 8 - 1
    return images, torch.tensor(found.target)[order]


def train(model: nn.Module, epochs: int, lr: float, autocast: bool = False) -> None:
    """Adam on the first 1,200 digits, with PACT's penalty on clip_alpha."""
    images, labels = digits()
    generator = torch.Generator().manual_seed(0)
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, p in model.named_parameters():
        groups[p.ndim > 1 or name.endswith("clip_alpha")].append(p)
    optimizer = torch.optim.AdamW(
        [{"params": p, "weight_decay": 1e-2 * decayed} for decayed, p in groups.items()],
        lr,
        fused=True,
    )
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(1200, generator=generator).split(50):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = F.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            assert loss.isfinite()
            optimizer.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module) -> tuple[float, float]:
    """Percent right of the other 597 digits, and their loss."""
    images, labels = digits()
    logits = model.eval()(images[1200:])
    right = (logits.argmax(1) == labels[1200:]).double().mean().item()
    return 100 * right, F.cross_entropy(logits, labels[1200:]).item()


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    model = net()
    train(model, 10, 4e-3)
    return model


def inputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What each convolution and linear layer computes with, in forward order."""
    seen: list[Tensor] = []
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model.eval()(images)
    return seen


def test_calibration_sees_signs_edges_and_order() -> None:
    images = digits()[0][:64]
    model = net()
    student = prepare_qat(model, images, weight_bits=3, act_bits=4, edge_bits=6)
    assert [student[i].act_quantizer.signed for i in LAYERS] == [True, False, True, False]
    assert [student[i].act_quantizer.act_bits for i in LAYERS] == [6, 4, 4, 6]
    seen = inputs(student, images)
    for x, most in zip(seen, [63, 16, 15, 64]):
        assert 2 < len(x.unique()) <= most
    levels = [len(student[i].weight.unique()) for i in LAYERS]
    assert levels[1:3] == [7, 7]
    assert all(30 < n <= 63 for n in (levels[0], levels[-1]))


class Backwards(nn.Module):
    """Calls its layers against the order in which they are registered."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.unused, self.middle, self.first = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def test_edges_are_those_of_the_forward_pass() -> None:
    student = prepare_qat(Backwards(), torch.randn(9, 4), weight_bits=2, act_bits=2)
    bits = {n: m.act_quantizer.act_bits for n, m in student.named_children() if n != "unused"}
    assert bits == {"first": 8, "middle": 2, "last": 8}
    assert not hasattr(student.unused, "act_quantizer")
    assert len(student.unused.weight.unique()) == 3


@pytest.mark.parametrize("autocast", [False, True])
def test_freeze_computes_the_same_with_plain_weights(trained: nn.Module, autocast: bool) -> None:
    images = digits()[0][:200]
    model = copy.deepcopy(trained)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    student = prepare_qat(model, images, weight_bits=3, act_bits=2)
    student.to(memory_format=torch.channels_last)
    starts = [student[i].act_quantizer.clip_alpha.item() for i in LAYERS]
    before = accuracy(student)
    train(student, 1, 3e-3, autocast)
    assert accuracy(student)[1] < 0.8 * before[1]
    assert all(student[i].act_quantizer.clip_alpha.item() != a for i, a in zip(LAYERS, starts))
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in student.parameters())
    small = freeze(student)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.equal(small(images), student(images))
    assert not any(parametrize.is_parametrized(m) for m in small.modules())
    assert {*small.state_dict()} - {*state} == {f"{i}.act_quantizer.clip_alpha" for i in LAYERS}
    assert [len(small[i].weight.unique()) <= 7 for i in LAYERS] == [False, True, True, False]
    assert len(inputs(small, images)[1].unique()) <= 4
    # the original is as it was
    assert [*model.state_dict()] == [*state]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_copies_and_saved_states_keep_alpha() -> None:
    images = digits()[0][:64]
    model = prepare_qat(net(), images, weight_bits=4, act_bits=3).eval()
    twin = copy.deepcopy(model)
    assert torch.equal(twin(images), model(images))
    nn.init.constant_(twin[3].act_quantizer.clip_alpha, 0.1)
    assert not torch.equal(twin(images), model(images))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = prepare_qat(net(), images / 2, weight_bits=4, act_bits=3).eval()
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(images), model(images))


def test_accuracy_on_digits(trained: nn.Module) -> None:
    """Float ~ W8A8 > W4A4; training helps at 4 bits and rescues 3; fewer bits lose more."""
    images = digits()[0][:512]
    top1, loss = accuracy(trained)
    assert top1 > 93
    after = {
        b: accuracy(quantize_static(trained, images, weight_bits=b, act_bits=b)) for b in (8, 4, 3)
    }
    assert abs(after[8][0] - top1) < 1
    assert abs(after[8][1] - loss) < 0.03
    assert after[4][1] > after[8][1] + 0.02
    assert after[4][0] < after[8][0]
    assert after[3][0] < after[4][0]
    for bits in (4, 3):
        student = prepare_qat(trained, images, weight_bits=bits, act_bits=bits)
        train(student, 2, 1e-3)
        tuned = accuracy(freeze(student))
        assert tuned[0] >= after[bits][0]
        assert tuned[1] < after[bits][1]


def test_weights_and_activations_combine(trained: nn.Module) -> None:
    images = digits()[0][:256]
    both = quantize_static(trained, images, weight_bits=4, act_bits=5)
    apart = quantize_weights(calibrate(trained, images, 5), 4)
    assert torch.equal(both.eval()(images), apart.eval()(images))


def test_vision_transformer() -> None:
    torchvision()
    import timm

    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, embed_dim=24, depth=2, num_heads=3, num_classes=10
    )
    images, labels = digits()
    student = prepare_qat(model, images[:64], weight_bits=4, act_bits=4)
    quantizers = {n: m for n, m in student.named_modules() if isinstance(m, PACT)}
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert set(quantizers) == {f"{n}.act_quantizer" for n in layers}
    assert quantizers["patch_embed.proj.act_quantizer"].act_bits == 8
    assert quantizers["head.act_quantizer"].act_bits == 8
    assert {m.act_bits for n, m in quantizers.items() if n.startswith("blocks")} == {4}
    assert all(m.signed for m in quantizers.values())
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(student(images[:64]), labels[:64])
    loss.backward()
    assert all(p.grad.isfinite().all() for p in student.parameters())
    student.eval()
    assert torch.equal(freeze(student)(images[:64]), student(images[:64]))


def test_wrong_arguments_are_named() -> None:
    images = digits()[0][:8]
    good = {"weight_bits": 4, "act_bits": 4, "edge_bits": 8}
    for name in good:
        with pytest.raises(ValueError, match=rf"{name} 9 is outside 2\.\.8"):
            prepare_qat(net(), images, **{**good, name: 9})
    student = prepare_qat(net(), images, **good)
    with pytest.raises(ValueError, match="quantizes its input already"):
        prepare_qat(student, images, **good)
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        prepare_qat(nn.ReLU(), images, **good)
