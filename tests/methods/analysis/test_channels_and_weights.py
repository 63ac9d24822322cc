"""Oracles: scikit-learn's PCA, scipy's moments, timm's own intermediates."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from torch import Tensor, nn

from snt_core.common.vision import torchvision
from snt_core.methods.analysis.channels import ChannelRanges, channel_ranges, widest_to_median
from snt_core.methods.analysis.weights import (
    block_spectra,
    effective_rank,
    explained_variance,
    share_at,
)
from snt_core.methods.tasks.observe import observe
from tests.small import conv_net, images

DEPTH, WIDTH = 2, 16


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torchvision()
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    size = {"img_size": 8, "patch_size": 4, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2}
    return VisionTransformer(**size, num_classes=3, drop_path_rate=0.5, init_values=0.1).train()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(2)


def cumulative(table: Tensor) -> np.ndarray:
    return np.cumsum(PCA().fit(table.detach().double().numpy()).explained_variance_ratio_)


@pytest.mark.parametrize("shape", [(40, 9), (9, 40), (7, 7), (12, 3, 2, 2)])
def test_explained_variance_is_that_of_pca(shape: tuple[int, ...]) -> None:
    weight = nn.Parameter(torch.randn(shape) + 3)  # a mean that PCA takes away
    curve = explained_variance(weight)
    assert (curve.dtype, curve.requires_grad) == (torch.float64, False)
    np.testing.assert_allclose(curve, cumulative(weight.reshape(shape[0], -1)), rtol=1e-12)


def test_explained_variance_of_a_low_rank_weight() -> None:
    curve = explained_variance(torch.randn(50, 3).double() @ torch.randn(3, 20).double() + 1)
    assert curve[1] < 0.999
    assert curve[2] == pytest.approx(1, abs=1e-12)
    assert len(curve) == 20


def test_effective_rank() -> None:
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.ones(5, 9)) == pytest.approx(1)
    weight = torch.randn(30, 8)
    singular = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    expected = math.exp(stats.entropy(singular))
    assert effective_rank(weight) == pytest.approx(expected, rel=1e-12)
    turned = torch.linalg.qr(torch.randn(30, 30).double())[0] @ weight.double()
    assert effective_rank(1e-4 * turned) == pytest.approx(expected, rel=1e-9)


def test_block_spectra_of_a_timm_vit(vit: nn.Module) -> None:
    found = block_spectra(vit)
    assert all(curve.shape == (DEPTH, WIDTH) for curve in found.values())
    for i, block in enumerate(vit.blocks):
        qkv = block.attn.qkv.weight
        tables = {
            "fc1": block.mlp.fc1.weight,
            "fc2": block.mlp.fc2.weight.T,
            "qkv": qkv,
            "q": qkv[:WIDTH],
            "k": qkv[WIDTH : 2 * WIDTH],
            "v": qkv[2 * WIDTH :],
        }
        curves = {name: cumulative(table) for name, table in tables.items()}
        curves["ffn"] = (curves["fc1"] + curves["fc2"]) / 2
        assert curves.keys() == found.keys()
        for name, curve in curves.items():
            np.testing.assert_allclose(found[name][i], curve, rtol=1e-10)


def test_share_at_reads_the_same_point_of_any_width() -> None:
    assert share_at(torch.arange(1, 769) / 768, 200 / 768) == pytest.approx(200 / 768)
    assert share_at(torch.arange(1, 193) / 192, 200 / 768) == pytest.approx(50 / 192)
    assert share_at(torch.tensor([0.5, 1.0]), 0.01) == 0.5
    assert share_at(torch.tensor([0.5, 1.0]), 1) == 1.0


def by_channel(x: Tensor) -> np.ndarray:
    last = x if x.ndim == 3 else x.movedim(1, -1)
    return last.detach().double().reshape(-1, last.shape[-1]).numpy()


def assert_ranges(found: ChannelRanges, x: Tensor) -> None:
    table = by_channel(x)
    np.testing.assert_allclose(found.low, table.min(0), rtol=1e-5)
    np.testing.assert_allclose(found.high, table.max(0), rtol=1e-5)
    np.testing.assert_allclose(found.kurtosis, stats.kurtosis(table, fisher=False), rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 128])
def test_channel_ranges_of_a_convolutional_net(batch_size: int) -> None:
    model, x = conv_net(), images()
    plain = copy.deepcopy(model).eval()
    layers = ["6", "1", "3", "1"]
    found = channel_ranges(model, layers, x, batch_size=batch_size)
    assert list(found) == ["6", "1", "3"]
    # an output is seen before the next layer changes it in place, an input before its own does
    for name, until in {"1": 2, "3": 4, "6": 7}.items():
        assert_ranges(found[name], plain[:until](x))
    read = channel_ranges(model, ["2", "6"], x, capture="input", batch_size=batch_size)
    assert_ranges(read["2"], plain[:2](x))
    assert_ranges(read["6"], plain[:6](x))


def test_channel_ranges_of_a_timm_vit(vit: nn.Module) -> None:
    names = [f"blocks.{i}" for i in range(DEPTH)]
    found = channel_ranges(vit, names, images(), batch_size=5)
    _, streams = (
        copy.deepcopy(vit)
        .eval()
        .forward_intermediates(images(), output_fmt="NLC", return_prefix_tokens=True)
    )
    for name, (patches, prefix) in zip(names, streams, strict=True):
        assert_ranges(found[name], torch.cat([prefix, patches], 1))


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [
        (nn.Linear(3, 5), (2, 4, 6, 3), -1),  # B H W C
        (nn.LayerNorm(3), (2, 4, 6, 3), -1),
        (nn.Conv1d(3, 5, 1), (2, 3, 7), 1),  # B C L, no tokens
        (nn.BatchNorm1d(3), (2, 3, 7), 1),
        (nn.Conv3d(3, 5, 1), (2, 3, 4, 2, 2), 1),
        (nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3)), (2, 4, 6, 3), -1),  # as in Swin
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), (2, 3, 4, 3), 1),
        (nn.ReLU(), (2, 3, 4, 6), 1),
        (nn.ReLU(), (2, 4, 3), -1),
    ],
)
def test_channels_lie_where_the_kind_of_layer_has_them(layer, shape, axis) -> None:
    x = torch.randn(shape)
    model = nn.Sequential(layer)
    found = channel_ranges(model, ["0"], x)["0"]
    expected = layer.eval()(x).movedim(axis, -1).flatten(0, -2)
    np.testing.assert_allclose(found.high, expected.amax(0).tolist(), rtol=1e-6)
    other = channel_ranges(model, ["0"], x, axis=0)["0"]
    assert len(other.high) == shape[0]


def test_an_axis_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"axis 4 is not one of layer '', shape \(5, 3\)"):
        channel_ranges(nn.ReLU(), [""], torch.randn(5, 3), axis=4)


def test_inputs_given_by_keyword_and_layers_of_a_fast_path_are_seen() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(input=self.encode(x))

    names = ["fc", "encode.linear1", "encode.linear2"]
    found = channel_ranges(ByName(), names, torch.randn(3, 5, 4), capture="input")
    assert [len(found[name].low) for name in names] == [4, 4, 8]


def test_moments_of_channels_that_lie_far_from_zero_or_drift() -> None:
    x = torch.randn(64, 3, 1, 1).double() * torch.tensor([1.0, 1e-3, 10.0]).view(3, 1, 1)
    x += 1e6
    x[32:, 2] += 1e5
    found = channel_ranges(nn.Identity(), [""], x, batch_size=7)[""]
    expected = stats.kurtosis(by_channel(x - 1e6), fisher=False)
    np.testing.assert_allclose(found.kurtosis, expected, rtol=1e-5)


def test_widest_to_median() -> None:
    ranges = ChannelRanges(low=[-1, 0, -60, 0], high=[1, 3, 60, 5], kurtosis=[3.0] * 4)
    assert widest_to_median(ranges) == 120 / 4
    constant = channel_ranges(nn.Identity(), [""], torch.full((4, 3), 0.1))[""]
    assert all(map(math.isnan, constant.kurtosis))
    assert widest_to_median(constant) == math.inf


def test_layers_that_run_twice_count_twice_and_unused_ones_not() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.twice(self.twice(x))

    net, x = Net(), torch.randn(5, 3)
    ranges = channel_ranges(net, ["twice"], x, capture="input")["twice"]
    both = torch.cat([x, net.twice(x)])
    np.testing.assert_allclose(ranges.high, both.amax(0).tolist(), rtol=1e-6)
    with pytest.raises(ValueError, match="'unused' took no part"):
        channel_ranges(net, ["unused"], x)


def test_model_is_left_as_it_was_even_if_interrupted() -> None:
    model = conv_net()
    model[1].eval()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]

    def stop(name: str, x: Tensor) -> None:
        raise KeyboardInterrupt

    seen = []
    observe(model, ["0", "0"], images(), lambda name, x: seen.append(len(x)), batch_size=8)
    assert seen == [8, 5]
    channel_ranges(model, ["0"], images())
    with pytest.raises(KeyboardInterrupt):
        observe(model, ["3"], images(), stop)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_findings_are_json() -> None:
    found = channel_ranges(conv_net(), ["0"], images())["0"]
    assert ChannelRanges(**json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explained_variance(torch.ones(3)), r"shape \(3,\)"),
        (lambda: explained_variance(torch.full((3, 2), torch.nan)), "all finite"),
        (lambda: explained_variance(torch.full((3, 2), 0.1)), "3 rows of the weight are equal"),
        (lambda: effective_rank(torch.zeros(3, 2)), "all zeros"),
        (lambda: block_spectra(conv_net()), "Sequential has no blocks"),
        (lambda: share_at(torch.ones(3), 0), "share 0 is outside"),
        (lambda: channel_ranges(conv_net(), ["9"], images()), "no layer '9'"),
        (lambda: channel_ranges(conv_net(), ["0"], images(0)), "0 images"),
        (lambda: channel_ranges(conv_net(), ["0"], images(), batch_size=0), "batch_size 0"),
        (lambda: channel_ranges(conv_net(), ["0"], images(), capture="out"), "capture 'out'"),
        (lambda: channel_ranges(conv_net(), ["0"], images() / 0), "'0' passes values"),
        (lambda: channel_ranges(nn.Identity(), [""], torch.ones(3)), r"shape \(3,\)"),
        (lambda: channel_ranges(nn.LSTM(3, 2), [""], torch.ones(4, 3)), "a tuple, not"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_block_without_the_layers_is_named(vit: nn.Module) -> None:
    other = copy.deepcopy(vit)
    other.blocks[1].mlp = nn.Identity()
    with pytest.raises(ValueError, match="block 1 lacks"):
        block_spectra(other)
