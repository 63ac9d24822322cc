"""Oracles: the spectra of dense float64 Hessians, and the variance of Hutchinson's estimate."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from snt_core.methods.curvature.lambda_max import lambda_max
from snt_core.methods.curvature.lanczos import lanczos
from snt_core.methods.curvature.smoothing import smooth
from snt_core.methods.curvature.spectrum import (
    SpectralDensity,
    Trace,
    hessian_trace,
    spectral_density,
)

N, CLASSES = 24, 3


def problem(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    layers = nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, CLASSES)
    images = 2 * torch.randn(N, 3)
    return nn.Sequential(*layers).to(dtype), images.to(dtype), torch.randint(CLASSES, (N,))


def given(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model, *data = problem(dtype)
    return model, tuple(data)


def dense(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    params = dict(model.named_parameters())

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([p.numel() for p in params.values()])
        named = {k: v.view_as(p) for (k, p), v in zip(params.items(), pieces, strict=True)}
        return F.cross_entropy(functional_call(model, named, (images,)), labels)

    return torch.autograd.functional.hessian(loss, parameters_to_vector(params.values()).detach())


@pytest.fixture(scope="module")
def exact() -> Tensor:
    return dense(*problem())


class Diagonal(nn.Module):
    """Its mean loss has the Hessian diag(-10, 1, 2, 3) at w = 0, for labels 0."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        curve = torch.tensor([20.0, -2.0, -4.0, -6.0], dtype=torch.float64)
        logit = 0.5 * (curve * self.w**2).sum().expand(len(x))
        return torch.stack([logit, torch.zeros_like(logit)], 1)


def diagonal() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return Diagonal(), (torch.zeros(2, 1).double(), torch.zeros(2, dtype=torch.long))


def test_trace_lies_within_its_error_and_the_error_is_right(exact: Tensor) -> None:
    found = hessian_trace(*given(), probes=400, batch_size=N)
    # of independent signs: Var(v'Hv) = 2 * sum of the squares off the diagonal
    off = exact - exact.diag().diag()
    error = (2 * off.square().sum() / 400).sqrt().item()
    assert found.error == pytest.approx(error, rel=0.2)
    assert abs(found.value - exact.trace().item()) < 3 * error
    assert (found.probes, found.parameters, found.n_samples) == (400, len(exact), N)


def test_trace_of_a_diagonal_hessian_has_no_error() -> None:
    found = hessian_trace(*diagonal(), probes=3)
    assert (found.value, found.error) == pytest.approx((-4, 0))


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_lanczos_is_a_gauss_quadrature(exact: Tensor, steps: int) -> None:
    start = torch.randn(len(exact), dtype=torch.float64)
    *_, (nodes, vectors, _) = lanczos(lambda v: exact @ v, start, steps)
    moment = start / start.norm()
    for degree in range(2 * steps):
        theirs = torch.dot(start / start.norm(), moment)
        ours = (vectors[0].square() * nodes**degree).sum()
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
        moment = exact @ moment
    theirs = torch.dot(start / start.norm(), moment)  # degree 2 * steps is beyond it
    assert (vectors[0].square() * nodes ** (2 * steps)).sum() < theirs * (1 - 1e-6)


def test_all_steps_give_the_spectrum(exact: Tensor) -> None:
    eigenvalues = torch.linalg.eigvalsh(exact)
    found = spectral_density(*given(), probes=30, steps=len(exact), batch_size=N)
    largest = lambda_max(*given(), tolerance=1e-9).value
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        assert sum(weights) == pytest.approx(1)
        assert nodes[-1] == pytest.approx(largest, rel=1e-9)
        distance = (torch.tensor(nodes).double()[:, None] - eigenvalues).abs().amin(1)
        assert distance.max() < 1e-6
    # the mass of a bin against the share of the eigenvalues in it, within 3 standard errors
    gaps = eigenvalues.diff()
    edges = [-9, *(eigenvalues[:-1] + gaps / 2)[gaps > 0.05].tolist(), 9]
    assert len(edges) > 5
    for low, high in pairwise(edges):
        share = ((low < eigenvalues) & (eigenvalues < high)).double().mean().item()
        mass = [
            sum(w for t, w in zip(*pair, strict=True) if low < t < high)
            for pair in zip(found.nodes, found.weights, strict=True)
        ]
        assert abs(np.mean(mass) - share) < 3 * stats.sem(mass)


