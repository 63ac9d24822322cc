"""Nets that are built in other ways than most: each method is right on them, or says why not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import snt_core as snt


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is old
        return torch.nn.utils.weight_norm(layer)


NORMS = {"new": torch.nn.utils.parametrizations.weight_norm, "old": old_weight_norm}
DATA = (torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 5)


def normalised(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    layers = [norm(nn.Conv2d(3, 4, 3)), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, norm(nn.Linear(4, 5)))


@pytest.mark.parametrize("norm", NORMS)
def test_weight_norm_has_the_hessian_of_finite_differences(norm: str) -> None:
    """torch's double backward of weight normalisation is not symmetric, and errs by percents."""
    net, (x, y) = normalised(NORMS[norm]).double(), (DATA[0].double(), DATA[1])
    params = list(net.parameters())
    v = torch.randn(sum(p.numel() for p in params), generator=torch.Generator().manual_seed(1))
    v = v.double()

    def gradient(step: float) -> Tensor:
        pieces = v.split([p.numel() for p in params])
        with torch.no_grad():
            for p, piece in zip(params, pieces, strict=True):
                p.add_(step * piece.view_as(p))
        rows = torch.autograd.grad(F.cross_entropy(net(x), y), params)
        with torch.no_grad():
            for p, piece in zip(params, pieces, strict=True):
                p.sub_(step * piece.view_as(p))
        return torch.cat([row.reshape(-1) for row in rows])

    expected = (gradient(1e-6) - gradient(-1e-6)) / 2e-6
    torch.testing.assert_close(snt.hvp(net, (x, y), v), expected, rtol=1e-6, atol=1e-8)


def test_weight_norm_over_all_axes_and_along_a_vector() -> None:
    from snt_core.methods.curvature.exact import _weight_norm

    for shape, g, dim in (
        ((4, 3), (4, 1), 0),
        ((4, 3), (1, 3), 1),
        ((4, 3), (), -1),
        ((4,), (4,), 0),
    ):
        v, length = torch.randn(shape), torch.rand(g) + 0.5
        torch.testing.assert_close(_weight_norm(v, length, dim), torch._weight_norm(v, length, dim))


class Keywords(nn.Module):
    """One that calls its layers by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.conv(input=x).relu().mean((2, 3)))


def test_layers_called_by_keyword_quantize_their_inputs() -> None:
    torch.manual_seed(0)
    net = Keywords()
    small = snt.quantize_static(net, DATA, weight_bits=8, act_bits=3)
    positional = nn.Sequential(net.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.head)
    expected = snt.quantize_static(positional, DATA, weight_bits=8, act_bits=3)
    torch.testing.assert_close(small(DATA[0]), expected(DATA[0]))
    student = snt.prepare_qat(net, DATA, weight_bits=4, act_bits=4)
    student(DATA[0]).sum().backward()
    assert student.conv.act_quantizer.clip_alpha.grad is not None


@pytest.mark.parametrize("norm", NORMS)
def test_a_trained_net_with_weight_norm_goes_through_every_copy(norm: str, tmp_path: Path) -> None:
    net = normalised(NORMS[norm])
    F.cross_entropy(net(DATA[0]), DATA[1]).backward()  # the older hook keeps a part of the graph
    small = snt.quantize_static(net, DATA, weight_bits=4, act_bits=8)
    snt.save_packed(small, tmp_path / "small.safetensors")
    fresh = normalised(NORMS[norm])
    fresh(DATA[0])
    back = snt.load_packed(tmp_path / "small.safetensors", fresh)
    assert torch.equal(back(DATA[0]), small(DATA[0]))
    assert snt.speedup(net, small, DATA[0], repeats=1) > 0
    assert snt.to_snt(net, DATA[0]).report.left


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(20, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x))


def test_an_onnx_graph_that_no_engine_would_load_is_refused(tmp_path: Path) -> None:
    words = torch.randint(20, (4, 6))
    with pytest.raises(ValueError, match=r"cannot be exported to ONNX: [^\n]+$"):
        snt.export_onnx(Bag(), words, tmp_path / "bag.onnx")
    assert not list(tmp_path.iterdir())


def test_an_example_with_gradients_is_exported_and_a_dict_is_refused(tmp_path: Path) -> None:
    size = snt.export_onnx(nn.Linear(3, 2), torch.randn(4, 3, requires_grad=True), tmp_path / "a")
    assert size > 0
    with pytest.raises(ValueError, match="example holds a dict"):
        snt.export_onnx(nn.Linear(3, 2), {"x": torch.randn(4, 3)}, tmp_path / "b")


class Called(nn.Module):
    """A net of two layers with any function between them."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.between = nn.Linear(6, 8), nn.Linear(8, 5), between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first, x))


ROWS = (torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.arange(4))


def test_checkpoints_are_served_or_refused() -> None:
    plain = snt.lambda_max(Called(lambda first, x: first(x).tanh()), ROWS).value

    def kept(reentrant: bool) -> Any:
        return lambda first, x: checkpoint(
            lambda z: first(z).tanh(), x.requires_grad_(), use_reentrant=reentrant
        )

    data = (ROWS[0].clone(), ROWS[1])
    assert snt.lambda_max(Called(kept(False)), data).value == pytest.approx(plain, rel=1e-5)
    with pytest.raises(ValueError, match="give use_reentrant=False"):
        snt.lambda_max(Called(kept(True)), data)


def test_chance_does_not_pass_for_sharpness() -> None:
    """Dropout that is on in eval mode too gives another loss in each pass."""
    net = Called(lambda first, x: F.dropout(first(x), 0.5, training=True))
    with pytest.raises(ValueError, match="two passes over the data gave the losses"):
        snt.adaptive_sharpness(net, ROWS)
    with pytest.raises(ValueError, match="two passes over the data gave the losses"):
        snt.loss_rises(net, {"half": snt.prune_magnitude(net, 0.5)}, ROWS)


def test_a_scripted_net_has_no_sharpness_that_is_known() -> None:
    net = torch.jit.script(nn.Sequential(nn.Linear(6, 5)))
    with pytest.raises(ValueError, match="a gradient in no parameter"):
        snt.adaptive_sharpness(net, ROWS)
