"""Nets of several kinds: what each can be measured on, and what is named where it cannot."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from snt_core.audit import first_look, layerwise, measures
from snt_core.audit.preparing import Asked, prepare
from snt_core.methods.compress.quantize import quantize_weights
from snt_core.methods.models import folding
from snt_core.methods.models.wrapping import copied

FILE = """
import torch
from torch import nn
from snt_core.common.vision import torchvision
torchvision()
from timm.models.vision_transformer import VisionTransformer

def vit():
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2}
    return VisionTransformer(**size, num_classes=5)

class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g

class OnceLayer(nn.Module):
    def forward(self, x):
        return Once.apply(x)

def once():
    return nn.Sequential(nn.Conv2d(3, 4, 3), OnceLayer(), nn.Flatten(), nn.Linear(784, 5))

def normed():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(784, 5))

def attending():
    layer = nn.TransformerEncoderLayer(256, 4, 16, batch_first=True)
    return nn.Sequential(nn.Flatten(2), layer, nn.Flatten(), nn.Linear(768, 5))

def transposed():
    return nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 18 * 18, 5))

def gru():
    return nn.Sequential(GRU(), nn.Linear(8, 5))

class GRU(nn.GRU):
    def __init__(self):
        super().__init__(256, 8, batch_first=True)
    def forward(self, x):
        return super().forward(x.flatten(2))[0][:, -1]

def standardised():
    from timm.layers import StdConv2d
    return nn.Sequential(StdConv2d(3, 4, 3), nn.Flatten(), nn.Linear(1024, 5))

def loader():
    g = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, 16, 16, generator=g), torch.randint(5, (12,), generator=g)
"""


@pytest.fixture
def look(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FILE)

    def of(name):
        found = prepare(Asked(target=f"{path}:{name}", data=f"{path}:loader"), 60)
        return found.scene, found.look

    return of


def test_tokens_are_measured_in_a_vit_and_nowhere_else(look):
    scene, vit = look("vit")
    assert vit.unsupported == {}
    plan = [one for one in measures.planned(scene, vit, 1.0) if one.name == "tokens"]
    assert len(plan) == 6
    rows, n = plan[0].run(scene, {})
    assert n == 12 or n == scene.sizes.evaluate
    assert rows[0]["speedup"] > 0
    scene, other = look("transposed")
    assert not [one for one in measures.planned(scene, other, 1.0) if one.name == "tokens"]
    assert "not a VisionTransformer of timm or torchvision" in other.unsupported["tokens"]


def test_a_net_without_second_derivative_keeps_its_other_measurements(look):
    scene, once = look("once")
    assert "no second derivative" in once.unsupported["curvature"]
    names = {one.name for one in measures.planned(scene, once, 1.0)}
    assert {"quantize", "prune", "layer"} <= names
    assert not names & {"lambda_max", "trace", "density"}


@pytest.mark.parametrize("name", ["vit", "once", "normed", "attending", "gru", "transposed"])
def test_every_parameter_is_touched_or_named_with_its_reason(look, name):
    scene, found = look(name)
    named = [row["name"] for row in found.touched + found.untouched]
    assert sorted(named) == sorted(dict(scene.model.named_parameters()))
    assert all(row["why"] for row in found.untouched)
    touched = sum(row["weights"] for row in found.touched)
    assert found.covered == pytest.approx(touched / found.parameters)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("normed", "0"), ("attending", "1.self_attn.in_proj_weight"), ("gru", "0.weight_hh_l0")],
)
def test_computed_packed_and_recurrent_weights_are_tried_alone(look, name, layer):
    """As the whole net would be compressed, all its other weights being as they are."""
    scene, found = look(name)
    assert layer in found.layers
    for treatment in ("W4", "50 %"):
        before = {k: v.clone() for k, v in scene.model.state_dict().items()}
        (row,) = layerwise.one_layer(scene, layer, treatment)
        alone = copied(folding.plain(scene.model))
        whole = quantize_weights(alone, 4, per_channel=True)
        path = layer if "weight" in layer else f"{layer}.weight"
        own = dict(alone.named_parameters())[path]
        with torch.no_grad():
            if treatment == "W4":
                own.copy_(dict(whole.named_parameters())[path])
            else:
                own.masked_fill_(own.abs() <= own.abs().flatten().kthvalue(own.numel() // 2)[0], 0)
            loss = F.cross_entropy(alone(scene.inputs), scene.targets)
        assert row["loss"] == pytest.approx(float(loss), rel=1e-5)
        assert all(torch.equal(v, before[k]) for k, v in scene.model.state_dict().items())


def test_a_standardised_weight_is_not_said_to_stay_pruned(look):
    scene, _ = look("standardised")
    assert layerwise.one_layer(scene, "0", "W4")[0]["loss"] > 0
    with pytest.raises(ValueError, match="weight '0' is standardised by StdConv2d"):
        layerwise.one_layer(scene, "0", "50 %")


def test_no_product_is_tried_that_would_take_much_of_the_budget(look, monkeypatch):
    scene, _ = look("gru")

    def never(*args):
        raise AssertionError

    monkeypatch.setattr(first_look.calls, "product", never)
    found = first_look.look(scene, 1e-6)
    assert "no time" in found.unsupported["curvature"]
    assert "larger --budget" in found.unsupported["curvature"]
    assert "compression" not in found.unsupported


def test_an_audit_that_goes_on_keeps_the_measurements_that_it_began_with(look):
    scene, quick = look("gru")
    slow = first_look.look(scene, 1e-6)
    began = {one: first_look.sized(scene, 60, found) for one, found in zip("qs", (quick, slow))}
    assert first_look.as_begun(quick, began["q"]) == quick
    assert "curvature" not in first_look.as_begun(slow, began["q"]).unsupported
    assert "no time" in first_look.as_begun(quick, began["s"]).unsupported["curvature"]
    assert first_look.as_begun(slow, began["s"]) == slow
