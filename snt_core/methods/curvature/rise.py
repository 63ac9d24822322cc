r"""How much the loss rises under a perturbation of the weights, and what curvature predicts.

Compression moves the weights by p. To second order

.. math:: L(w + p) - L(w) \approx g^T p + \tfrac{1}{2} p^T H p
          \le g^T p + \tfrac{1}{2} \lambda_{\max} |p|^2,

and the paper's argument is that :math:`\lambda_{\max}` governs what compression costs. The three
terms can be measured for the very p of a compression::

    from snt_core.methods.compress.quantize import quantize_weights
    from snt_core.methods.curvature.rise import loss_rise

    found = loss_rise(my_model, quantize_weights(my_model, 4), images, labels)
    print(found.rise, found.slope + found.quadratic, found.squared_length)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.methods.curvature.lambda_max import hvp
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


def loss_rise(
    model: nn.Module,
    perturbed: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
) -> Rise:
    """Return how the mean cross-entropy rises from ``model`` to ``perturbed``, in eval mode.

    Takes two passes over the images, one gradient and one Hessian-vector product.

    Args:
        model: classifier, B C H W -> B classes; it is left as it was.
        perturbed: the same net with other weights, such as those of ``quantize_weights`` or
            ``prune_magnitude``.
        images: N C H W, in the model's dtype after ``preprocess``.
        labels: N class indices.
        batch_size: images in a chunk; changes memory and speed only.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: the two have other parameters, or as :func:`hvp`.
    """
    ours, theirs = dict(model.named_parameters()), dict(perturbed.named_parameters())
    if {n: p.shape for n, p in ours.items()} != {n: p.shape for n, p in theirs.items()}:
        raise ValueError("the perturbed net has other parameters than the net itself")
    names = [name for name, p in ours.items() if p.requires_grad]
    step = torch.cat([(theirs[n].detach() - ours[n].detach()).reshape(-1) for n in names])
    options: dict[str, Any] = {"batch_size": batch_size, "preprocess": preprocess}
    before, slope = _loss(model, images, labels, step, **options)
    after, _ = _loss(perturbed, images, labels, None, **options)
    curved = hvp(model, images, labels, step, batch_size=batch_size, preprocess=preprocess)
    return Rise(
        loss=before,
        rise=after - before,
        slope=slope,
        quadratic=0.5 * torch.dot(step.double(), curved.double()).item(),
        squared_length=step.double().square().sum().item(),
        n_samples=len(images),
    )


def _loss(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    along: Tensor | None,
    *,
    batch_size: int,
    preprocess: Preprocess | None,
) -> tuple[float, float]:
    """Return the mean loss, and its derivative along a direction where one is given (else 0)."""
    training = model.training
    model.eval()
    params = [p for p in model.parameters() if p.requires_grad]
    total, slope = 0.0, 0.0
    try:
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            with torch.set_grad_enabled(along is not None):
                x = x.to(params[0].device)
                logits = model(x if preprocess is None else preprocess(x))
                # summed in float64: the rise is a small difference of two losses
                loss = F.cross_entropy(logits.double(), y.to(x.device), reduction="sum")
            if along is not None:
                grads = torch.autograd.grad(loss, params, materialize_grads=True)
                flat = torch.cat([g.reshape(-1) for g in grads])
                slope += torch.dot(flat.double(), along.double()).item() / len(images)
            total += loss.item() / len(images)
    finally:
        model.train(training)
    return total, slope
