"""Oracles: softmax regression's loss in numpy, torch's own loss, nets that cannot move."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import logsumexp
from torch import Generator, Tensor, nn

from snt_core.methods.curvature.surface import LossSurface, filter_direction, loss_surface
from snt_core.methods.snt.transform import SNTActivation

N, CLASSES = 11, 3


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        SNTActivation(4),
        nn.Conv2d(4, 4, 2, groups=4),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.Dropout(0.5),
        nn.Linear(4, CLASSES),
    )
    nn.init.uniform_(net[1].running_mean, -0.5, 0.5)
    nn.init.uniform_(net[1].running_var, 0.2, 2.0)
    return net.train()


def data() -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(1)
    images = torch.randn(N, 2, 4, 4, generator=generator)
    return images, torch.randint(CLASSES, (N,), generator=generator)


def middle(found: LossSurface) -> float:
    half = len(found.alphas) // 2
    return found.losses[half][half]


@pytest.mark.parametrize("batch_size", [1, 4, N])
def test_the_middle_is_the_loss_of_the_model(batch_size: int) -> None:
    model, (images, labels) = conv_net(), data()
    found = loss_surface(model, (images, labels), points=3, batch_size=batch_size)
    expected = F.cross_entropy(copy.deepcopy(model).eval()(images), labels).item()
    assert middle(found) == pytest.approx(expected, rel=1e-6)
    assert found.alphas == found.betas == [-1, 0, 1]
    assert len({loss for row in found.losses for loss in row}) == 9


def test_softmax_regression_has_a_closed_form() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(6, CLASSES).double(), torch.randn(N, 6).double()
    labels = torch.randint(CLASSES, (N,))
    found = loss_surface(model, (x, labels), span=0.7, points=5, seed=3, batch_size=4)
    np.testing.assert_allclose(found.alphas, np.linspace(-0.7, 0.7, 5), atol=1e-15)
    generator = Generator().manual_seed(3)
    w, b = model.weight.detach(), model.bias.detach().numpy()
    first, second = (filter_direction(w, generator).numpy() for _ in range(2))
    for i, alpha in enumerate(found.alphas):
        for j, beta in enumerate(found.betas):
            logits = x.numpy() @ (w.numpy() + alpha * first + beta * second).T + b
            loss = logsumexp(logits, axis=1) - logits[np.arange(N), labels]
            assert found.losses[i][j] == pytest.approx(loss.mean(), rel=1e-12)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 2), (4, 1, 5)])
def test_every_filter_of_a_direction_is_as_long_as_the_weights(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape).double()
    weight[1] *= 1e3
    weight[2] = 0
    direction = filter_direction(weight, Generator().manual_seed(0))
    assert (direction.shape, direction.dtype) == (weight.shape, weight.dtype)
    for own, other in zip(weight, direction, strict=True):
        assert other.norm().item() == pytest.approx(own.norm().item(), rel=1e-12)
    unit = direction[[0, 1]] / weight[[0, 1]].flatten(1).norm(dim=1).view(
        -1, *[1] * (len(shape) - 1)
    )
    assert not torch.allclose(unit[0], unit[1], atol=0.1)


def test_a_direction_of_many_weights_is_gaussian() -> None:
    weight = torch.ones(1, 20_000)
    direction = filter_direction(weight, Generator().manual_seed(0)).double()
    assert direction.mean().abs() < 4 / 20_000**0.5
    assert (direction**4).mean() == pytest.approx(3, abs=0.2)


def test_only_weights_of_convolutions_and_linear_layers_move() -> None:
    model, (images, labels) = conv_net(), data()
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.zero_()  # their filters have no length, so neither has a step
    assert sum(p.norm() for p in model.parameters()) > 1
    found = loss_surface(model, (images, labels), points=3, span=5)
    np.testing.assert_allclose(found.losses, middle(found), rtol=1e-12)


def test_layers_that_share_a_weight_move_together() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double(), torch.randn(N, 3).double()
    model[1].weight = model[0].weight
    labels = torch.randint(CLASSES, (N,))
    found = loss_surface(model, (x, labels), points=3)
    w = model[0].weight.detach()
    moved = w + filter_direction(w, Generator().manual_seed(0))
    logits = (x @ moved.T + model[0].bias) @ moved.T + model[1].bias
    assert found.losses[2][1] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-12)


def test_same_seed_same_bits() -> None:
    found = loss_surface(conv_net(), data(), points=3, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert found == loss_surface(conv_net(), data(), points=3, seed=3)
    other = loss_surface(conv_net(), data(), points=3, seed=4)
    assert middle(other) == middle(found)
    assert other != found


def test_model_is_left_as_it_was_even_if_interrupted() -> None:
    model, (images, labels) = conv_net(), data()
    state, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    seen = []

    def interrupt(x: Tensor) -> Tensor:
        seen.append(len(x))
        if len(seen) == 6:
            raise KeyboardInterrupt
        return x

    loss_surface(model, (images, labels), points=3)
    with pytest.raises(KeyboardInterrupt):
        loss_surface(model, (images, labels), points=3, preprocess=interrupt, batch_size=4)
    assert seen == [2, 4, 4, 3, 4, 4]  # two show whether the model takes them
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert modes == [m.training for m in model.modules()]


def test_findings_are_json() -> None:
    found = loss_surface(conv_net(), data(), points=3)
    assert LossSurface(**json.loads(json.dumps(asdict(found)))) == found
    assert found.n_samples == N


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 4}, "points 4"),
        ({"points": 1}, "points 1"),
        ({"span": 0}, "span 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"preprocess": lambda x: x / 0}, r"loss at \(-1.0, -1.0\) is not finite"),
    ],
)
def test_bad_option_is_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_surface(conv_net(), data(), **options)


def test_bad_input_is_named() -> None:
    images, labels = data()
    with pytest.raises(ValueError, match="10 labels"):
        loss_surface(conv_net(), (images, labels[:-1]))
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        loss_surface(nn.BatchNorm2d(2), (images, labels))
