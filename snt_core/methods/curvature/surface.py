r"""The loss around a trained net, on a plane through its weights (as in the paper's Fig. 3).

Filter-normalised random directions of Li et al., 2018, arXiv:1712.09913::

    import matplotlib.pyplot as plt
    from snt_core.methods.curvature.surface import loss_surface

    found = loss_surface(my_model, (images, labels), span=0.5, points=11)  # images B C H W
    plt.contourf(found.betas, found.alphas, found.losses)

At :math:`(\alpha, \beta)` every weight w that compression acts on becomes
:math:`w + \alpha d + \beta e`, with d and e Gaussian and scaled filter by filter,

.. math:: d_i \leftarrow \frac{d_i}{|d_i|} |w_i|,

a filter i being what belongs to one output: one index of the weight's first axis, of the second in
a transposed convolution. So a step of 1 is
as long as the weights themselves, and nets whose weights differ in scale can be compared. All else
stays where it is: biases, normalisation, the gamma, beta and zeta of Eq. (1), and embeddings.
BatchNorm uses its running statistics everywhere on the plane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from snt_core.common.arguments import require_number, require_whole
from snt_core.methods.curvature.exact import Passes, call_with, exact_copy
from snt_core.methods.models.compressible import FIRST_AXIS, Outputs, outputs_by_name, prunable
from snt_core.methods.models.folding import fold
from snt_core.methods.tasks.objective import Objective, Preprocess
from snt_core.methods.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class LossSurface:
    """The loss on a square around the weights.

    Attributes:
        alphas: P steps along the first direction, ascending, 0 in the middle.
        betas: P steps along the second.
        losses: P x P mean losses, ``losses[i][j]`` at ``alphas[i], betas[j]``; by default
            cross-entropies in nats.
        n_samples: images that the loss is averaged over (the sum of the batches' weights).
    """

    alphas: list[float]
    betas: list[float]
    losses: list[list[float]]
    n_samples: float


@torch.inference_mode(False)
def loss_surface(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    span: float = 1.0,
    points: int = 21,
    seed: int = 0,
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
) -> LossSurface:
    """Return the mean loss on a ``points`` x ``points`` grid, in eval mode.

    Takes ``points**2`` passes over the images. The middle is the loss of the model itself.

    Args:
        model: by default a classifier, B C H W -> B classes; a copy is moved, so that it is left as
            it was even if this is interrupted.
        data: a pair of tensors `(inputs, targets)`, a list of batches, or a DataLoader.
        task: loss, call of the model, targets and weights of batches; classification by default.
        span: steps run from -span to span; Li et al. show 1.
        points: odd, at least 3.
        seed: of the two directions, drawn on the CPU so that devices agree.
        batch_size: images in a chunk; changes memory and speed only.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: a loss is not finite, no convolution or linear layer, argument out of range.
    """
    require_number(span=span)
    require_whole(points=points, seed=seed)
    if not 0 < span < math.inf or points < 3 or points % 2 == 0:
        raise ValueError(f"span {span} must be > 0, and points {points} odd and >= 3")
    objective = Objective(data, task, batch_size=batch_size, preprocess=preprocess)
    # folded, so that a weight which the model computes is moved as it is used
    model = fold(exact_copy(model))
    weights = {name: w.detach() for name, w in prunable(model).items()}
    if not weights:
        raise ValueError("the model has no convolution or linear layer to move")
    outputs = outputs_by_name(model)
    generator = Generator().manual_seed(seed)
    first, second = (
        {name: filter_direction(w, generator, outputs[name]) for name, w in weights.items()}
        for _ in range(2)
    )
    like = next(iter(weights.values()))
    objective.examine(model, like.dtype)
    half = points // 2
    steps = [span * i / half for i in range(-half, half + 1)]
    passes = Passes(like.dtype)

    def loss(alpha: float, beta: float) -> float:
        moved = {n: w + alpha * first[n] + beta * second[n] for n, w in weights.items()}
        total = 0.0
        for batch, weight in objective.batches(like.device):
            output = call_with(model, moved, lambda net: objective.output(net, batch, like.dtype))  # noqa: B023
            # in float64, since losses of neighbours on the grid differ little
            total += objective.exact_loss(output, batch, weight).item()
        if not math.isfinite(total):
            raise ValueError(f"the loss at ({alpha}, {beta}) is not finite: try a smaller span")
        return total / objective.total

    with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
        losses = [[loss(alpha, beta) for beta in steps] for alpha in steps]
        for middle in (losses[half][half], loss(0, 0)):
            passes.compare(middle)
    return LossSurface(alphas=steps, betas=steps, losses=losses, n_samples=objective.total)


def filter_direction(weight: Tensor, generator: Generator, outputs: Outputs = FIRST_AXIS) -> Tensor:
    """Return a Gaussian direction whose every filter is as long as the weight's.

    Args:
        weight: any axes; a filter is what belongs to one output.
        generator: on the CPU.
        outputs: where the outputs lie: axis 0, or what ``outputs_of(layer)`` says, so that those of
            a transposed convolution lie on axis 1, group by group.

    Returns:
        The weight's shape, dtype and device; zeros where a filter is all zeros.
    """
    direction = torch.randn(weight.shape, generator=generator).to(weight)
    wide = torch.promote_types(weight.dtype, torch.float32)  # squares overflow in half precision
    lengths, own = (outputs.rows(x.to(wide)).norm(dim=1) for x in (weight.detach(), direction))
    return (direction * outputs.spread(lengths / own, weight)).to(weight.dtype)
