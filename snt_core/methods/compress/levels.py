"""The levels that weights are rounded to: codes, scales, and the parametrization for training.

The scheme is that of :mod:`snt_core.methods.compress.quantize`::

    from snt_core.methods.compress.levels import codes
    from snt_core.methods.models.compressible import outputs_of

    layer = my_model.conv1
    integers, scale = codes(layer.weight, 4, per_channel=True, outputs=outputs_of(layer))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snt_core.methods.models.compressible import FIRST_AXIS, Outputs, why_not

SHRINK = torch.arange(100, 0, -1) / 100  # of the maximum, from which "mse" chooses


def codes(
    weight: Tensor, weight_bits: int, per_channel: bool = False, outputs: Outputs = FIRST_AXIS
) -> tuple[Tensor, Tensor]:
    """Return the integer codes of a weight, and the scale that turns them back into numbers.

    Args:
        weight: any shape.
        weight_bits: 2 to 8, sign included.
        per_channel: a scale for each output instead of one in all.
        outputs: where the outputs lie; axis 0, or what ``outputs_of(layer)`` says.

    Returns:
        Codes (int8, the weight's shape), and the scale (a scalar, or one for each output in a shape
        that broadcasts, like C 1 1 1; float32 for half precision): ``codes * scale`` is the
        quantized weight. All-zero weights have scale 1.

    Raises:
        ValueError: ``weight_bits`` is outside 2..8, or the weight is not finite, not in a float
            format or on the meta device.
    """
    if reason := why_not(weight):
        raise ValueError(f"the weight {reason}")
    if not weight.isfinite().all():
        raise ValueError("the weight has entries that are not finite")
    bits = checked_bits("weight_bits", weight_bits)
    rounded, scale = _round(_wide(weight.detach()), bits, per_channel, outputs=outputs)
    return rounded.to(torch.int8), scale


class FakeQuantize(nn.Module):
    """A parametrization that rounds a weight to its levels, with the identity's gradient.

    ``factor``, a scalar or one for each output, shrinks the range; None is 1. ``outputs`` says
    where those lie in the weight.
    """

    def __init__(
        self,
        weight_bits: int,
        per_channel: bool,
        factor: Tensor | None = None,
        outputs: Outputs = FIRST_AXIS,
    ) -> None:
        super().__init__()
        self.weight_bits, self.per_channel, self.outputs = weight_bits, per_channel, outputs
        self.factor: Tensor | None
        self.register_buffer("factor", factor)

    def levels(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight's codes as floats, and the scale that turns them back into numbers."""
        wide = _wide(weight.detach())
        return _round(wide, self.weight_bits, self.per_channel, self.factor, self.outputs)

    def forward(self, weight: Tensor) -> Tensor:
        rounded, scale = self.levels(weight)
        # the difference is exactly 0, so the levels stay exact (w + (q - w) would miss them)
        return (rounded * scale).to(weight.dtype) + (weight - weight.detach())


def _wide(weight: Tensor) -> Tensor:
    """Return a weight in float32 at least: a scale in half precision loses small weights."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


def least_error_factor(
    weight: Tensor, weight_bits: int, per_channel: bool, outputs: Outputs = FIRST_AXIS
) -> Tensor:
    """Return the factor of ``SHRINK`` of the least squared error, one for each output or in all.

    Ties: the largest.
    """
    weight = _wide(weight.detach())
    errors = []
    for factor in SHRINK.to(weight):
        rounded, scale = _round(weight, weight_bits, per_channel, factor, outputs)
        missed = (rounded * scale - weight).square()
        errors.append(_rows(missed, per_channel, outputs).sum(1))
    # argmin may take any of equal errors; the first of them is the first that is not larger
    missed = torch.stack(errors)
    best = (missed <= missed.amin(0)).int().argmax(0)
    factor = SHRINK.to(weight)[best]
    return factor if per_channel else factor.squeeze()


def _round(
    weight: Tensor,
    weight_bits: int,
    per_channel: bool,
    factor: Tensor | None = None,
    outputs: Outputs = FIRST_AXIS,
) -> tuple[Tensor, Tensor]:
    """Return the codes as floats, and the scale in a shape that broadcasts with them."""
    top = 2 ** (weight_bits - 1) - 1
    rows = _rows(weight.abs(), per_channel, outputs)
    # a row without entries has no maximum
    scale = (rows.amax(1) if rows.shape[1] else rows.new_zeros(len(rows))) / top
    if factor is not None:
        scale = scale * factor
    scale = outputs.spread(scale, weight) if per_channel else scale.squeeze()
    # zeros have no scale; below the smallest normal number the reciprocal would overflow
    scale = torch.where(scale < torch.finfo(weight.dtype).tiny, torch.ones_like(scale), scale)
    # times the reciprocal, as torch's kernels do: division differs from them near ties
    return (weight * (1 / scale)).round().clamp(-top, top), scale


def _rows(weight: Tensor, per_channel: bool, outputs: Outputs) -> Tensor:
    return outputs.rows(weight) if per_channel else weight.reshape(1, weight.numel())


def checked_bits(name: str, bits: int) -> int:
    """Return the bits as they are.

    Raises:
        ValueError: they are outside 2..8; the message names the argument.
    """
    if bits not in range(2, 9):
        raise ValueError(f"{name} {bits} is outside 2..8")
    return bits
