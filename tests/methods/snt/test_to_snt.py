"""SNT for nets that exist: their own outputs, and the project's nets with the same weights."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections import UserDict
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.common.vision import torchvision
from snt_core.methods.snt.to_snt import to_snt
from snt_core.methods.snt.transform import SNTActivation
from snt_core.nets import build

vision = torchvision().models

import timm  # noqa: E402


def stirred(net: nn.Module) -> Any:
    """Every parameter and running mean random, so that none is without effect."""
    torch.manual_seed(0)
    for p in net.parameters():
        p.data.add_(torch.randn_like(p), alpha=0.05)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return net.eval()


def images(size: int = 32, n: int = 2) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


RELU = {
    "torchvision resnet": lambda: vision.resnet18(num_classes=5),
    "torchvision bottleneck": lambda: vision.ResNet(vision.resnet.Bottleneck, [1, 1, 1, 1], 5),
    "torchvision regnet": lambda: vision.regnet_x_400mf(num_classes=5),
    "torchvision squeezenet": lambda: vision.squeezenet1_1(num_classes=5),
    "torchvision googlenet": lambda: vision.googlenet(num_classes=5, init_weights=False),
    "timm resnet": lambda: timm.create_model("resnet18", num_classes=5),
    "timm regnet": lambda: timm.create_model("regnetx_002", num_classes=5),
    "our resnet": lambda: build("resnet20", "base", 5, 0),
    "our mobilenet": lambda: build("mobilenet_v1", "base", 5, 0),
}
CURVED = {
    "torchvision mobilenet": (lambda: vision.mobilenet_v2(num_classes=5), "ReLU6", 35),
    "torchvision convnext": (lambda: vision.convnext_tiny(num_classes=5), "GELU", 18),
    "torchvision vit": (lambda: vision.VisionTransformer(32, 8, 2, 2, 32, 64), "GELU", 2),
    "timm mobilenet": (lambda: timm.create_model("mobilenetv2_050"), "ReLU6", 35),
    "timm convnext": (lambda: timm.create_model("convnext_atto"), "GELU", 12),
    "timm mixer": (
        lambda: timm.models.MlpMixer(img_size=32, patch_size=8, num_blocks=2),
        "GELU",
        4,
    ),
    "timm vit": (
        lambda: timm.models.VisionTransformer(32, 8, embed_dim=32, depth=2, num_heads=2),
        *("GELU", 2),
    ),
}


@pytest.mark.parametrize("name", RELU)
@torch.no_grad()
def test_a_net_of_relus_computes_the_same_bits(name):
    net = stirred(RELU[name]())
    before = copy.deepcopy(net.state_dict())
    new, report = to_snt(net, images())
    x = images(n=3)
    assert torch.equal(new(x), net(x))
    assert report.equal
    assert report.difference == 0
    assert not report.left
    assert all(r.equal and r.was == "ReLU" for r in report.replaced)
    assert not any(type(m) is nn.ReLU for m in new.modules())
    assert all(torch.equal(new.state_dict()[k], v) for k, v in before.items())
    assert list(net.state_dict()) == list(before)


@pytest.mark.parametrize("name", CURVED)
@torch.no_grad()
def test_a_curved_activation_is_replaced_and_said_to_differ(name):
    make, kind, count = CURVED[name]
    net = stirred(make())
    new, report = to_snt(net, images(), slope=0.25)
    assert [(r.was, r.equal) for r in report.replaced] == [(kind, False)] * count
    # the same net with its activations exchanged as modules, where each is called once
    other = copy.deepcopy(net)
    for module in list(other.modules()):
        for child, m in list(module.named_children()):
            if type(m).__name__ in ("ReLU6", "GELU"):
                setattr(module, child, nn.LeakyReLU(0.25))
    torch.testing.assert_close(new(images()), other(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["preact", "snt"])
@torch.no_grad()
def test_moved_activations_make_the_papers_net(variant):
    """torchvision's ResNet-18 moved is this project's ResNet-18 of that order."""
    net, ours = stirred(vision.resnet18(num_classes=5)), build("resnet18", variant, 5, 0).eval()
    theirs = [v for k, v in net.state_dict().items() if "downsample" not in k]
    own = ours.state_dict()
    plain = [k for k in own if "shortcut" not in k and not k.endswith(("gamma", "beta", "zeta"))]
    for key, value in zip(plain, theirs, strict=True):
        own[key].copy_(value)
    joins = [v for k, v in net.state_dict().items() if "downsample" in k]
    for key, value in zip([k for k in own if "shortcut" in k], joins, strict=True):
        own[key].copy_(value)
    ours.load_state_dict(own)
    new, report = to_snt(net, images(), preact=True, slope="match" if variant == "preact" else 0.25)
    torch.testing.assert_close(new(images()), ours(images()), rtol=1e-4, atol=1e-4)
    assert len(report.moved) == 8
    assert report.moved[0] == ("relu", "before the main path of layer1.0")
    assert report.stayed[-1] == (
        "layer4.1.relu_1",
        "it is the last of its chain, before pooling or the like",
    )
    assert not report.equal
    assert sum(isinstance(m, SNTActivation) for m in new.modules()) == 17


@torch.no_grad()
def test_eq1_in_place_is_our_variant_of_that_name():
    net, ours = stirred(build("resnet20", "base", 5, 0)), build("resnet20", "eq1", 5, 0).eval()
    ours.load_state_dict(net.state_dict(), strict=False)
    new, _ = to_snt(net, images(), slope=0.25)
    assert torch.equal(new(images()), ours(images()))
    assert list(new.state_dict()) == list(ours.state_dict())


@pytest.mark.parametrize("name", ["our resnet", "torchvision squeezenet"])
def test_what_cannot_move_is_listed(name):
    net = stirred(RELU[name]())
    new, report = to_snt(net, images(), preact=True)
    assert torch.equal(new(images()), net(images()))
    assert report.moved == ()
    assert {n for n, _ in report.stayed} == {r.name for r in report.replaced}


@torch.no_grad()
def test_features_that_the_model_returns_keep_their_activation():
    net = stirred(timm.create_model("resnet18", features_only=True))
    new, report = to_snt(net, images(), preact=True)
    # one of two blocks a stage hands its activation on within the stage
    assert len(report.moved) == 4
    assert all((f >= 0).all() for f in new(images()))


class Functions(nn.Module):
    """The net of torch's tutorials: functions, one of which follows the training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        self.weight = nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
        self.fc1, self.fc2 = nn.Linear(6, 7), nn.Linear(7, 5)
        self.register_buffer("offset", torch.ones(1))

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2), inplace=True)
        self.act(x)  # its result is not looked at: it works in place
        x = F.prelu(self.conv2(x), self.weight).mean((2, 3)) + self.offset
        x = self.act(F.dropout(self.fc1(x), training=self.training))
        x = F.leaky_relu(x, 0.3).relu()
        return self.fc2(x) if scale is None else self.fc2(x) * scale


