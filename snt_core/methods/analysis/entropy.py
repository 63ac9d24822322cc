r"""How evenly a quantizer's levels are used (the paper's Fig. 3, secs. 4.2 and 5.3).

::

    import torch
    from snt_core.methods.analysis.entropy import activation_entropy, code_entropy, weight_entropy

    found = weight_entropy(my_model, weight_bits=4)
    print(found.mean, found.layers["conv1"], found.counts["conv1"])  # bits, bits, histogram
    print(activation_entropy(my_model, images, act_bits=4).mean)
    print(code_entropy(torch.tensor([0, 0, 1, 3]), 2))  # 1.5

The entropy of the codes, :math:`-\sum_k p_k \log_2 p_k` with :math:`p_k` the share of level k, runs
from 0 bits (one level takes all) to b bits (the :math:`2^b` levels are used alike). The paper says
both that a more uniform distribution *minimizes* "the entropy score" (4.2) and that information
entropy is *maximized* (5.3); for Shannon's entropy, which this is, only the second can hold.

The scheme of the activations is the usual affine one (Krishnamoorthi, 2018, arXiv:1806.08342), per
tensor, over the range of all values seen, widened to contain 0:

.. math:: scale = \frac{high - low}{2^b - 1}, \quad zero = round(-low / scale), \quad
          code = round(x / scale) + zero \in [0, 2^b - 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.methods.compress import quantize
from snt_core.methods.compress.ranges import affine, widened
from snt_core.methods.models.compressible import Layer, layers, outputs_of
from snt_core.methods.models.wrapping import unwrapped
from snt_core.methods.tasks.objective import Preprocess
from snt_core.methods.tasks.observe import Range, agree, observe
from snt_core.methods.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class CodeEntropy:
    """Entropy of the codes of each layer, by the layer's name in ``model.named_modules()``.

    Attributes:
        layers: entropy in bits.
        counts: how many codes fell on each of the ``2**bits`` levels, lowest first.
        mean: of all layers, each weighted by its number of codes.
    """

    layers: dict[str, float]
    counts: dict[str, list[int]]
    mean: float


def code_entropy(codes: Tensor, bits: int) -> float:
    """Return the entropy of integer codes of any shape, in bits: 0 to ``bits``.

    Raises:
        ValueError: no codes, not integers, more than ``2**bits`` apart, or ``bits`` outside 2..8.
    """
    levels = _levels(bits)
    if codes.is_floating_point() or codes.numel() == 0:
        raise ValueError(f"codes of {codes.dtype}, {codes.numel()} in all: need integers")
    lowest, highest = int(codes.min()), int(codes.max())
    if highest - lowest >= levels:
        raise ValueError(f"codes from {lowest} to {highest} are not of {bits} bits")
    return _entropy(codes.long().flatten().sub(lowest).bincount(minlength=levels))


def weight_entropy(
    model: nn.Module, weight_bits: int = 4, *, per_channel: bool = False
) -> CodeEntropy:
    """Return the entropy of the weights' codes, layer by layer.

    The codes are those of :func:`snt_core.methods.compress.quantize.codes`. All convolutions and
    linear layers count. The lowest of the ``2**weight_bits`` levels stays empty, since that scheme
    is symmetric.

    Raises:
        ValueError: no such layer, weights not finite, or ``weight_bits`` outside 2..8.
    """
    levels, counts = _levels(weight_bits), {}
    model = unwrapped(model)
    for name, module in _layers(model).items():
        codes, _ = quantize.codes(module.weight, weight_bits, per_channel, outputs_of(module))
        counts[name] = (codes.long().flatten() + levels // 2).bincount(minlength=levels)
    return _summary(counts)


def activation_entropy(
    model: nn.Module,
    data: Any,
    act_bits: int = 4,
    *,
    task: Task | None = None,
    preprocess: Preprocess | None = None,
    batch_size: int = 128,
) -> CodeEntropy:
    """Return the entropy of the codes of what each convolution and linear layer reads.

    The model runs in eval mode. Two passes over the data, one for the ranges and one for the
    histograms, so that memory does not grow with it. Layers that the model does not call are left
    out.

    Args:
        model: left as it was.
        data: inputs N C H W, a pair `(inputs, targets)`, a list of batches or a DataLoader.
        act_bits: 2 to 8.
        task: how the model is called on a batch (its ``forward``).
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.
        batch_size: images in a chunk; changes memory and speed only.

    Raises:
        ValueError: no such layer, values not finite, no image, data that changes from pass to
            pass, or ``act_bits`` outside 2..8.
    """
    model = unwrapped(model)
    levels, names = _levels(act_bits), list(_layers(model))
    ranges: dict[str, Range] = {}
    again: dict[str, Range] = {}
    counts: dict[str, Tensor] = {}

    def widen(name: str, x: Tensor) -> None:
        ranges[name] = widened(ranges.get(name), x)

    def count(name: str, x: Tensor) -> None:
        again[name] = widened(again.get(name), x)
        codes = _affine_codes(x, ranges[name], act_bits)
        counts[name] = counts.get(name, 0) + codes.flatten().bincount(minlength=levels)

    for see in (widen, count):
        observe(model, names, data, see, task=task, preprocess=preprocess, batch_size=batch_size)
    agree(ranges, again)
    return _summary(counts)


def _layers(model: nn.Module) -> dict[str, Layer]:
    found = layers(model)
    if not found:
        raise ValueError("the model has no convolution or linear layer")
    return found


def _levels(bits: int) -> int:
    if bits not in range(2, 9):
        raise ValueError(f"{bits} bits are outside 2..8")
    return 2**bits


def _affine_codes(x: Tensor, ends: Range, bits: int) -> Tensor:
    scale, zero = affine(ends, bits)
    # times the reciprocal, as in `activations`, so that the codes are those of quantization
    return ((x * (1 / scale)).round() + zero).clamp(0, 2**bits - 1).long()


def _entropy(counts: Tensor) -> float:
    shares = counts / counts.sum().double()
    return torch.special.entr(shares).sum().item() / math.log(2)


def _summary(counts: dict[str, Tensor]) -> CodeEntropy:
    if not counts:
        raise ValueError("no convolution or linear layer took part in the forward pass")
    layers = {name: _entropy(c) for name, c in counts.items()}
    sizes = {name: int(c.sum()) for name, c in counts.items()}
    mean = sum(layers[name] * sizes[name] for name in layers) / sum(sizes.values())
    return CodeEntropy(
        layers=layers, counts={name: c.tolist() for name, c in counts.items()}, mean=mean
    )
