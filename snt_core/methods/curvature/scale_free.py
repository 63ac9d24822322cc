r"""Sharpness that does not change when filters are rescaled.

A net with batch normalisation computes the same function when a filter w is multiplied by c > 0,
while :math:`\lambda_{\max}` of its Hessian changes with :math:`1 / c^2` (Dinh et al., 2017,
arXiv:1703.04933). What compression does scales with the filters: a step of quantization is a share
of their largest weight. So the matching measure perturbs each filter by a share of its length::

    from snt_core.methods.curvature.lambda_max import lambda_max
    from snt_core.methods.curvature.scale_free import adaptive_sharpness, filter_scale

    found = lambda_max(my_model, (images, labels), scale=filter_scale(my_model))
    adaptive_sharpness(my_model, (images, labels), rho=0.5)

With D the diagonal matrix of the filters' lengths (that of a filter for each of its weights, `|p|`
for a parameter with one axis), the first is the largest eigenvalue of D H D. The second is the
sharpness that ASAM descends (Kwon et al., 2021, arXiv:2102.11600, eq. 6), with its own diagonal
`T = |w|`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.common.arguments import require_number
from snt_core.methods.curvature.exact import Passes, exact_copy
from snt_core.methods.models.compressible import FIRST_AXIS, outputs_by_name
from snt_core.methods.models.wrapping import unwrapped
from snt_core.methods.tasks.objective import Objective, Preprocess
from snt_core.methods.tasks.task import Task


def filter_scale(model: nn.Module) -> Tensor:
    """Return D: for each trainable parameter, flat, the length of the filter that it belongs to.

    A filter is what belongs to one output: one index of a weight's first axis, of the second in a
    transposed convolution (group by group). A parameter with one axis, such as a bias, is its own
    filter. In float32 for half-precision parameters, whose squares would overflow.
    """
    where = outputs_by_name(model := unwrapped(model))
    pieces = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            w = p.detach().to(torch.promote_types(p.dtype, torch.float32))
            if w.ndim < 2:
                pieces.append(w.abs().reshape(-1))
                continue
            outputs = where.get(name, FIRST_AXIS)
            lengths = outputs.rows(w).norm(dim=1)
            pieces.append(outputs.spread(lengths, w).expand_as(w).reshape(-1))
    return torch.cat(pieces)


@torch.inference_mode(False)
def adaptive_sharpness(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    rho: float = 0.5,
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
) -> float:
    r"""Return how much the mean loss rises one step of ASAM up, in eval mode (in nats by default).

    The step is :math:`\epsilon = \rho \, T^2 g / |T g|` with :math:`T = |w|`, from the gradient g
    on the same images.

    Args:
        model: by default a classifier, B C H W -> B classes; it is left as it was.
        data: a pair of tensors `(inputs, targets)`, a list of batches, or a DataLoader.
        task: loss, call of the model, targets and weights of batches; classification by default.
        rho: radius of the neighbourhood, > 0; Kwon et al. take 0.5 to 2.
        batch_size: images in a chunk; changes memory and speed only.

    Raises:
        ValueError: no image, ``rho`` not above 0, a loss that is not finite or changes from pass to
            pass, or a model whose copy has no gradient (a scripted one).
    """
    require_number(rho=rho)
    if not 0 < rho < math.inf:
        raise ValueError(f"rho {rho} must be above 0 and finite")
    objective = Objective(data, task, batch_size=batch_size, preprocess=preprocess)
    model = exact_copy(model)
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ValueError("the model has no parameter with requires_grad=True")
    like = params[0]
    objective.examine(model, like.dtype)

    def loss(*, backward: bool) -> float:
        total = 0.0
        with torch.set_grad_enabled(backward), torch.autocast(like.device.type, enabled=False):
            for batch, weight in objective.batches(like.device):
                output = objective.output(model, batch, like.dtype)
                part = objective.exact_loss(output, batch, weight) / objective.total
                if backward:
                    part.backward()
                total += float(part.detach())
        return total

    passes = Passes(like.dtype)
    before = loss(backward=True)
    passes.compare(before)
    passes.compare(loss(backward=False))  # else chance would pass for sharpness
    pairs = [(p, p.grad) for p in params if p.grad is not None]
    if not pairs:
        raise ValueError("the loss has a gradient in no parameter of the (copied) model")
    with torch.no_grad():
        length = torch.stack([(p.abs() * g).norm() for p, g in pairs]).norm()
        for p, g in pairs:
            p.add_(rho * p.square() * g / length.clamp_min(torch.finfo(length.dtype).tiny))
        after = loss(backward=False)
    rise = after - before
    if not rise == rise or abs(rise) == float("inf"):
        raise ValueError(f"the loss goes from {before} to {after}: not finite")
    return rise