def test_functions_and_modules_called_twice_get_an_activation_a_call():
    net = stirred(Functions())
    new, report = to_snt(net, images())
    x = images(n=3)
    assert torch.equal(new(x), net(x))
    kinds = ["ReLU", "LeakyReLU", "PReLU", "LeakyReLU", "LeakyReLU", "ReLU"]
    assert [r.was for r in report.replaced] == kinds
    assert [(r.channels, r.dim) for r in report.replaced] == [(4, 1)] * 2 + [(6, 1)] + [(7, -1)] * 3
    assert all(r.equal for r in report.replaced)
    assert set(net.state_dict()) <= set(new.state_dict())
    for net_ in (net.train(), new.train()):  # dropout follows the mode
        torch.manual_seed(1)
        net_.result = net_(x)
    assert torch.equal(net.result, new.result)
    assert not torch.equal(new(x), new(x))
    new(x).sum().backward()
    assert all(
        p.grad is not None for r in report.replaced for p in new.get_submodule(r.name).parameters()
    )


def test_one_module_in_several_places_becomes_several():
    act = nn.ReLU()
    net = nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 5), act, nn.Sequential(act)).eval()
    new, report = to_snt(net, torch.randn(2, 3))
    assert [(r.name, r.channels) for r in report.replaced] == [("1", 4), ("3", 5), ("4.0", 5)]
    x = torch.randn(7, 3)
    assert torch.equal(new(x), net(x))


@pytest.mark.parametrize("channels", [1, 4])
def test_a_prelu_keeps_its_slopes(channels):
    act = nn.PReLU(channels)
    act.weight.data.uniform_(0.1, 0.9)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), act).eval()
    new, report = to_snt(net, images(4))
    assert torch.equal(new(images(4)), net(images(4)))
    assert torch.equal(new[1].beta, act.weight.detach().expand(4))
    assert report.replaced[0].equal


