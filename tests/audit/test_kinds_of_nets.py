"""Nets of several kinds: what each can be measured on, and what is named where it cannot."""

from __future__ import annotations

import pytest

from snt_core.audit import calls, measures
from snt_core.audit.preparing import Asked, prepare

FILE = """
import torch
from torch import nn
from snt_core.common.vision import torchvision
torchvision()
from timm.models.vision_transformer import VisionTransformer

def vit():
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2}
    return VisionTransformer(**size, num_classes=5)

def hard():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(784, 5))

def normed():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(784, 5))

def attending():
    layer = nn.TransformerEncoderLayer(256, 4, 16, batch_first=True)
    return nn.Sequential(nn.Flatten(2), layer, nn.Flatten(), nn.Linear(768, 5))

def transposed():
    return nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 18 * 18, 5))

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
    assert "not a timm VisionTransformer" in other.unsupported["tokens"]


def test_a_net_without_second_derivative_keeps_its_other_measurements(look):
    scene, hard = look("hard")
    assert "hardsigmoid" in hard.unsupported["curvature"]
    assert "relu6(x + 3) / 6" in hard.unsupported["curvature"], "the remedy"
    names = {one.name for one in measures.planned(scene, hard, 1.0)}
    assert {"quantize", "prune", "layer"} <= names
    assert not names & {"lambda_max", "trace", "density"}


@pytest.mark.parametrize("name", ["vit", "hard", "normed", "attending", "transposed"])
def test_every_parameter_is_touched_or_named_with_its_reason(look, name):
    scene, found = look(name)
    named = [row["name"] for row in found.touched + found.untouched]
    assert sorted(named) == sorted(dict(scene.model.named_parameters()))
    assert all(row["why"] for row in found.untouched)
    touched = sum(row["weights"] for row in found.touched)
    assert found.covered == pytest.approx(touched / found.parameters)


def test_a_weight_that_is_computed_anew_is_not_tried_alone(look):
    scene, _ = look("normed")
    assert list(calls.layers(scene.model)) == ["2"]
