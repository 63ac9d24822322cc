r"""Curvature of the training loss: Hessian-vector products and the largest eigenvalue.

The paper explains robustness to compression by flat minima, measured as the largest eigenvalue of
the Hessian of the loss (as in PyHessian: Yao et al., 2020, arXiv:1912.07145). Needs only torch::

    found = lambda_max(my_model, images, labels)  # images B C H W normalised, labels B
    print(found.value, found.residual, found.products, found.converged)
    # uint8 images stay uint8, and are normalised chunk by chunk
    lambda_max(my_model, images_u8, labels, preprocess=lambda x: x.float().div(255).sub(0.5))

**The quantity.** For N images, parameters :math:`\theta` (flat, in the order of
``model.parameters()``, only those with ``requires_grad``) and logits :math:`f`,

.. math:: L(\theta) = \frac{1}{N} \sum_{n=1}^{N} \ell(f(x_n; \theta), y_n), \qquad
          H = \nabla^2 L(\theta),

with :math:`\ell` the cross-entropy in nats; no augmentation, no weight decay, dropout off. Images
go through in chunks that each contribute their *sum* over N: a short last chunk is exact, and
memory does not grow with N.

The products are those of :mod:`snt_core.methods.curvature.hessian`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snt_core.methods.curvature.hessian import BNMode, Hessian
from snt_core.methods.curvature.lanczos import lanczos
from snt_core.methods.observe import Preprocess

SKETCH = 128  # images on which a start is sought
SKETCH_PRODUCTS = 5


@dataclass(frozen=True, kw_only=True)
class LambdaMax:
    r"""The largest eigenvalue of a Hessian, as :func:`lambda_max` found it.

    Attributes:
        value: the eigenvalue (Ritz value) of the Hessian of the mean loss, in nats.
        residual: :math:`|Hv - value \, v| / |value|` with :math:`|v| = 1`; some eigenvalue lies
            within ``residual * abs(value)`` of ``value``.
        products: Hessian-vector products over all images that it took.
        converged: whether ``residual`` reached the tolerance.
        n_samples: images that the loss is averaged over.
        bn_mode: statistics that BatchNorm used: ``"eval"`` (running) or ``"train"`` (the chunk's).
    """

    value: float
    residual: float
    products: int
    converged: bool
    n_samples: int
    bn_mode: BNMode


def lambda_max(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 128,
    max_products: int = 100,
    tolerance: float = 5e-3,
    seed: int = 0,
    bn_mode: BNMode = "eval",
    preprocess: Preprocess | None = None,
    dtype: torch.dtype | None = None,
    scale: Tensor | None = None,
) -> LambdaMax:
    r"""Return the largest algebraic eigenvalue of the Hessian of the mean cross-entropy.

    Lanczos with full reorthogonalisation. Where there are many images it starts from what a few
    products on 128 of them find, themselves from a random start: that costs little, and saves
    products on all images. After k products on these, the largest eigenvalue :math:`\vartheta` of
    the k x k tridiagonal matrix, with eigenvector s, has the residual :math:`\rho = \beta_k |s_k|`:
    some eigenvalue is *proved* to lie within it. It stops at
    :math:`\rho \le tolerance \cdot |\vartheta|`, where the error is about :math:`\rho^2 /` gap to
    the next eigenvalue, far smaller than the residual. Rounding in float32 adds about 1e-5 (on CUDA
    only with ``torch.backends.cudnn.allow_tf32 = False``).

    Args:
        model: classifier, B C H W -> B classes; it is copied, and left as it was.
        images: N C H W, in the model's dtype after ``preprocess``; ``torch.channels_last`` makes
            convolutions about 10 % faster on a CPU.
        labels: N class indices.
        batch_size: images in a chunk; changes memory and speed only, except with ``"train"``.
        max_products: give up after as many products, with ``converged=False``.
        tolerance: relative residual to reach.
        seed: of the random start, drawn on the CPU so that devices agree.
        bn_mode: ``"eval"`` uses BatchNorm's running statistics; ``"train"`` each chunk's own, which
            is another function with other eigenvalues, and depends on ``batch_size``.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.
        dtype: ``torch.bfloat16`` for products in bfloat16: faster where the processor has its
            instructions, and the value errs by up to a percent, which the residual does not show.
        scale: D, one factor for each parameter in flat order: the eigenvalue is that of D H D, such
            as with :func:`~snt_core.methods.curvature.scale_free.filter_scale`.

    Raises:
        ValueError: loss or product not finite, no trainable parameter, argument out of range.
    """
    if max_products < 1 or not tolerance > 0:
        raise ValueError(f"max_products {max_products} must be >= 1, tolerance {tolerance} > 0")
    options = (batch_size, bn_mode, preprocess, dtype)
    product = Hessian(model, images, labels, *options)
    start = torch.randn(product.size, generator=torch.Generator().manual_seed(seed))
    start = start.to(product.like)
    if scale is not None and scale.shape != start.shape:
        raise ValueError(f"scale of shape {tuple(scale.shape)}, expected ({product.size},)")
    if len(images) >= 3 * SKETCH:  # else five products on 128 images are not cheap by comparison
        some = slice(None, None, len(images) // SKETCH)
        sketch = Hessian(model, images[some], labels[some], *options)
        start = _top(_scaled(sketch, scale), start, SKETCH_PRODUCTS)
    value, residual, products = _largest(_scaled(product, scale), start, max_products, tolerance)
    return LambdaMax(
        value=value,
        residual=residual,
        products=products,
        converged=residual <= tolerance,
        n_samples=len(images),
        bn_mode=bn_mode,
    )


def _scaled(product: Callable[[Tensor], Tensor], scale: Tensor | None) -> Callable[..., Tensor]:
    return product if scale is None else lambda v: scale * product(scale * v)


def hvp(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    vector: Tensor,
    *,
    batch_size: int = 128,
    bn_mode: BNMode = "eval",
    preprocess: Preprocess | None = None,
) -> Tensor:
    """Return the Hessian of the mean cross-entropy times a vector.

    The arguments are those of :func:`lambda_max`; ``vector`` is flat, with the trainable parameters
    in the order of ``model.parameters()``, and so is the result.

    Raises:
        ValueError: as :func:`lambda_max`, or the vector has another length.
    """
    return Hessian(model, images, labels, batch_size, bn_mode, preprocess)(vector)


def _largest(
    product: Callable[[Tensor], Tensor], start: Tensor, max_products: int, tolerance: float
) -> tuple[float, float, int]:
    """Return the largest Ritz value, its relative residual and the products used."""
    for values, vectors, beta in lanczos(product, start, max_products):
        value, error = values[-1].item(), beta * vectors[-1, -1].abs().item()
        # a Hessian of zeros has the value 0 with the error 0, and is found
        residual = error / abs(value) if value else math.inf if error else 0.0
        if residual <= tolerance:
            break
    return value, residual, len(values)


def _top(product: Callable[[Tensor], Tensor], start: Tensor, products: int) -> Tensor:
    """Return the Ritz vector of the largest Ritz value after some products."""
    basis: list[Tensor] = []
    for _, vectors, _ in lanczos(product, start, products, basis):
        share = vectors[:, -1].to(start)
    return torch.stack(basis[: len(share)], 1) @ share