def test_channels_follow_a_transposition():
    class Mix(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(6, 8), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.fc(x).transpose(1, 2))  # B 8 N

    _, report = to_snt(Mix().eval(), torch.randn(2, 5, 6))
    assert [(r.channels, r.dim) for r in report.replaced] == [(8, 1)]


def test_gates_and_what_the_example_does_not_reach_stay_by_name():
    net = timm.create_model("regnety_002").eval()
    _, report = to_snt(net, images(64))
    assert len(report.left) == 13
    assert {reason for _, reason in report.left} == {"Sigmoid is a gate"}
    net = nn.Sequential(nn.Linear(2, 2))
    net.unused = nn.ReLU()
    net.forward = net[0].forward
    _, report = to_snt(net, torch.ones(1, 2))
    assert report.left == (("unused", "the example does not reach it"),)


def test_a_forward_pass_that_is_no_graph_stays_and_says_so():
    class Branching(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            return F.relu(x) if x.sum() > 0 else x

    net = nn.Sequential(Branching(2, 2))
    net[0].bias.data.fill_(9)
    new, report = to_snt(net, torch.ones(1, 2))
    ((name, reason),) = report.left
    assert name == "0: ReLU as a function"
    assert "no graph" in reason
    assert type(new[0]) is Branching


def test_the_model_stays_and_the_copy_keeps_modes_dtype_and_what_is_frozen():
    net = vision.resnet18(num_classes=5).double().train()
    net.layer1.eval()
    net.conv1.weight.requires_grad_(False)
    text, before = str(net), copy.deepcopy(net.state_dict())
    new, report = to_snt(net, images().double(), preact=True)
    assert str(net) == text
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training
    assert not net.layer1.training
    modes = {name: m.training for name, m in new.named_modules()}
    assert all(mode is not name.startswith("layer1") for name, mode in modes.items())
    assert {p.dtype for p in new.parameters()} == {torch.float64}
    assert not new.conv1.weight.requires_grad
    new(images().double()).sum().backward()
    for r in report.replaced:
        assert new.get_submodule(r.name).gamma.grad is not None


def test_a_copy_and_a_state_dict_carry_the_new_net():
    net = stirred(vision.resnet18(num_classes=5))
    new, _ = to_snt(net, images(), preact=True, slope=0.1)
    with torch.no_grad():
        for p in new.parameters():
            p.add_(0.01)
    assert torch.equal(copy.deepcopy(new)(images()), new(images()))
    file = io.BytesIO()
    torch.save(new.state_dict(), file)
    file.seek(0)
    other, _ = to_snt(vision.resnet18(num_classes=5).eval(), images(), preact=True)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(images()), new(images()))


def test_an_overwritten_input_that_is_read_again_is_refused():
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = x + 0
            return self.act(x) + x

    with pytest.raises(ValueError, match=r"^[^\n]*overwrites in place[^\n]*inplace=False[^\n]*$"):
        to_snt(Overwriting().eval(), torch.randn(4, 3))


@dataclasses.dataclass(frozen=True, slots=True)
class Out:
    logits: Tensor
    kind: str = "logits"


class Packed(NamedTuple):
    parts: dict


class ReadsAgain(nn.Module):
    """One layer whose ReLU or GELU is used, or overwrites what is read after it."""

    def __init__(self, act: nn.Module, put: Any, drop: bool) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(4, 4), act, nn.Linear(4, 3)
        self.put, self.drop = put, drop

    def forward(self, x: Tensor) -> Any:
        h = self.a(x)
        changed = self.act(h)
        return self.put(self.b(h if self.drop else changed))


