"""Where to clip activations: what the inputs of a model's layers span, and which range is best.

::

    from snt_core.methods.compress.ranges import extremes, histograms, quantiles

    ranges = extremes(my_model, images)  # {"conv1": (-2.4, 2.7), ...}
    counts = histograms(my_model, images, ranges)
    quantiles(counts["conv1"], ranges["conv1"], 0.9999)  # (-2.1, 2.6)

Values are counted in ``BINS`` equal bins, so that memory does not grow with the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from snt_core.common.arguments import require_number
from snt_core.methods.models.compressible import LAYERS
from snt_core.methods.models.wrapping import unwrapped
from snt_core.methods.tasks.observe import Chunks, Range, agree, observe

BINS = 2**16  # 256 for each step of 8 bits, so that errors of close ranges differ
SHRINK = [percent / 100 for percent in range(100, 0, -1)]


def affine(ends: Range, act_bits: int) -> tuple[float, int]:
    """Return scale and zero point of a range, widened to contain 0. All-zero has scale 1."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    scale = (high - low) / (2**act_bits - 1)
    # below the smallest normal number the reciprocal would overflow
    scale = scale if scale >= torch.finfo(torch.float32).tiny else 1.0
    return scale, round(-low / scale)


def extremes(model: nn.Module, data: Any, **chunks: Unpack[Chunks]) -> dict[str, Range]:
    """Return the smallest and largest input of each convolution and linear layer.

    The range is widened to contain 0.

    Args:
        data: inputs N ..., a pair `(inputs, targets)`, a list of batches or a DataLoader.
        chunks: ``task``, ``batch_size`` and ``preprocess`` of
            :func:`~snt_core.methods.tasks.observe.observe`.

    Returns:
        The range by the layer's name, in the order in which images first reach the layers.

    Raises:
        ValueError: no image, an input is not finite, or images reach no such layer.
    """
    found: dict[str, Range] = {}
    model = unwrapped(model)

    def see(name: str, x: Tensor) -> None:
        found[name] = widened(found.get(name), x)

    names = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    observe(model, names, data, see, **chunks)
    if not found:
        raise ValueError("the images reach no convolution or linear layer of the model")
    return found


def histograms(
    model: nn.Module, data: Any, ranges: dict[str, Range], **chunks: Unpack[Chunks]
) -> dict[str, Tensor]:
    """Return how many inputs of each layer fall in each of ``BINS`` equal bins of its range.

    Counts are float64, of the shape ``BINS``, under the layers' names.

    Raises:
        ValueError: the inputs span other ranges than ``ranges``, those of a pass before: the data
            changes from pass to pass.
    """
    counts: dict[str, Tensor] = {}
    spanned: dict[str, Range] = {}

    def see(name: str, x: Tensor) -> None:
        low, high = ranges[name]
        spanned[name] = ends = widened(spanned.get(name), x)
        outside = ends[0] < low or ends[1] > high  # by rounding, or the data has changed
        # in pieces, since histc counts in float32 and stands still at 2**24
        for piece in x.float().flatten().split(2**22):
            # histc leaves out what lies outside
            found = torch.histc(piece.clamp(low, high) if outside else piece, BINS, low, high)
            counts[name] = counts[name] + found.double() if name in counts else found.double()

    observe(model, ranges, data, see, **chunks)
    agree(ranges, spanned)
    return counts


def widened(ends: Range | None, x: Tensor) -> Range:
    """Return a range (at first only 0) widened to contain the values."""
    low, high = ends or (0.0, 0.0)
    if x.numel() == 0:
        return low, high
    return min(low, x.min().item()), max(high, x.max().item())


def check_percentile(percentile: float) -> None:
    """Raise ValueError unless a percentile is above 50 and up to 100."""
    require_number(percentile=percentile)
    if not 50 < percentile <= 100:
        raise ValueError(f"percentile {percentile} is outside (50, 100]")


def quantiles(counts: Tensor, ends: Range, share: float) -> Range:
    """Return the quantiles ``1 - share`` and ``share`` of a histogram.

    They lie at the outer edges of their bins.

    Args:
        counts: of equal bins between ``ends``.
        share: above 0.5 and up to 1.
    """
    low, high = ends
    width = (high - low) / len(counts)
    cumulated = counts.cumsum(0)
    shares = torch.tensor([1 - share, share], dtype=counts.dtype, device=counts.device)
    first, last = torch.searchsorted(cumulated, shares * cumulated[-1]).tolist()
    return low + width * first, low + width * (last + 1)


@torch.no_grad()
def least_error(counts: Tensor, ends: Range, quantizer: Callable[[float], nn.Module]) -> nn.Module:
    """Return the quantizer with the least squared error on a histogram (ties: the widest range).

    Args:
        counts: of equal bins between ``ends``; the values in a bin count as its middle.
        quantizer: makes one for each factor of ``SHRINK``, by which it shrinks the range.
    """
    low, high = ends
    # most bins are empty where an outlier stretches the range
    used = counts.nonzero().squeeze(1)
    values = (low + (high - low) / len(counts) * (used + 0.5)).float()

    def error(candidate: nn.Module) -> float:
        missed = candidate.to(values.device)(values) - values
        return (missed.square() * counts[used]).sum().item()

    # min keeps the first of equal errors, and SHRINK begins with the widest range
    return min((quantizer(factor) for factor in SHRINK), key=error)
