r"""Quantization-aware training with PACT: clipping levels that are learned with the weights.

Choi et al., 2018, arXiv:1805.06085. On any model::

    from snt_core.methods.compress.pact import prepare_qat
    from snt_core.methods.compress.quantize import freeze

    student = prepare_qat(my_model, images, weight_bits=4, act_bits=4)  # my_model stays as it was
    train(student)  # any training loop
    small = freeze(student)  # the same outputs: plain weights, still quantized activations

What each convolution and linear layer reads is clipped at its learned level :math:`\alpha` (the
parameter ``clip_alpha``, a scalar) and rounded. Where calibration images show no negative input, as
after ReLU, this is the paper's

.. math:: y = clip(x, 0, \alpha), \qquad
          y_q = round\Big(y \, \frac{2^b - 1}{\alpha}\Big) \frac{\alpha}{2^b - 1};

where they do (images, LayerNorm, GELU, a learned slope), the paper is silent and one of two forms
serves. ``"symmetric"``: :math:`clip(x, -\alpha, \alpha)` with :math:`2^{b-1} - 1` steps on each
side of 0, the levels that weights have. ``"affine"``: all :math:`2^b - 1` steps, m of them below 0
as the calibration's range divides them: :math:`clip(x, -m \Delta, \alpha)` with
:math:`\Delta = \alpha / (2^b - 1 - m)`. Rounding passes the gradient straight through, so that
:math:`\partial y_q / \partial \alpha` is 1 above :math:`\alpha`, the lower end over
:math:`\alpha` below that end, and 0 elsewhere.

The paper adds an L2 penalty on :math:`\alpha` to the loss. Here it is the optimizer's: give the
parameters whose name ends in ``clip_alpha`` the weight decay that the weights have. Weights are
quantized by :class:`snt_core.methods.compress.quantize.FakeQuantize`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snt_core.methods.compress.activations import attach, fake_quantize
from snt_core.methods.compress.quantize import checked_bits, round_weights, roundable
from snt_core.methods.compress.ranges import Range, extremes, histograms, least_error
from snt_core.methods.models.compressible import full_names
from snt_core.methods.models.wrapping import unwrapped
from snt_core.methods.tasks.objective import Preprocess
from snt_core.methods.tasks.task import Task

Form = Literal["symmetric", "affine"]


def prepare_qat(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    weight_bits: int,
    act_bits: int,
    edge_bits: int = 8,
    form: Form = "symmetric",
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
) -> nn.Module:
    """Return a copy of the model that quantizes weights and activations and is to be trained.

    Both are quantized in each forward pass. ``clip_alpha`` starts where it quantizes the inputs of
    the float model with the least squared error: of 1.00, 0.99, ..., 0.01 times their largest
    magnitude. Adam moves it by no more than about the learning rate a step, so that from a far
    outlier it would not come down in an epoch. Layers that the images do not reach keep float
    inputs.

    Args:
        model: any model, trained in floats; it is left as it was.
        data: for calibration: inputs N C H W, a pair `(inputs, targets)`, a list of batches or a
            DataLoader. Targets do not count.
        task: how the model is called on a batch (its ``forward``).
        weight_bits: 2 to 8.
        act_bits: 2 to 8.
        edge_bits: 2 to 8, for both in the two layers that images reach first and last.
        form: of inputs with negative values, see above.
        batch_size: images in a chunk of the calibration; changes memory and speed only.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: bits are outside 2..8, no image, an activation or a weight is not finite, the
            model has no convolution or linear layer, quantizes activations or weights already, or
            has weights in no float format.
    """
    bits = {"weight_bits": weight_bits, "act_bits": act_bits, "edge_bits": edge_bits}
    for name, value in bits.items():
        checked_bits(name, value)
    model = unwrapped(model)
    for name, module in model.named_modules():
        if hasattr(module, "act_quantizer"):
            raise ValueError(f"layer '{name}' quantizes its input already: give the float model")
    student = roundable(model)
    chunks: dict[str, Any] = {"task": task, "batch_size": batch_size, "preprocess": preprocess}
    ranges = extremes(student, data, **chunks)
    counts = histograms(student, data, ranges, **chunks)
    edges = {next(iter(ranges)), next(reversed(ranges))}  # ranges are in the order of the pass
    for name in ranges:
        clip = partial(PACT, edge_bits if name in edges else act_bits, ranges[name], form=form)
        attach(student.get_submodule(name), least_error(counts[name], ranges[name], clip))
    # of every weight, those in attention and recurrent layers too
    wanted = {
        site: edge_bits if name.rpartition(".")[0] in edges else weight_bits
        for site, name in full_names(student).items()
    }
    round_weights(student, list(wanted), list(wanted.values()))
    return student


class PACT(nn.Module):
    """Clipping at a learned level, and rounding to the steps below it.

    ``clip_alpha`` starts at ``shrink`` times the upper end of ``ends``, the range of the inputs, in
    the symmetric form at that of the larger magnitude, and at 1 where all are 0. The form counts
    if the lower end is negative.
    """

    def __init__(
        self, act_bits: int, ends: Range, shrink: float = 1.0, form: Form = "symmetric"
    ) -> None:
        super().__init__()
        low, high = ends
        self.act_bits, self.signed = act_bits, low < 0
        if form == "affine" and self.signed:
            steps = 2**act_bits - 1
            # at least one step above 0, which alpha measures
            self.below = min(round(steps * -low / (high - low)), steps - 1)
            self.above = steps - self.below
            level = max(high, -low * self.above / max(self.below, 1))
        else:
            self.above = 2 ** (act_bits - self.signed) - 1  # one bit is the sign
            self.below = self.above if self.signed else 0
            level = max(-low, high)
        self.clip_alpha = nn.Parameter(torch.tensor(shrink * level or 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return fake_quantize(x, self.step(), self.below, self.below + self.above)

    def step(self) -> Tensor:
        """Return the distance of two levels, a scalar that follows ``clip_alpha``."""
        # in half precision the steps would drift from multiples of one another
        alpha = self.clip_alpha.to(torch.promote_types(self.clip_alpha.dtype, torch.float32))
        return _positive(alpha) / self.above


def _positive(alpha: Tensor) -> Tensor:
    """Return alpha, or a small number above 0 if that is larger; the gradient passes as it is.

    So training can lead an alpha that fell below 0 back up.
    """
    floor = alpha.detach().clamp(min=torch.finfo(alpha.dtype).eps)
    return floor + (alpha - alpha.detach())
