"""NumPy's quantiles and a search over all ranges as oracles of the observers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snt_core.methods.compress.activations import ActQuantizer, calibrate
from snt_core.methods.compress.ranges import affine

BITS = range(2, 9)
OBSERVERS = ["minmax", "percentile", "mse"]


def values(kind: str) -> Tensor:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(2))
    heavy = torch.cat([x, torch.tensor([30.0, -60.0])])
    return {"normal": x, "relu": x.relu(), "uniform": x.erf() + 0.5, "outliers": heavy}[kind]


def calibrated(x: Tensor, act_bits: int, **options) -> ActQuantizer:
    """The quantizer that the values x, one an image, lead to."""
    return calibrate(nn.Linear(1, 1), x[:, None], act_bits, **options).act_quantizer


def test_all_zero_and_denormal_inputs_stay_finite() -> None:
    for x in (torch.zeros(8), torch.full((8,), 1e-39), torch.full((8,), 1e-44)):
        for observer in OBSERVERS:
            quantizer = calibrated(x, 4, observer=observer)
            assert (quantizer(x) == 0).all()
            assert (quantizer(torch.zeros(1)) == 0).all()
            assert quantizer(torch.ones(1)).isfinite().all()


@pytest.mark.parametrize("batch_size", [7, 5000, 100_000])
@pytest.mark.parametrize("percentile", [90, 99.9, 99.99, 100])
@pytest.mark.parametrize("kind", ["normal", "relu", "uniform", "outliers"])
def test_percentiles_equal_numpys(kind: str, percentile: float, batch_size: int) -> None:
    x = values(kind)[: 500 if batch_size == 7 else None]
    width = (max(x.max(), 0) - min(x.min(), 0)).item() / 2**16
    share = percentile / 100
    ends = np.quantile(x.numpy(), [1 - share, share], method="inverted_cdf")
    low, high = min(ends[0], 0), max(ends[1], 0)
    quantizer = calibrated(
        x, 8, observer="percentile", percentile=percentile, batch_size=batch_size
    )
    scale, zero_point = affine((low, high), 8)
    assert abs(quantizer.scale.item() - scale) <= 2.1 * width / 255 + 1e-6 * scale
    assert abs(quantizer.zero_point.item() - zero_point) <= 1


@pytest.mark.parametrize("kind", ["normal", "relu", "uniform", "outliers"])
@pytest.mark.parametrize("act_bits", BITS)
def test_mse_is_the_best_shrunk_range(act_bits: int, kind: str) -> None:
    x, top = values(kind), 2**act_bits - 1
    low, high = min(x.min().item(), 0), max(x.max().item(), 0)

    def error(y: Tensor) -> float:
        return (y - x).double().square().mean().item()

    def brute(factor: float) -> float:
        scale = factor * (high - low) / top
        zero_point = round(-factor * low / scale)
        return error(torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, top))

    found = error(calibrated(x, act_bits, observer="mse")(x))
    # the search knows each value to a bin of 1/65536 of the range
    assert found <= 1.01 * min(brute(k / 100) for k in range(1, 101))
    assert found <= 1.001 * error(calibrated(x, act_bits)(x))
    if kind == "outliers" and act_bits == 4:
        assert found < 0.5 * brute(1.0)


def test_images_are_preprocessed_chunk_by_chunk() -> None:
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)

    def normalise(x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        assert len(x) <= 6
        return x.float().div(255).sub(0.5)

    model = nn.Conv2d(3, 4, 3)
    a = calibrate(model, images, 4, preprocess=normalise, batch_size=6)
    b = calibrate(model, images.float().div(255).sub(0.5), 4, batch_size=6)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