def test_moments_of_few_steps_are_those_of_the_hessian(exact: Tensor) -> None:
    found = spectral_density(*given(), probes=200, steps=3, batch_size=N)
    moment = torch.eye(len(exact), dtype=torch.float64)
    for degree in range(6):
        each = [
            np.dot(weights, np.power(nodes, degree))
            for nodes, weights in zip(found.nodes, found.weights, strict=True)
        ]
        expected = moment.trace().item() / len(exact)
        assert abs(np.mean(each) - expected) <= 3 * stats.sem(each) + 1e-12
        moment = moment @ exact
    trace = hessian_trace(*given(), probes=200, batch_size=N)
    assert found.trace.value == pytest.approx(trace.value, rel=1e-9)
    assert found.trace.error == pytest.approx(trace.error, rel=1e-9)
    assert (found.trace.probes, found.trace.parameters) == (200, len(exact))


def test_an_exhausted_krylov_space_ends_early() -> None:
    found = spectral_density(*diagonal(), probes=2, steps=50)
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        assert nodes == pytest.approx([-10, 1, 2, 3])
        assert weights == pytest.approx([0.25] * 4)


def test_smooth_is_the_mixture_of_gaussians() -> None:
    nodes, weights = [[-1.0, 2.0], [0.5]], [[0.25, 0.75], [1.0]]
    grid = np.linspace(-3, 4, 301)
    density = smooth(nodes, weights, grid, sigma=0.3)
    bells = [stats.norm(mean, 0.3).pdf(grid) for mean in (-1, 2, 0.5)]
    expected = (0.25 * bells[0] + 0.75 * bells[1] + bells[2]) / 2
    np.testing.assert_allclose(density, expected, rtol=1e-12)
    assert np.trapezoid(density, grid) == pytest.approx(1)
    with pytest.raises(ValueError, match="sigma 0 must"):
        smooth(nodes, weights, grid, 0)


def test_same_seed_same_bits_and_more_probes_begin_alike() -> None:
    options = {"steps": 4, "batch_size": N}
    first = spectral_density(*given(torch.float32), probes=2, seed=3, **options)
    assert first == spectral_density(*given(torch.float32), probes=2, seed=3, **options)
    assert first != spectral_density(*given(torch.float32), probes=2, seed=4, **options)
    longer = spectral_density(*given(torch.float32), probes=3, seed=3, **options)
    assert longer.nodes[:2] == first.nodes


def test_float32_agrees_with_float64() -> None:
    single = spectral_density(*given(torch.float32), probes=2, steps=5)
    double = spectral_density(*given(), probes=2, steps=5)
    np.testing.assert_allclose(single.nodes, double.nodes, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(single.weights, double.weights, rtol=1e-3, atol=1e-5)
    assert single.trace.value == pytest.approx(double.trace.value, rel=1e-4)


def test_options_reach_the_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, CLASSES))
    images, labels = torch.randint(9, (N, 3), dtype=torch.uint8), torch.randint(CLASSES, (N,))
    state = copy.deepcopy(model.state_dict())
    running = hessian_trace(model, (images.float() / 3, labels), probes=2)
    again = hessian_trace(model, (images, labels), probes=2, preprocess=lambda x: x.float() / 3)
    batch = hessian_trace(model, (images.float() / 3, labels), probes=2, bn_mode="train")
    assert running == again
    assert batch.bn_mode == "train"
    assert batch.value != pytest.approx(running.value, rel=0.05)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert model.training


def test_findings_are_json() -> None:
    found = spectral_density(*diagonal(), probes=2, steps=2)
    body = json.loads(json.dumps(asdict(found)))
    assert SpectralDensity(**{**body, "trace": Trace(**body["trace"])}) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [({"probes": 1}, "probes 1"), ({"steps": 0}, "steps 0"), ({"bn_mode": "no"}, "bn_mode 'no'")],
)
def test_bad_input_is_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spectral_density(*given(), **options)
