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

**The product.** :math:`Hv = \nabla_\theta (\nabla L \cdot v)`, exact. The slope
:math:`\nabla L \cdot v` comes from forward mode where that is right: then Hv is 8 convolutions a
layer where a gradient is 3, and costs 3 gradients on a CPU (forward over reverse: 4, double
backward: 4.5). In torch 2.13 it is not right for LayerNorm, nor for BatchNorm with batch
statistics: the gradient of their forward-mode rules takes the statistics for constants. So both
ways are compared on two images, and double backward serves where they differ; on ViT and Mixer it
is no slower.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

BNMode = Literal["eval", "train"]
Preprocess = Callable[[Tensor], Tensor]
Params = dict[str, Tensor]
Loss = Callable[[Params], Tensor]
Slope = Callable[[Loss, Params, Params], tuple[Tensor, Tensor]]  # value, directional derivative


@dataclass(frozen=True, kw_only=True)
class LambdaMax:
    r"""What :func:`lambda_max` found.

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
) -> LambdaMax:
    r"""Largest algebraic eigenvalue of the Hessian of the mean cross-entropy.

    Lanczos with full reorthogonalisation from a random start. After k products, the largest
    eigenvalue :math:`\vartheta` of the k x k tridiagonal matrix, with eigenvector s, has the
    residual :math:`\rho = \beta_k |s_k|`: some eigenvalue is *proved* to lie within it. It stops at
    :math:`\rho \le tolerance \cdot |\vartheta|`, where the error is about :math:`\rho^2 /` gap to
    the next eigenvalue: on ResNet-20 the default takes 5 to 12 products and errs by 1e-5 of the
    value, and 2e-2 saves one product and errs by 1e-3. Rounding in float32 adds about 1e-5 (on CUDA
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

    Raises:
        ValueError: loss or product not finite, no trainable parameter, argument out of range.
    """
    if max_products < 1 or not tolerance > 0:
        raise ValueError(f"max_products {max_products} must be >= 1, tolerance {tolerance} > 0")
    product = Hessian(model, images, labels, batch_size, bn_mode, preprocess)
    start = torch.randn(product.size, generator=torch.Generator().manual_seed(seed))
    value, residual, products = _largest(product, start.to(product.like), max_products, tolerance)
    return LambdaMax(
        value=value,
        residual=residual,
        products=products,
        converged=residual <= tolerance,
        n_samples=len(images),
        bn_mode=bn_mode,
    )


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
    """Hessian of the mean cross-entropy times a vector.

    The arguments are those of :func:`lambda_max`; ``vector`` is flat, with the trainable parameters
    in the order of ``model.parameters()``, and so is the result.

    Raises:
        ValueError: as :func:`lambda_max`, or the vector has another length.
    """
    return Hessian(model, images, labels, batch_size, bn_mode, preprocess)(vector)


class Hessian:
    """The linear map v -> Hv of one model and one set of images."""

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        bn_mode: BNMode,
        preprocess: Preprocess | None,
    ) -> None:
        if bn_mode not in ("eval", "train"):
            raise ValueError(f"bn_mode '{bn_mode}' is neither 'eval' nor 'train'")
        if batch_size < 1 or len(images) == 0 or len(images) != len(labels):
            sizes = f"{len(images)} images, {len(labels)} labels, batch_size {batch_size}"
            raise ValueError(f"{sizes}: need a label for each image, and none of the three 0")
        self.model = copy.deepcopy(model).eval()
        if bn_mode == "train":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    # without running statistics BatchNorm uses the batch's, and updates nothing
                    module.running_mean = module.running_var = None
        self.params = {k: p for k, p in self.model.named_parameters() if p.requires_grad}
        if not self.params:
            raise ValueError("the model has no parameter with requires_grad=True")
        self.like = next(iter(self.params.values())).detach()
        self.size = sum(p.numel() for p in self.params.values())
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.preprocess = preprocess or (lambda x: x)
        self.slope = _forward_slope if self._forward_mode_is_right() else _reverse_slope

    def __call__(self, vector: Tensor) -> Tensor:
        if vector.shape != (self.size,):
            raise ValueError(f"vector of shape {tuple(vector.shape)}, expected ({self.size},)")
        loss, product = self.like.new_zeros(()), self.like.new_zeros(self.size)
        for first in range(0, len(self.images), self.batch_size):
            chunk = slice(first, first + self.batch_size)
            target = self.labels[chunk].to(self.like.device)
            share = partial(F.cross_entropy, target=target, reduction="sum")
            part, row = self._product(share, self.images[chunk], vector, self.slope)
            loss += part / len(self.images)
            product += row / len(self.images)
        if not (loss.isfinite() and product.isfinite().all()):
            raise ValueError(
                f"loss {loss.item()} over {len(self.images)} images, or its Hessian product, is "
                "not finite: has training diverged, or are the images not normalised?"
            )
        return product

    def _product(
        self, objective: Callable[[Tensor], Tensor], x: Tensor, vector: Tensor, slope: Slope
    ) -> tuple[Tensor, Tensor]:
        """Value of objective(logits) on one chunk, and its Hessian times the vector."""
        pieces = vector.to(self.like).split([p.numel() for p in self.params.values()])
        direction = {k: v.view_as(p) for (k, p), v in zip(self.params.items(), pieces, strict=True)}
        # fused attention has no second derivative; autocast would round what must be exact
        exact = torch.autocast(self.like.device.type, enabled=False)
        with torch.enable_grad(), exact, sdpa_kernel(SDPBackend.MATH):
            x = self.preprocess(x.to(self.like.device))

            def loss(params: Params) -> Tensor:
                return objective(functional_call(self.model, params, (x,)))

            value, along = slope(loss, self.params, direction)
            # parameters that the slope does not depend on get zeros
            rows = torch.autograd.grad(along, self.params.values(), materialize_grads=True)
        return value.detach(), torch.cat([row.reshape(-1) for row in rows])

    def _forward_mode_is_right(self) -> bool:
        vector = torch.randn(self.size, generator=torch.Generator().manual_seed(0))

        def probe(slope: Slope) -> Tensor:
            # squared logits are curved even where every image is fitted perfectly
            return self._product(lambda f: f.square().sum(), self.images[:2], vector, slope)[1]

        exact = probe(_reverse_slope)
        try:
            error = probe(_forward_slope) - exact
        except RuntimeError:  # an operation without a forward-mode rule
            return False
        return bool(error.norm() <= torch.finfo(exact.dtype).eps ** 0.5 * exact.norm())


def _forward_slope(loss: Loss, params: Params, direction: Params) -> tuple[Tensor, Tensor]:
    return jvp(loss, (params,), (direction,))


def _reverse_slope(loss: Loss, params: Params, direction: Params) -> tuple[Tensor, Tensor]:
    value = loss(params)
    rows = torch.autograd.grad(value, params.values(), create_graph=True, materialize_grads=True)
    return value, sum((g * v).sum() for g, v in zip(rows, direction.values(), strict=True))


def lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, max_products: int
) -> Iterator[tuple[Tensor, Tensor, float]]:
    r"""Ritz pairs of a symmetric map after 1, 2, ... products, with full reorthogonalisation.

    Yields:
        The k eigenvalues of the k x k tridiagonal matrix (float64, ascending), its eigenvectors
        (columns; the first row is their share of ``start``), and the length :math:`\beta_k` of what
        the next product adds. It ends before ``max_products`` where the Krylov space is invariant.
        One vector is kept for each product.
    """
    basis = [start / start.norm()]
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


def _largest(
    product: Callable[[Tensor], Tensor], start: Tensor, max_products: int, tolerance: float
) -> tuple[float, float, int]:
    """Largest Ritz value, its relative residual and the products used."""
    for values, vectors, beta in lanczos(product, start, max_products):
        value, error = values[-1].item(), beta * vectors[-1, -1].abs().item()
        residual = error / abs(value) if value else math.inf if error else 0.0
        if residual <= tolerance:
            break
    return value, residual, len(values)
