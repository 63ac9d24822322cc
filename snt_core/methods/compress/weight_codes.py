"""Bits and scale of a quantized weight, kept beside it once it is a plain number again.

:func:`snt_core.methods.compress.quantize.freeze` leaves them as ``layer.weight_codes``::

    from snt_core.methods.compress.quantize import quantize_weights

    layer = quantize_weights(my_model, 4).conv1
    layer.weight_codes["weight"].codes(layer.weight)  # int8, or None if the weight changed since
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WeightCodes:
    """The levels of a quantized weight: ``scale`` times -(2**(bits-1) - 1) to 2**(bits-1) - 1.

    Attributes:
        bits: 2 to 8, sign included.
        scale: on the CPU; a scalar, or of a shape that broadcasts with the weight's.
    """

    bits: int
    scale: Tensor

    @property
    def top(self) -> int:
        """The largest code."""
        return 2 ** (self.bits - 1) - 1

    def codes(self, weight: Tensor) -> Tensor | None:
        """Return the integer codes, int8; None unless all entries are levels to the last bit.

        A zero may have either sign.
        """
        weight = weight.detach().cpu()
        fits = weight.is_floating_point() and _broadcasts(self.scale.shape, weight.shape)
        if not fits or not weight.isfinite().all():
            return None
        rounded = (weight.to(self.scale.dtype) / self.scale).round()
        if rounded.numel() and rounded.abs().max() > self.top:
            return None
        codes = rounded.to(torch.int8)
        return codes if torch.equal(self.weight(codes, weight.dtype), weight) else None

    def weight(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the weight that the codes stand for."""
        return (codes.to(self.scale.dtype) * self.scale).to(dtype)


def keep_codes(module: nn.Module, name: str, bits: int, scale: Tensor) -> None:
    """Leave bits and scale of the weight ``name`` in ``module.weight_codes``, by its name."""
    others = getattr(module, "weight_codes", {})
    kept: Any = {**others, name: WeightCodes(bits, scale.detach().cpu().clone())}
    module.weight_codes = kept


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) == 0 or (
        len(shape) == len(to) and all(a in (1, b) for a, b in zip(shape, to, strict=True))
    )
