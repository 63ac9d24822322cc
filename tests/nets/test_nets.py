"""The backbones: their table, their sizes in the literature, and their peers' outputs."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.common.vision import torchvision
from snt_core.nets import MODELS, build

torchvision()
import timm  # noqa: E402

NETS = [
    (model, variant)
    for model, place in MODELS.items()
    for variant in import_module(f"snt_core.nets.{place.split(':')[0]}").VARIANTS
]
SIZES = {"resnet18": 64, "vit_b16": 224}  # of the images; others 32


def images(model: str, n: int = 2) -> Tensor:
    size = SIZES.get(model, 32)
    return torch.randn(n, 3, size, size)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def copied(target: nn.Module, source: nn.Module) -> nn.Module:
    """`target` with the values of `source`, which come in the same order under other names."""
    values = zip(target.state_dict(), source.state_dict().values(), strict=True)
    target.load_state_dict(dict(values))
    return target


# -- the table of backbones ------------------------------------------------------------------------


def test_names_need_no_torch():
    code = "import sys; from snt_core.nets import MODELS; print(*MODELS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*MODELS, "False"]


@pytest.mark.parametrize(
    ("model", "variant", "message"),
    [
        ("resnet19", "base", "unknown model 'resnet19'; did you mean 'resnet18'"),
        ("vit_tiny", "snt", "unknown variant of vit_tiny 'snt' (allowed: base)"),
        ("resnet20", "snt-channels", "preact-prelu, snt, snt-nofinal"),
        ("mixer_s", "snt-nofinal", "base, preact, snt, snt-channels"),
    ],
)
def test_what_does_not_exist_is_one_line(model, variant, message):
    with pytest.raises(UserError) as error:
        build(model, variant, 10, 0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("model", "variant"), NETS)
def test_logits_have_a_column_for_each_class(model, variant, classes):
    with torch.device("meta"):
        assert build(model, variant, classes, 0)(images(model)).shape == (2, classes)


@pytest.mark.parametrize(("model", "variant"), [n for n in NETS if n[0] != "vit_b16"])
def test_gradient_reaches_every_parameter(model, variant):
    net = build(model, variant, 10, 0)
    torch.manual_seed(0)
    F.cross_entropy(net(images(model, 4)), torch.arange(4)).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_gradient_reaches_every_parameter_of_vit_b16():
    with torch.device("meta"):
        net = build("vit_b16", "base", 10, 0)
        net(images("vit_b16")).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("model", [m for m in MODELS if m != "vit_b16"])
def test_a_seed_gives_the_weights_and_leaves_the_generator_alone(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build(model, "base", 10, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].ndim > 1)


# -- sizes -----------------------------------------------------------------------------------------


def mixer_size(classes: int, width=128, tokens=64, d_s=64, d_c=512, depth=8) -> int:
    token_mlp = 2 * tokens * d_s + d_s + tokens
    channel_mlp = 2 * width * d_c + d_c + width
    patches, norm, head = 4 * 4 * 3 * width + width, 2 * width, (width + 1) * classes
    return patches + depth * (2 * norm + token_mlp + channel_mlp) + norm + head


def vit_size(classes: int, width=192, tokens=64, depth=12) -> int:
    attention = 3 * (width + 1) * width + (width + 1) * width
    mlp = (width + 1) * 4 * width + (4 * width + 1) * width
    patches, norm, head = 4 * 4 * 3 * width + width, 2 * width, (width + 1) * classes
    return patches + (1 + tokens + 1) * width + depth * (2 * norm + attention + mlp) + norm + head


# He et al. 2016 (0.27 M; 11.7 M as torchvision counts it), Howard et al. 2017 (4.2 M; 4,231,976
# trainable ones as Keras counts them), Dosovitskiy et al. 2021 (86 M; timm's count)
@pytest.mark.parametrize(
    ("model", "classes", "expected"),
    [
        ("resnet20", 10, 272_474),
        ("resnet18", 1000, 11_689_512),
        # the 7x7 stem's kernel is 3x3
        ("resnet18_cifar", 1000, 11_689_512 - (49 - 9) * 3 * 64),
        ("mobilenet_v1", 1000, 4_231_976),
        ("mobilenet_v1", 10, 4_231_976 - 990 * 1025),
        ("mixer_s", 10, mixer_size(10)),
        ("vit_tiny", 10, vit_size(10)),
        ("vit_b16", 1000, 86_567_656),
    ],
)
def test_base_has_the_literature_size(model, classes, expected):
    with torch.device("meta"):
        assert parameters(build(model, "base", classes, 0)) == expected


# channels that the activations of `snt` stand on, summed by hand
RESNET18 = 4 * (64 + 128 + 256 + 512) - (64 + 128 + 256) + 512
MOBILENET = 2 * (32 + 64 + 128 + 128 + 256 + 256 + 6 * 512 + 1024) + 1024


@pytest.mark.parametrize(
    ("model", "variant", "channels"),
    [
        ("resnet18", "snt", RESNET18),
        ("resnet18_cifar", "snt", RESNET18),
        ("resnet18_cifar", "snt-nofinal", RESNET18 - 512),
        ("mobilenet_v1", "snt", MOBILENET),
        ("mobilenet_v1", "snt-nofinal", MOBILENET - 1024),
        ("mixer_s", "snt", 8 * (64 + 64 + 128 + 512)),
        ("mixer_s", "snt-channels", 8 * (128 + 64 + 128 + 512)),
    ],
)
def test_snt_adds_three_parameters_per_channel(model, variant, channels):
    with torch.device("meta"):
        snt, base = build(model, variant, 10, 0), build(model, "base", 10, 0)
    assert parameters(snt) - parameters(base) == 3 * channels


# -- peers -----------------------------------------------------------------------------------------


def as_torchvision(model: str) -> nn.Module:
    peer = torchvision().models.resnet18(num_classes=7)
    if model == "resnet18_cifar":
        peer.conv1, peer.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return peer


def as_timm(model: str) -> nn.Module:
    if model == "mixer_s":
        layout = {"img_size": 32, "patch_size": 4, "num_blocks": 8, "embed_dim": 128}
        return timm.models.MlpMixer(num_classes=7, mlp_ratio=(0.5, 4.0), **layout)
    if model == "vit_tiny":
        layout = {"img_size": 32, "patch_size": 4, "embed_dim": 192, "num_heads": 3}
        return timm.models.VisionTransformer(num_classes=7, **layout)
    peer = timm.create_model("mobilenetv1_100", num_classes=7, act_layer=nn.ReLU)
    peer.conv_stem.stride = (1, 1)
    return peer


@pytest.mark.parametrize(
    "model", ["resnet18", "resnet18_cifar", "mobilenet_v1", "mixer_s", "vit_tiny"]
)
def test_base_equals_the_peers_net(model):
    peer = as_torchvision(model) if model.startswith("resnet") else as_timm(model)
    ours = build(model, "base", 7, 0)
    peer = copied(peer, ours)
    torch.manual_seed(0)
    x = images(model, 4)
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-4, atol=1e-5)  # moves the statistics
    torch.testing.assert_close(ours.eval()(x), peer.eval()(x), rtol=1e-4, atol=1e-5)
    assert ours(x).std() > 1e-3


def shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


@cache
def shapes_of_nets(classes: int) -> list[dict[str, torch.Size]]:
    with torch.device("meta"):
        return [shapes(build(*net, classes, 0).state_dict()) for net in NETS]


def test_committed_weights_fit():
    files = sorted((PROJECT / "data" / "weights").glob("*.safetensors"))
    assert files
    for file in files:
        state = load_file(file)
        assert shapes(state) in shapes_of_nets(len(state["head.bias"])), file.name
