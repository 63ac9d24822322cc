r"""How much the loss rises under a perturbation of the weights, and what curvature predicts.

Compression moves the weights by p. To second order

.. math:: L(w + p) - L(w) \approx g^T p + \tfrac{1}{2} p^T H p
          \le g^T p + \tfrac{1}{2} \lambda_{\max} |p|^2,

and the paper's argument is that :math:`\lambda_{\max}` governs what compression costs. The three
terms can be measured for the very p of a compression::

    from snt_core.methods.compress.quantize import quantize_weights
    from snt_core.methods.curvature.rise import loss_rises

    found = loss_rises(my_model, {"W4": quantize_weights(my_model, 4)}, images, labels)["W4"]
    print(found.rise, found.slope + found.quadratic, found.squared_length)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.methods.curvature.hessian import Hessian
from snt_core.methods.observe import Preprocess


@dataclass(frozen=True, kw_only=True)
class Rise:
    """What a perturbation p of the weights does to the mean loss L, in nats.

    Attributes:
        loss: L of the net itself.
        rise: L(w + p) - L(w).
        slope: g'p, g the gradient of L.
        quadratic: p'Hp / 2, H its Hessian.
        squared_length: p'p.
        n_samples: images that the loss is averaged over.
    """

    loss: float
    rise: float
    slope: float
    quadratic: float
    squared_length: float
    n_samples: int


def loss_rises(
    model: nn.Module,
    perturbed: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
) -> dict[str, Rise]:
    """Return how the mean cross-entropy rises from ``model`` to each of ``perturbed``.

    In eval mode. Takes one gradient, and for each perturbed net a pass over the images and a
    Hessian-vector product.

    Args:
        model: classifier, B C H W -> B classes; it is left as it was.
        perturbed: the same net with other weights, by name, such as those of ``quantize_weights``
            or ``prune_magnitude``.
        images: N C H W, in the model's dtype after ``preprocess``.
        labels: N class indices.
        batch_size: images in a chunk; changes memory and speed only.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: a perturbed net has other parameters, or the Hessian cannot be had (see
            :func:`snt_core.methods.curvature.lambda_max.lambda_max`).
    """
    model = copy.deepcopy(model).eval()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    steps = {key: _step(model, net, names) for key, net in perturbed.items()}
    hessian = Hessian(model, images, labels, batch_size, "eval", preprocess)
    chunks = [
        (x if preprocess is None else preprocess(x), y)
        for x, y in zip(
            images.to(hessian.like.device).split(batch_size),
            labels.to(hessian.like.device).split(batch_size),
            strict=True,
        )
    ]
    before = _loss(model, chunks, len(images), backward=True)
    params = dict(model.named_parameters())
    gradient = torch.cat([_gradient(params[name]) for name in names]).double()
    found = {}
    for key, step in steps.items():
        after = _loss(copy.deepcopy(perturbed[key]).eval(), chunks, len(images), backward=False)
        found[key] = Rise(
            loss=before,
            rise=after - before,
            slope=torch.dot(gradient, step.double()).item(),
            quadratic=0.5 * torch.dot(step.double(), hessian(step).double()).item(),
            squared_length=step.double().square().sum().item(),
            n_samples=len(images),
        )
    return found


def _step(model: nn.Module, perturbed: nn.Module, names: list[str]) -> Tensor:
    """The perturbation, flat, in the order of the trainable parameters."""
    ours, theirs = dict(model.named_parameters()), dict(perturbed.named_parameters())
    if {n: p.shape for n, p in ours.items()} != {n: p.shape for n, p in theirs.items()}:
        raise ValueError("the perturbed net has other parameters than the net itself")
    return torch.cat([(theirs[n].detach() - ours[n].detach()).reshape(-1) for n in names])


def _gradient(p: nn.Parameter) -> Tensor:
    return torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1)


def _loss(
    model: nn.Module, chunks: list[tuple[Tensor, Tensor]], count: int, *, backward: bool
) -> float:
    """The mean loss; its gradient is left in the parameters where one is asked for."""
    total = 0.0
    model.zero_grad()
    for x, y in chunks:
        with torch.set_grad_enabled(backward):
            # in float64: the rise is a small difference of two losses
            loss = F.cross_entropy(model(x).double(), y, reduction="sum") / count
        if backward:
            loss.backward()
        total += loss.item()
    return total
