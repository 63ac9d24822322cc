"""Every method on nets of other people's: it works and its result is right, or it says why not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import snt_core as snt
from benchmarks.model_checks import CELLS, Case, live
from benchmarks.models import NETS, data_for, outcome
from snt_core.common.vision import torchvision


def tiny_vit() -> nn.Module:
    torchvision()
    import timm

    shape = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}
    return timm.models.VisionTransformer(**shape, num_classes=10)


def tiny_swin() -> nn.Module:
    """One whose attention reads the weights of its linear layers, without calling these."""
    torchvision()
    from torchvision.models.swin_transformer import SwinTransformer

    shape = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2], "num_heads": [2]}
    return SwinTransformer(**shape, window_size=[2, 2], num_classes=10)


def tiny_mobilenet() -> nn.Module:
    torchvision()
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    blocks = [
        InvertedResidualConfig(8, 3, 16, 8, True, "RE", 1, 1, 1.0),
        InvertedResidualConfig(8, 3, 16, 8, True, "HS", 1, 1, 1.0),
    ]
    return MobileNetV3(blocks, last_channel=16, num_classes=10)


MADE = {name: NETS[name] for name in ("LSTM tagger", "segmentation net")}
MADE |= {"ViT": tiny_vit, "Swin": tiny_swin, "MobileNet": tiny_mobilenet}


@cache
def case_of(name: str) -> Case:
    torch.manual_seed(0)
    net = MADE[name]()
    data, task = data_for(name)
    if name not in NETS:
        data = (torch.randn(4, 3, 16, 16), torch.randint(10, (4,)))
    return Case(MADE[name], live(net, data[0]), data, task)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", MADE)
def test_each_method_is_right_on_each_net_and_leaves_it_as_it_was(name: str, cell: str) -> None:
    case = case_of(name)
    before = copy.deepcopy(case.net.state_dict())
    found = outcome(CELLS[cell], case)
    recurrent = (name, cell) == ("LSTM tagger", "to_snt")
    assert found["is"] == ("n/a" if recurrent else "works"), found["says"]
    for key, value in case.net.state_dict().items():
        assert torch.equal(value, before[key]), key


def halved(model: nn.Module, *args: Any, **options: Any) -> nn.Module:
    model = copy.deepcopy(model)
    with torch.no_grad():
        next(model.parameters()).mul_(0.5)
    return model


def blind(*args: Any, **options: Any) -> snt.LambdaMax:
    facts = {"residual": 0.0, "products": 1, "converged": True, "n_samples": 2}
    return snt.LambdaMax(value=1.0, bn_mode="eval", **facts)


@pytest.mark.parametrize(
    ("cell", "method", "wrong"),
    [
        ("lambda_max", "lambda_max", blind),
        ("one-shot", "prune_magnitude", halved),
        ("W4", "quantize_weights", halved),
        ("W8A8", "quantize_static", halved),
        ("QAT", "freeze", halved),
        ("packed", "load_packed", lambda file, model: model),
    ],
)
def test_a_check_notices_a_wrong_result(
    cell: str, method: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snt, method, wrong, raising=False)
    net = "LSTM tagger" if cell == "lambda_max" else "segmentation net"
    found = outcome(CELLS[cell], case_of(net))
    assert found["is"] == "silent", found


def test_sam_that_counts_statistics_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = snt.SAM
    monkeypatch.setattr(snt, "SAM", lambda base, rho, model: whole(base, rho), raising=False)
    assert outcome(CELLS["SAM"], case_of("segmentation net"))["is"] == "silent"


def test_what_is_refused_has_a_reason_in_one_line() -> None:
    case = case_of("segmentation net")
    words: list[Any] = [ValueError("no\nreason"), ValueError(""), RuntimeError("deep inside")]
    for error in words:

        def check(_: Case, error: Exception = error) -> str:
            raise error

        assert outcome(check, case)["is"] == "traceback"

    def says(_: Case) -> str:
        raise ValueError("the model has no layer: give one")

    assert outcome(says, case)["is"] == "refused"