FORMS = {
    "tensor": lambda x: x,
    "dataclass": Out,
    "nested": lambda x: [{"out": (None, Out(x))}],
    "named tuple": lambda x: Packed({"x": Out(x)}),
    "user dict": lambda x: UserDict(x=x),
    "packed sequence": lambda x: nn.utils.rnn.pack_sequence([x]),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_compared_in_whatever_they_come(form):
    x = torch.randn(5, 4)
    _, report = to_snt(ReadsAgain(nn.GELU(), FORMS[form], drop=False).eval(), x)
    assert not report.equal
    assert report.difference > 0.01
    with pytest.raises(ValueError, match="overwrites in place"):
        to_snt(ReadsAgain(nn.ReLU(inplace=True), FORMS[form], drop=True).eval(), x)


BESIDE = {
    "truth values": lambda x: x > 0,
    "none": lambda x: x[:0],
    "classes": lambda x: x.argmax(1),
    "bytes": lambda x: (x > 0).byte(),
    "complex": lambda x: torch.complex(x, x),
    "minus infinity": lambda x: x.masked_fill(x < 0, -torch.inf),
    "some": lambda x: x[x > 0.2],
    "as many as": lambda x: x[x[:, 0] > 0.2].unbind(),
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", BESIDE)
def test_outputs_of_any_format_and_size_are_compared(kind, alone):
    def put(x: Tensor) -> Any:
        return BESIDE[kind](x) if alone else (x, BESIDE[kind](x))

    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    _, same = to_snt(ReadsAgain(nn.ReLU(), put, drop=False).eval(), x)
    assert same.equal
    assert same.difference == 0
    _, other = to_snt(ReadsAgain(nn.GELU(), put, drop=False).eval(), x)
    empty = kind == "none" and alone
    assert other.equal is empty
    assert (other.difference == 0) is empty
    if not empty:
        with pytest.raises(ValueError, match="overwrites in place"):
            to_snt(ReadsAgain(nn.ReLU(inplace=True), put, drop=True).eval(), x)


def test_each_run_gets_an_example_of_its_own():
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))

        def forward(self, batch: dict[str, Tensor], shift: Tensor) -> Tensor:
            return self.body(batch["x"].sub_(shift).div_(0.25))

    class Tensors(Normalising):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward({"x": x}, torch.tensor(0.5))

    x = images(8)
    before = x.clone()
    for preact in (False, True):
        assert to_snt(Normalising().eval(), ({"x": x}, torch.tensor(0.5)), preact=preact)[1].equal
        assert to_snt(Tensors().eval(), x, preact=preact)[1].equal
    assert torch.equal(x, before)


@pytest.mark.parametrize("put", [lambda x: None, lambda x: SimpleNamespace(x=x), lambda x: [1]])
def test_an_output_without_a_tensor_is_not_called_equal(put):
    with pytest.raises(ValueError, match=r"^the model returns a \w+ in which no tensor[^\n]*$"):
        to_snt(ReadsAgain(nn.ReLU(), put, drop=False).eval(), torch.randn(5, 4))


@pytest.mark.parametrize(
    ("example", "options", "match"),
    [
        (torch.randn(2, 3), {"slope": "same"}, "slope is 'same'"),
        ("images", {}, "example is a str"),
        (torch.randn(2, 4), {}, "fails on the example"),
    ],
)
def test_bad_arguments_are_named_in_a_line(example, options, match):
    with pytest.raises(ValueError, match=rf"^[^\n]*{match}[^\n]*$"):
        to_snt(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), example, **options)


@pytest.mark.parametrize(
    "activation", ["relu", F.relu, nn.ReLU()], ids=["name", "function", "module"]
)
@torch.no_grad()
def test_torchs_transformer_computes_eq1_in_its_fused_kernels_place(activation):
    net = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    new, report = to_snt(net, x)
    torch.testing.assert_close(new(x), net(x))
    assert [(r.name, r.channels, r.dim) for r in report.replaced] == [("activation", 16, -1)]
    new.activation.zeta.fill_(1.0)
    assert not torch.allclose(new(x), net(x))


def test_an_example_without_a_batch_has_no_channels_to_tell():
    _, report = to_snt(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(3, 8, 8))
    assert report.left == (("1", "its input has no axis for the batch"),)


def test_a_second_time_nothing_is_replaced():
    new, _ = to_snt(vision.resnet18().eval(), images())
    again, report = to_snt(new, images())
    assert report.replaced == ()
    assert {reason for _, reason in report.left} == {"it is Eq. (1) already"}
    assert torch.equal(again(images()), new(images()))


def test_the_report_reads_as_sentences():
    _, report = to_snt(stirred(vision.mobilenet_v3_small()), images(64))
    text = str(report)
    assert text.startswith("Eq. (1) in the place of 33 activations (Hardswish, ReLU)\n")
    assert "Left as they are: 9\n" in text
    assert "Hardsigmoid is a gate" in text
