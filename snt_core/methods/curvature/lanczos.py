"""Lanczos' method with full reorthogonalisation, one product of a symmetric map at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

RISK = 1e-3  # probability that a bound does not hold
# On a CPU torch adds up the squares of a float32 norm in one number: of 86 million normal entries
# 0.9 % of the norm is lost, which no residual shows; of a million 1e-5.
LONG, PIECE = 2**20, 2**16


def lanczos(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    max_products: int,
    basis: list[Tensor] | None = None,
    long: int = LONG,
) -> Iterator[tuple[Tensor, Tensor, float]]:
    r"""Yield the Ritz pairs of a symmetric map after 1, 2, ... products.

    Every new vector is orthogonalised against all before it.

    Args:
        product: v -> Av.
        start: any vector but 0.
        max_products: how many at most.
        basis: gets the orthonormal vectors that were multiplied, one a product.
        long: from how many entries on vectors are multiplied in float64.

    Yields:
        The k eigenvalues of the k x k tridiagonal matrix (float64, ascending), its eigenvectors
        (columns; the first row is their share of ``start``), and the length :math:`\beta_k` of what
        the next product adds. It ends before ``max_products`` where the Krylov space is invariant.
        One vector is kept for each product.
    """
    basis = [] if basis is None else basis
    basis.append(start / _norm(start, long))
    t = torch.zeros(max_products + 1, max_products + 1, dtype=torch.float64)
    for k in range(max_products):
        w = product(basis[k])
        t[k, k] = _dot(basis[k], w, long)
        for q in basis * 2:  # twice is enough (Parlett, The Symmetric Eigenvalue Problem, 6.9)
            w = w - _dot(q, w, long) * q
        beta = t[k + 1, k] = _norm(w, long).double().cpu()  # eigh reads the lower triangle
        values, vectors = torch.linalg.eigh(t[: k + 1, : k + 1])
        yield values, vectors, beta.item()
        # at rounding level the Krylov space is invariant, and a next vector would be noise
        if beta <= rounding(start, values) or k + 1 == start.numel():
            return
        basis.append(w / beta.to(w))


def _dot(a: Tensor, b: Tensor, long: int) -> Tensor:
    """Return the product of two vectors; of long ones in float64, from those of pieces."""
    if a.numel() < long:
        return torch.dot(a, b)
    pieces = zip(a.split(PIECE), b.split(PIECE), strict=True)
    return torch.stack([torch.dot(x, y) for x, y in pieces]).double().sum()


def _norm(a: Tensor, long: int) -> Tensor:
    return a.norm() if a.numel() < long else _dot(a, a, long).sqrt()


def rounding(start: Tensor, values: Tensor) -> Tensor:
    """Return the length below which what a product adds is rounding."""
    return 10 * torch.finfo(start.dtype).eps * values.abs().max()


class Bound:
    r"""An upper bound of the largest eigenvalue from Lanczos' method with a random start.

    It holds except with a probability of `RISK`; see
    :mod:`snt_core.methods.curvature.lambda_max` for the reason.
    """

    def __init__(self, size: int) -> None:
        # the start's share of the top eigenvector is below 1 / this with probability RISK
        self.reach = math.log(math.sqrt(max(2 * size / math.pi, 1)) / RISK) if size > 1 else 0.0
        self.lengths = 0.0  # sum of the logarithms of beta
        self.value = math.inf

    def add(self, values: Tensor, beta: float) -> float:
        """Return the bound after one more product, which gave these Ritz values and this beta."""
        top = values[-1].item()
        if beta == 0:
            self.value = min(self.value, top)
            return self.value
        self.lengths += math.log(beta)
        goal = self.reach + self.lengths
        # log q grows with the distance above the largest Ritz value: bisection
        near, far = 0.0, max(beta, torch.finfo(torch.float64).tiny)
        gaps = top - values
        while (gaps + far).log().sum().item() < goal:
            near, far = far, 2 * far
        for _ in range(200):
            middle = (near + far) / 2
            if middle in (near, far):
                break
            if (gaps + middle).log().sum().item() < goal:
                near = middle
            else:
                far = middle
        self.value = min(self.value, top + far)
        return self.value
