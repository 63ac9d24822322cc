r"""Curvature of the training loss: Hessian-vector products and the largest eigenvalue.

The paper explains robustness to compression by flat minima, measured as the largest eigenvalue of
the Hessian of the loss (as in PyHessian: Yao et al., 2020, arXiv:1912.07145). Needs only torch::

    import torch
    from snt_core.methods.curvature.lambda_max import lambda_max
    from snt_core.methods.tasks.task import Task

    found = lambda_max(my_model, (images, labels))  # images B C H W normalised, labels B
    print(found.value, found.residual, found.upper, found.products, found.converged)
    lambda_max(my_model, loader)  # a DataLoader or a list of batches, read once a product
    smoothed = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    lambda_max(my_model, loader, task=Task(loss_fn=smoothed))
    # uint8 images stay uint8, and are normalised chunk by chunk
    pixels = torch.randint(256, (64, 3, 16, 16), dtype=torch.uint8)
    lambda_max(my_model, (pixels, labels), preprocess=lambda x: x.float().div(255).sub(0.5))

**The quantity.** For N images, parameters :math:`\theta` (flat, in the order of
``model.parameters()``, only those with ``requires_grad``) and outputs :math:`f`,

.. math:: L(\theta) = \frac{1}{N} \sum_{n=1}^{N} \ell(f(x_n; \theta), y_n), \qquad
          H = \nabla^2 L(\theta),

with :math:`\ell` the cross-entropy in nats, or a task's loss; no augmentation, no weight decay,
dropout off. Images go through in chunks that each contribute their *sum* over N: a short last chunk
is exact, and memory does not grow with N.

**What "converged" says.** A small residual proves that *some* eigenvalue is near, not that it is
the largest: from a start without a share of the largest one's eigenvector, Lanczos' method settles
on another. A random start v has such a share. For every k, the polynomial
:math:`q_k(t) = \prod_j (t - \vartheta_j) / \prod_j \beta_j` of the k Ritz values
:math:`\vartheta_j` has :math:`|q_k(\lambda_{\max})| \, |v_1| \le 1`, with :math:`v_1` the share of
the top eigenvector in v. As :math:`|v_1|` is below
:math:`\delta \sqrt{\pi / 2P}` with a probability of at most :math:`\delta` (P parameters), the
place above all :math:`\vartheta_j` where :math:`q_k` reaches :math:`\sqrt{2P/\pi} / \delta` is an
upper bound of the largest eigenvalue, except with probability :math:`\delta` (van Dorsselaer,
Hochstenbach and van der Vorst, 2000, SIAM J. Matrix Anal. Appl. 22(3)). Both must hold for
``converged``: the residual, and the bound within the tolerance of the value.

The products are those of :mod:`snt_core.methods.curvature.hessian`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snt_core.common.arguments import require_number, require_whole
from snt_core.methods.curvature.hessian import BNMode, Hessian
from snt_core.methods.curvature.lanczos import Bound, lanczos, rounding
from snt_core.methods.tasks.objective import Objective, Preprocess
from snt_core.methods.tasks.task import Task

Start = Literal["random", "sketch"]
SKETCH = 128  # images on which a start is sought
SKETCH_PRODUCTS = 5
# Published records of nets up to this size were made so, and err by up to 2e-3 of the value.
SETTLED = 2**24
FORMATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)  # of products


@dataclass(frozen=True, kw_only=True)
class LambdaMax:
    r"""The largest eigenvalue of a Hessian, as :func:`lambda_max` found it.

    Attributes:
        value: the eigenvalue (Ritz value) of the Hessian of the mean loss, in nats.
        residual: :math:`|Hv - value \, v| / |value|` with :math:`|v| = 1`; some eigenvalue lies
            within ``residual * abs(value)`` of ``value``.
        products: Hessian-vector products over all images that it took.
        converged: whether ``residual`` reached the tolerance and, with the random start, ``upper``
            lies within it too: the value is then the largest eigenvalue.
        n_samples: images that the loss is averaged over (the sum of the batches' weights).
        bn_mode: statistics that BatchNorm used: ``"eval"`` (running) or ``"train"`` (the chunk's).
        upper: no eigenvalue is larger, except with a probability of 0.1 %; None with the start
            ``"sketch"``, whose ``converged`` is silent on it.
    """

    value: float
    residual: float
    products: int
    converged: bool
    n_samples: float
    bn_mode: BNMode
    upper: float | None = None


@torch.inference_mode(False)
def lambda_max(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    batch_size: int = 128,
    max_products: int = 100,
    tolerance: float = 5e-3,
    seed: int = 0,
    bn_mode: BNMode = "eval",
    preprocess: Preprocess | None = None,
    dtype: torch.dtype | None = None,
    scale: Tensor | None = None,
    start: Start = "random",
) -> LambdaMax:
    r"""Return the largest algebraic eigenvalue of the Hessian of the mean loss.

    Lanczos with full reorthogonalisation; one vector of the size of the model is kept for each
    product. After k products the largest eigenvalue :math:`\vartheta` of the k x k tridiagonal
    matrix, with eigenvector s, has the residual :math:`\rho = \beta_k |s_k|`: some eigenvalue is
    *proved* to lie within it, and the bound above says that none is larger. It stops where
    :math:`\rho \le tolerance \cdot |\vartheta|` and the bound is as near. The error is about
    :math:`\rho^2 /` gap to the next eigenvalue, far smaller than the residual. Rounding in float32
    adds about 1e-5 (on CUDA only with ``torch.backends.cudnn.allow_tf32 = False``).

    Args:
        model: by default a classifier, B C H W -> B classes; it is copied, and left as it was.
        data: a pair of tensors `(inputs, targets)`, by default N C H W and N class indices; or a
            list of batches, or a DataLoader, which must read the same samples in each pass.
            ``torch.channels_last`` makes convolutions about 10 % faster on a CPU.
        task: loss, call of the model, targets and weights of batches; classification by default.
        batch_size: images in a chunk of a pair; changes memory and speed only, except with
            ``"train"``.
        max_products: give up after as many products, with ``converged=False``.
        tolerance: relative residual to reach.
        seed: of the random start, drawn on the CPU so that devices agree.
        bn_mode: ``"eval"`` uses BatchNorm's running statistics; ``"train"`` each chunk's own, which
            is another function with other eigenvalues, and depends on the chunks.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.
        dtype: ``torch.bfloat16`` for products in bfloat16: faster where the processor has its
            instructions, and the value errs by up to a percent, which the residual does not show.
        scale: D, one factor for each parameter in flat order: the eigenvalue is that of D H D, such
            as with :func:`~snt_core.methods.curvature.scale_free.filter_scale`.
        start: ``"random"``, or ``"sketch"``: the top Ritz vector of five products on 128 images of
            a pair that has many. It saves about half of the products, and is what published records
            were made with; but where these images lack what makes the largest eigenvalue (a class),
            ``converged`` may be said of another one.

    Raises:
        ValueError: loss or product not finite, no trainable parameter, argument out of range,
            targets that are no class labels without a task that says what they are, data that
            changes from pass to pass, or no second derivative.
    """
    require_whole(max_products=max_products, seed=seed)
    require_number(tolerance=tolerance)
    if max_products < 1 or not tolerance > 0:
        raise ValueError(f"max_products {max_products} must be >= 1, tolerance {tolerance} > 0")
    if start not in ("random", "sketch"):
        raise ValueError(f"start '{start}' is neither 'random' nor 'sketch'")
    if dtype is not None and dtype not in FORMATS:
        said = ", ".join(map(str, FORMATS))
        raise ValueError(f"dtype is {dtype!r}; it must be None or one of {said}")
    if scale is not None:
        _check_flat("scale", scale)
    objective = Objective(data, task, batch_size=batch_size, preprocess=preprocess)
    if start == "sketch" and objective.pair is None:
        raise ValueError("start 'sketch' takes a pair of tensors (inputs, targets)")
    hessian = Hessian(model, objective, bn_mode, dtype)
    product = _scaled(hessian, scale)
    upper: float | None
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(hessian.size, generator=generator).to(hessian.like)
    if start == "sketch" and objective.pair is not None:
        images, labels = objective.pair
        if len(images) >= 3 * SKETCH:  # else five products on 128 images are not cheap
            some = slice(None, None, len(images) // SKETCH)
            sketch = Hessian(model, objective.part((images[some], labels[some])), bn_mode, dtype)
            first = _top(_scaled(sketch, scale), first, SKETCH_PRODUCTS)
        value, residual, products = _largest(product, first, max_products, tolerance)
        upper, settled = None, True
    else:
        # not the generator's first vector: nobody's example is orthogonal to this one by design
        draws = (torch.randn(hessian.size, generator=generator) for _ in range(2))
        starts = [draw.to(hessian.like) for draw in draws]
        value, residual, products, upper = _proved(product, starts, max_products, tolerance)
        settled = upper - value <= tolerance * abs(value)
    return LambdaMax(
        value=value,
        residual=residual,
        products=products,
        converged=residual <= tolerance and settled,
        n_samples=objective.total,
        bn_mode=bn_mode,
        upper=upper,
    )


def _scaled(hessian: Hessian, scale: Tensor | None) -> Callable[[Tensor], Tensor]:
    if scale is None:
        return hessian
    if scale.shape != (hessian.size,):
        raise ValueError(f"scale of shape {tuple(scale.shape)}, expected ({hessian.size},)")
    factors = scale.to(hessian.like)
    return lambda v: factors * hessian(factors * v)


def _check_flat(name: str, values: Any) -> None:
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} is a {type(values).__name__}, not a tensor: give torch.tensor()")
    if not values.isfinite().all():
        raise ValueError(f"{name} holds values that are not finite")


@torch.inference_mode(False)
def hvp(
    model: nn.Module,
    data: Any,
    vector: Tensor,
    *,
    task: Task | None = None,
    batch_size: int = 128,
    bn_mode: BNMode = "eval",
    preprocess: Preprocess | None = None,
) -> Tensor:
    """Return the Hessian of the mean loss times a vector.

    The arguments are those of :func:`lambda_max`; ``vector`` is flat, with the trainable parameters
    in the order of ``model.parameters()``, and so is the result (float32 for a model in half
    precision).

    Raises:
        ValueError: as :func:`lambda_max`, or the vector has another length or is not finite.
    """
    _check_flat("the vector", vector)
    objective = Objective(data, task, batch_size=batch_size, preprocess=preprocess)
    return Hessian(model, objective, bn_mode)(vector)


def _proved(
    product: Callable[[Tensor], Tensor], starts: list[Tensor], max_products: int, tolerance: float
) -> tuple[float, float, int, float]:
    """Return the largest Ritz value, its relative residual, the products, and the upper bound.

    Where the Krylov space of the first start ends before the bound is near, what it holds is exact,
    and the second start shows what it lacks: a start may be orthogonal to the answer.
    """
    best, settled, used = -math.inf, math.inf, 0
    for start in starts:
        bound = Bound(start.numel())
        for values, vectors, beta in lanczos(product, start, max_products - used):
            value, error = values[-1].item(), beta * vectors[-1, -1].abs().item()
            upper, residual, top = (
                bound.add(values, beta),
                _relative(error, value),
                max(best, value),
            )
            near = upper - top <= tolerance * abs(top)
            if near and (value < best or residual <= tolerance):
                break
        used += len(values)
        if value > best:
            best, settled = value, residual
        whole = len(values) == start.numel()
        if whole or beta > rounding(start, values) or used >= max_products:
            break
    return best, settled, used, max(best, upper)


def _largest(
    product: Callable[[Tensor], Tensor], start: Tensor, max_products: int, tolerance: float
) -> tuple[float, float, int]:
    """Return the largest Ritz value, its relative residual and the products used."""
    for values, vectors, beta in lanczos(product, start, max_products, long=SETTLED):
        value, error = values[-1].item(), beta * vectors[-1, -1].abs().item()
        residual = _relative(error, value)
        if residual <= tolerance:
            break
    return value, residual, len(values)


def _relative(error: float, value: float) -> float:
    # a Hessian of zeros has the value 0 with the error 0, and is found
    return error / abs(value) if value else math.inf if error else 0.0


def _top(product: Callable[[Tensor], Tensor], start: Tensor, products: int) -> Tensor:
    """Return the Ritz vector of the largest Ritz value after some products."""
    basis: list[Tensor] = []
    for _, vectors, _ in lanczos(product, start, products, basis, SETTLED):
        share = vectors[:, -1].to(start)
    return torch.stack(basis[: len(share)], 1) @ share
