r"""How much the loss rises under a perturbation of the weights, and what curvature predicts.

Compression moves the weights by p. To second order

.. math:: L(w + p) - L(w) \approx g^T p + \tfrac{1}{2} p^T H p
          \le g^T p + \tfrac{1}{2} \lambda_{\max} |p|^2,

and the paper's argument is that :math:`\lambda_{\max}` governs what compression costs. The three
terms can be measured for the very p of a compression::

    from snt_core.methods.compress.quantize import quantize_weights
    from snt_core.methods.curvature.rise import loss_rises

    nets = {"W4": quantize_weights(my_model, 4)}
    found = loss_rises(my_model, nets, (images, labels))["W4"]
    print(found.rise, found.slope + found.quadratic, found.squared_length)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.methods.curvature.exact import exact_copy
from snt_core.methods.curvature.hessian import Hessian
from snt_core.methods.tasks.objective import Objective, Preprocess
from snt_core.methods.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Rise:
    """What a perturbation p of the weights does to the mean loss L (nats by default).

    Attributes:
        loss: L of the net itself.
        rise: L(w + p) - L(w).
        slope: g'p, g the gradient of L.
        quadratic: p'Hp / 2, H its Hessian.
        squared_length: p'p.
        n_samples: images that the loss is averaged over (the sum of the batches' weights).
    """

    loss: float
    rise: float
    slope: float
    quadratic: float
    squared_length: float
    n_samples: float


@torch.inference_mode(False)
def loss_rises(
    model: nn.Module,
    perturbed: Mapping[str, nn.Module],
    data: Any,
    *,
    task: Task | None = None,
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
) -> dict[str, Rise]:
    """Return how the mean loss rises from ``model`` to each of ``perturbed``.

    In eval mode, in float32 at least. Takes one gradient, and for each perturbed net a pass over
    the data and a Hessian-vector product.

    Args:
        model: by default a classifier, B C H W -> B classes; it is left as it was.
        perturbed: the same net with other weights, by name, such as those of ``quantize_weights``
            or ``prune_magnitude``.
        data: a pair of tensors `(inputs, targets)`, a list of batches, or a DataLoader.
        task: loss, call of the model, targets and weights of batches; classification by default.
        batch_size: images in a chunk; changes memory and speed only.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: a perturbed net has other parameters, buffers or frozen parameters with other
            values (which no step of the weights explains), or the Hessian cannot be had (see
            :func:`snt_core.methods.curvature.lambda_max.lambda_max`).
    """
    if not isinstance(perturbed, Mapping):
        name = type(perturbed).__name__
        raise ValueError(f"perturbed is a {name}: give nets by name, such as {{'W4': my_net}}")
    model = exact_copy(model)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    nets = {key: exact_copy(net) for key, net in perturbed.items()}
    steps = {key: _step(key, model, net, names) for key, net in nets.items()}
    objective = Objective(data, task, batch_size=batch_size, preprocess=preprocess)
    hessian = Hessian(model, objective)
    before = _loss(model, objective, backward=True)
    hessian.passes.compare(before)  # its product must be of the same function
    params = dict(model.named_parameters())
    gradient = torch.cat([_gradient(params[name]) for name in names]).double()
    found = {}
    for key, step in steps.items():
        after = _loss(nets[key], objective, backward=False)
        found[key] = Rise(
            loss=before,
            rise=after - before,
            slope=torch.dot(gradient, step.double()).item(),
            quadratic=0.5 * torch.dot(step.double(), hessian(step).double()).item(),
            squared_length=step.double().square().sum().item(),
            n_samples=objective.total,
        )
    return found


def _step(key: str, model: nn.Module, perturbed: nn.Module, names: list[str]) -> Tensor:
    """Return the perturbation, flat, in the order of the trainable parameters."""
    ours, theirs = dict(model.named_parameters()), dict(perturbed.named_parameters())
    if {n: p.shape for n, p in ours.items()} != {n: p.shape for n, p in theirs.items()}:
        raise ValueError("the perturbed net has other parameters than the net itself")
    fixed: list[tuple[str, Tensor, Tensor]]
    fixed = [(n, ours[n], theirs[n]) for n in ours.keys() - set(names)]
    buffers = dict(perturbed.named_buffers())
    fixed += [(n, b, buffers[n]) for n, b in model.named_buffers() if n in buffers]
    for name, a, b in fixed:
        if a.shape != b.shape or not torch.equal(a.to(b), b):
            raise ValueError(
                f"'{name}' differs in '{key}' and is no trainable parameter: slope and curvature "
                "would not know of it"
            )
    return torch.cat([(theirs[n].detach() - ours[n].detach()).reshape(-1) for n in names])


def _gradient(p: nn.Parameter) -> Tensor:
    return torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1)


def _loss(model: nn.Module, objective: Objective, *, backward: bool) -> float:
    """Return the mean loss; its gradient is left in the parameters where one is asked for."""
    total = 0.0
    model.zero_grad()
    like = next(model.parameters())
    autocast = torch.autocast(like.device.type, enabled=False)
    with torch.set_grad_enabled(backward), autocast:
        for batch, weight in objective.batches(like.device):
            output = objective.output(model, batch, like.dtype)
            # in float64: the rise is a small difference of two losses
            loss = objective.exact_loss(output, batch, weight) / objective.total
            if backward:
                loss.backward()
            total += loss.item()
    return total
