"""Filter-normalised lambda_max against a dense D H D, and what rescaling does to each measure."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snt_core.methods.curvature.lambda_max import lambda_max
from snt_core.methods.curvature.scale_free import adaptive_sharpness, filter_scale
from tests.methods.curvature.test_rise import dense, problem


def rescaled(model, factors):
    """The same function: filters times a factor, and the running statistics behind them too."""
    other = copy.deepcopy(model)
    conv, norm = other[0], other[1]
    with torch.no_grad():
        conv.weight.mul_(factors.view(-1, 1, 1, 1))
        conv.bias.mul_(factors)
        norm.running_mean.mul_(factors)
        norm.running_var.mul_(factors**2)
    norm.eps = 0.0
    return other


def test_the_scale_is_the_length_of_the_filter_that_a_parameter_belongs_to():
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2))
    scale = filter_scale(model)
    filters = model[0].weight.detach().flatten(1)
    expected = torch.cat(
        [
            filters.norm(dim=1, keepdim=True).expand_as(filters).reshape(-1),
            model[0].bias.detach().abs(),
            model[2].weight.detach().norm(dim=1, keepdim=True).expand(2, 12).reshape(-1),
            model[2].bias.detach().abs(),
        ]
    )
    assert torch.allclose(scale, expected)
    model[2].bias.requires_grad_(False)
    assert len(filter_scale(model)) == len(expected) - 2


def test_the_eigenvalue_is_that_of_the_dense_scaled_hessian():
    model, images, labels = problem()
    scale = filter_scale(model)
    _, hessian = dense(model, images, labels)
    expected = torch.linalg.eigvalsh(scale[:, None] * hessian * scale).max()
    found = lambda_max(model, (images, labels), scale=scale, tolerance=1e-6)
    assert found.converged
    assert found.value == pytest.approx(float(expected), rel=1e-6)


def test_rescaling_filters_changes_lambda_max_and_not_the_scale_free_measures():
    model, images, labels = problem()
    model[1].eps = 0.0
    other = rescaled(model, torch.tensor([0.02, 3.0, 1.0], dtype=torch.float64))
    with torch.no_grad():
        assert torch.allclose(model(images), other(images))
    raw = [lambda_max(m, (images, labels), tolerance=1e-7).value for m in (model, other)]
    free = [
        lambda_max(m, (images, labels), scale=filter_scale(m), tolerance=1e-7).value
        for m in (model, other)
    ]
    assert raw[1] > 1.5 * raw[0]
    assert free[1] == pytest.approx(free[0], rel=1e-5)
    adaptive = [adaptive_sharpness(m, (images, labels), rho=0.1) for m in (model, other)]
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-9)


def test_adaptive_sharpness_is_one_step_of_asam_up():
    model, images, labels = problem()
    gradient, _ = dense(model, images, labels)
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    step = 0.5 * flat**2 * gradient / (flat.abs() * gradient).norm()
    moved = copy.deepcopy(model)
    nn.utils.vector_to_parameters(flat + step, moved.parameters())
    with torch.no_grad():
        rise = F.cross_entropy(moved(images), labels) - F.cross_entropy(model(images), labels)
    found = adaptive_sharpness(model, (images, labels), rho=0.5, batch_size=8)
    assert found == pytest.approx(float(rise), rel=1e-9)
    small = adaptive_sharpness(model, (images, labels), rho=1e-4)
    assert small == pytest.approx(1e-4 * float((flat.abs() * gradient).norm()), rel=1e-2)


@pytest.mark.parametrize("rho", [0.0, -1.0])
def test_a_radius_must_be_above_zero(rho):
    model, images, labels = problem()
    with pytest.raises(ValueError, match="rho"):
        adaptive_sharpness(model, (images, labels), rho=rho)


def test_a_scale_of_another_length_is_refused():
    model, images, labels = problem()
    with pytest.raises(ValueError, match="scale of shape"):
        lambda_max(model, (images, labels), scale=torch.ones(3, dtype=torch.float64))
