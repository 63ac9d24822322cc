r"""The whole spectrum of the Hessian: its trace and its density.

Goes beyond the largest eigenvalue of :mod:`~snt_core.methods.curvature.lambda_max`, on whose
Hessian and arguments it stands; the paper's section 2.3 takes the trace for what characterises a
loss landscape::

    import matplotlib.pyplot as plt
    import numpy as np
    from snt_core.methods.curvature.smoothing import smooth
    from snt_core.methods.curvature.spectrum import hessian_trace, spectral_density

    trace = hessian_trace(my_model, (images, labels))  # images B C H W normalised, labels B
    print(trace.value, trace.error)
    found = spectral_density(my_model, (images, labels), probes=2, steps=30)
    grid = np.linspace(-5, max(map(max, found.nodes)) + 5, 500)
    plt.semilogy(grid, smooth(found.nodes, found.weights, grid, sigma=1.0))

**The trace.** Hutchinson's estimate: for a probe v of independent signs (Rademacher),
:math:`E[v^T H v] = tr H`. The mean over probes is unbiased; its standard error comes from their
spread.

**The density** :math:`\phi(t) = \frac{1}{P} \sum_i \delta(t - \lambda_i)` of the P eigenvalues,
by stochastic Lanczos quadrature (Ghorbani et al., 2019, arXiv:1901.10159). From a probe v, k steps
of Lanczos give k nodes :math:`\theta_j` (Ritz values) and weights :math:`w_j` with

.. math:: \sum_j w_j \, g(\theta_j) \approx \frac{v^T g(H) \, v}{v^T v}, \qquad \sum_j w_j = 1,

exact for polynomials g of degree up to 2k - 1; the mean over probes estimates
:math:`\int g \phi = \frac{1}{P} tr \, g(H)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.common.arguments import require_whole
from snt_core.methods.curvature.hessian import BNMode, Hessian
from snt_core.methods.curvature.lanczos import lanczos
from snt_core.methods.tasks.objective import Objective, Preprocess
from snt_core.methods.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Trace of the Hessian of the mean loss, in nats.

    Attributes:
        value: the estimate; divided by ``parameters`` it is the mean eigenvalue.
        error: its standard error.
        probes: random vectors behind it.
        parameters: P, the order of the Hessian.
        n_samples: images that the loss is averaged over (the sum of the batches' weights).
        bn_mode: statistics that BatchNorm used: ``"eval"`` (running) or ``"train"`` (the chunk's).
    """

    value: float
    error: float
    probes: int
    parameters: int
    n_samples: float
    bn_mode: BNMode


@dataclass(frozen=True, kw_only=True)
class SpectralDensity:
    """The eigenvalues' places on the line, as nodes with weights for each probe.

    Attributes:
        nodes: for each probe its Ritz values, ascending; the largest of all estimates lambda_max
            from below.
        weights: the share of the spectrum that each node stands for; they add up to 1 for each
            probe. A lone eigenvalue has 1 / P on average, and anything from 0 to several times
            that in one probe.
        trace: Hutchinson's estimate from the same probes.
    """

    nodes: list[list[float]]
    weights: list[list[float]]
    trace: Trace


@torch.inference_mode(False)
def hessian_trace(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    probes: int = 30,
    seed: int = 0,
    batch_size: int = 128,
    bn_mode: BNMode = "eval",
    preprocess: Preprocess | None = None,
) -> Trace:
    """Return the trace of the Hessian of the mean loss, at one product a probe.

    Args:
        model: by default a classifier, B C H W -> B classes; it is left as it was.
        data: a pair of tensors `(inputs, targets)`, a list of batches, or a DataLoader.
        task: loss, call of the model, targets and weights of batches; classification by default.
        probes: at least 2; the standard error falls with their square root.
        seed: of the probes, drawn on the CPU so that devices agree; more probes begin with the same
            ones.
        batch_size: as for :func:`lambda_max`, like the other arguments.

    Raises:
        ValueError: as :func:`lambda_max`, or fewer than 2 probes.
    """
    _check_probes(probes, seed)
    objective = Objective(data, task, batch_size=batch_size, preprocess=preprocess)
    hessian = Hessian(model, objective, bn_mode)
    values = [
        torch.dot(probe.double(), hessian(probe).double()).item()
        for probe in _rademacher(hessian, probes, seed)
    ]
    return _trace(values, hessian, bn_mode)


@torch.inference_mode(False)
def spectral_density(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    probes: int = 10,
    steps: int = 80,
    seed: int = 0,
    batch_size: int = 128,
    bn_mode: BNMode = "eval",
    preprocess: Preprocess | None = None,
) -> SpectralDensity:
    """Return the density of the eigenvalues of the Hessian of the mean loss.

    Takes ``probes * steps`` Hessian-vector products and keeps ``steps`` vectors of the size of the
    model. The defaults are those of Ghorbani et al.; 2 probes of 30 steps already show the shape.

    Args:
        model: by default a classifier, B C H W -> B classes; it is left as it was.
        data: a pair of tensors `(inputs, targets)`, a list of batches, or a DataLoader.
        task: loss, call of the model, targets and weights of batches; classification by default.
        probes: at least 2.
        steps: of Lanczos for each probe, with full reorthogonalisation; fewer are taken where its
            Krylov space is exhausted.
        seed: of the probes, as for :func:`hessian_trace`, which sees the same ones.
        batch_size: as for :func:`lambda_max`, like the other arguments.

    Raises:
        ValueError: as :func:`hessian_trace`, or fewer than 1 step.
    """
    _check_probes(probes, seed)
    require_whole(steps=steps)
    if steps < 1:
        raise ValueError(f"steps {steps} must be >= 1")
    objective = Objective(data, task, batch_size=batch_size, preprocess=preprocess)
    hessian = Hessian(model, objective, bn_mode)
    nodes, weights, traces = [], [], []
    for probe in _rademacher(hessian, probes, seed):
        *_, (values, vectors, _) = lanczos(hessian, probe, steps)
        nodes.append(values.tolist())
        # Gauss quadrature: a node weighs the square of its eigenvector's first entry
        weights.append(vectors[0].square().tolist())
        # v'v = P, so that v'Hv is P times the first moment
        traces.append(hessian.size * torch.dot(values, vectors[0].square()).item())
    return SpectralDensity(nodes=nodes, weights=weights, trace=_trace(traces, hessian, bn_mode))


def _check_probes(probes: int, seed: int) -> None:
    require_whole(probes=probes, seed=seed)
    if probes < 2:
        raise ValueError(f"probes {probes} must be >= 2: one has no spread to take an error from")


def _rademacher(hessian: Hessian, probes: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(probes):
        signs = 2 * torch.randint(2, (hessian.size,), generator=generator) - 1
        yield signs.to(hessian.like)


def _trace(values: list[float], hessian: Hessian, bn_mode: BNMode) -> Trace:
    return Trace(
        value=mean(values),
        error=stdev(values) / math.sqrt(len(values)),
        probes=len(values),
        parameters=hessian.size,
        n_samples=hessian.objective.total,
        bn_mode=bn_mode,
    )
