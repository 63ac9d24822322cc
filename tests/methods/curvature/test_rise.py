"""The rise of the loss against dense float64 derivatives, and against Taylor's theorem."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from snt_core.methods.compress.prune import prune_magnitude
from snt_core.methods.compress.quantize import quantize_weights
from snt_core.methods.curvature.rise import loss_rises


def problem(dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Flatten(), nn.Linear(48, 4)
    ).to(dtype)
    images = torch.randn(21, 1, 6, 6, dtype=dtype)
    labels = torch.randint(4, (21,))
    model(images)  # running statistics that are not the first ones
    return model.eval(), images, labels


def dense(model, images, labels):
    """Gradient and Hessian of the mean loss, flat, by autograd on the whole."""
    shapes = {n: p.shape for n, p in model.named_parameters()}
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def loss(vector):
        pieces = vector.split([s.numel() for s in shapes.values()])
        params = {n: v.view(s) for (n, s), v in zip(shapes.items(), pieces)}
        return F.cross_entropy(functional_call(model, params, (images,)), labels)

    return torch.func.grad(loss)(flat), torch.func.hessian(loss)(flat)


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("batch_size", [21, 8])
def test_slope_and_curvature_are_those_of_the_dense_derivatives(batch_size):
    model, images, labels = problem()
    nets = {"W3": quantize_weights(model, 3), "half": prune_magnitude(model, 0.5)}
    before = copy.deepcopy(model.state_dict())
    found = loss_rises(model, nets, (images, labels), batch_size=batch_size)
    gradient, hessian = dense(model, images, labels)
    for name, net in nets.items():
        p = flat(net) - flat(model)
        assert found[name].slope == pytest.approx(float(gradient @ p), rel=1e-9)
        assert found[name].quadratic == pytest.approx(float(p @ hessian @ p) / 2, rel=1e-9)
        assert found[name].squared_length == pytest.approx(float(p @ p))
        with torch.no_grad():
            rise = F.cross_entropy(net(images), labels) - F.cross_entropy(model(images), labels)
        assert found[name].rise == pytest.approx(float(rise), rel=1e-9)
        assert found[name].n_samples == 21
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_small_step_rises_as_predicted():
    """The error of second order is of third: a tenth of the step, a thousandth of the error."""
    model, images, labels = problem()
    errors = []
    for size in (1e-1, 1e-2):
        moved = copy.deepcopy(model)
        torch.manual_seed(1)
        with torch.no_grad():
            for p in moved.parameters():
                p.add_(size * torch.randn_like(p))
        found = loss_rises(model, {"moved": moved}, (images, labels))["moved"]
        errors.append(abs(found.rise - found.slope - found.quadratic))
    assert errors[1] < 5e-3 * errors[0]


def test_images_are_preprocessed_chunk_by_chunk():
    model, images, labels = problem(torch.float32)
    nets = {"W3": quantize_weights(model, 3)}
    plain = loss_rises(model, nets, (images, labels))["W3"]
    again = loss_rises(model, nets, (images * 2, labels), preprocess=lambda x: x / 2)["W3"]
    assert plain == again


def test_another_net_is_refused():
    model, images, labels = problem()
    with pytest.raises(ValueError, match="perturbed is a Sequential: give nets by name"):
        loss_rises(model, model, (images, labels))
    moved = copy.deepcopy(model)
    moved[1].running_mean += 1
    with pytest.raises(ValueError, match=r"'1.running_mean' differs in 'moved'"):
        loss_rises(model, {"moved": moved}, (images, labels))
    frozen = copy.deepcopy(model)
    frozen[0].weight.requires_grad_(False)
    moved = copy.deepcopy(frozen)
    moved[0].weight.data += 1
    with pytest.raises(ValueError, match=r"'0.weight' differs in 'moved' and is no trainable"):
        loss_rises(frozen, {"moved": moved}, (images, labels))
    with pytest.raises(ValueError, match="other parameters"):
        loss_rises(model, {"other": nn.Linear(3, 4)}, (images, labels))
