"""Lanczos' method with full reorthogonalisation, one product of a symmetric map at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def lanczos(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    max_products: int,
    basis: list[Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor, float]]:
    r"""Yield the Ritz pairs of a symmetric map after 1, 2, ... products.

    Every new vector is orthogonalised against all before it.

    Args:
        product: v -> Av.
        start: any vector but 0.
        max_products: how many at most.
        basis: gets the orthonormal vectors that were multiplied, one a product.

    Yields:
        The k eigenvalues of the k x k tridiagonal matrix (float64, ascending), its eigenvectors
        (columns; the first row is their share of ``start``), and the length :math:`\beta_k` of what
        the next product adds. It ends before ``max_products`` where the Krylov space is invariant.
        One vector is kept for each product.
    """
    basis = [] if basis is None else basis
    basis.append(start / start.norm())
    t = torch.zeros(max_products + 1, max_products + 1, dtype=torch.float64)
    for k in range(max_products):
        w = product(basis[k])
        t[k, k] = torch.dot(basis[k], w)
        for q in basis * 2:  # twice is enough (Parlett, The Symmetric Eigenvalue Problem, 6.9)
            w = w - torch.dot(q, w) * q
        beta = t[k + 1, k] = w.norm().double().cpu()  # eigh reads the lower triangle
        values, vectors = torch.linalg.eigh(t[: k + 1, : k + 1])
        yield values, vectors, beta.item()
        # at rounding level the Krylov space is invariant, and a next vector would be noise
        rounding = 10 * torch.finfo(start.dtype).eps * values.abs().max()
        if beta <= rounding or k + 1 == start.numel():
            return
        basis.append(w / beta.to(w))
