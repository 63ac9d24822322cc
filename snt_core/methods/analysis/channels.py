"""Activation outliers: how far each channel of a layer reaches (the paper's Fig. 2, sec. 3.2).

::

    from snt_core.methods.analysis.channels import channel_ranges, widest_to_median

    blocks = [f"blocks.{i}" for i in range(len(my_vit.blocks))]  # of a timm ViT
    found = channel_ranges(my_vit, blocks, images)  # images B C H W normalised
    print({name: widest_to_median(ranges) for name, ranges in found.items()})
    # what a quantizer sees: the normalised tokens that each linear layer reads
    channel_ranges(my_vit, ["blocks.0.attn.qkv", "blocks.0.mlp.fc1"], images, capture="input")

**Which tensor.** The paper does not say whose channels its figure shows. A block's output, which is
the residual stream, is the default for three reasons: it has the width C at every depth, its
channel i means the same in every block (the paper speaks of "the first channel"), and no
normalisation has rescaled it. The inputs of the linear layers, which quantization rounds, are the
alternative; ``layers`` and ``capture`` choose.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.methods.models.wrapping import unwrapped
from snt_core.methods.tasks.objective import Preprocess
from snt_core.methods.tasks.observe import Capture, Chunks, observe
from snt_core.methods.tasks.task import Task

# layers whose channels are axis 1, and the last one
FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
)
LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)


@dataclass(frozen=True, kw_only=True)
class ChannelRanges:
    """Range and kurtosis of each channel of a layer, over all images and positions.

    Attributes:
        low: smallest value.
        high: largest value.
        kurtosis: fourth central moment over the squared variance (3 for a Gaussian, high where few
            values lie far out); nan for a channel that is constant.
    """

    low: list[float]
    high: list[float]
    kurtosis: list[float]


def channel_ranges(
    model: nn.Module,
    layers: Iterable[str],
    data: Any,
    *,
    task: Task | None = None,
    axis: int | None = None,
    capture: Capture = "output",
    preprocess: Preprocess | None = None,
    batch_size: int = 128,
) -> dict[str, ChannelRanges]:
    """Return the range and kurtosis of every channel of some layers, in eval mode.

    The moments are float64 and merged chunk by chunk, so memory does not grow with the images: it
    is that of a few copies of one layer's tensor.

    Args:
        model: left as it was.
        layers: names as in ``model.named_modules()``.
        data: inputs N C H W, a pair `(inputs, targets)`, a list of batches or a DataLoader.
        task: how the model is called on a batch (its ``forward``).
        axis: where channels lie, if that is known better than here: the last axis for linear
            layers and layer norms, axis 1 for convolutions, batch, group and instance norms. For
            other modules it is the last of three axes (tokens B N C), and axis 1 of any other
            number (B C, B C H W), save where a linear layer or layer norm within the module has the
            length of the last axis and no convolution that of axis 1 (B H W C, as in Swin). So of
            the token mixing in an MLP-Mixer, which reads B C N, the "channels" are the tokens.
        capture: the ``"output"`` of the layers or their ``"input"``.
        batch_size: images in a chunk; changes memory and speed only.

    Raises:
        ValueError: a layer is unknown, takes no part, or passes something else than finite tensors.
    """
    layers, model = list(layers), unwrapped(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    seen: dict[str, _Moments] = {}

    def see(name: str, x: Tensor) -> None:
        if x.numel():
            part = _moments(_by_channel(name, modules[name], x, axis))
            seen[name] = _merged(seen[name], part) if name in seen else part

    chunks: Chunks = {"task": task, "preprocess": preprocess, "batch_size": batch_size}
    observe(model, layers, data, see, capture=capture, **chunks)
    for name in layers:
        if name not in seen:
            raise ValueError(f"layer '{name}' took no part in the forward pass")
    return {name: _ranges(seen[name]) for name in layers}


def widest_to_median(ranges: ChannelRanges) -> float:
    """Return the widest channel's range over the median channel's: 1 where all are alike.

    The median of an even number is the mean of its middle two. Infinite if that is 0, as when more
    than half of the channels are constant.
    """
    widths = [high - low for low, high in zip(ranges.low, ranges.high, strict=True)]
    middle = median(widths)
    return max(widths) / middle if middle else math.inf


@dataclass(frozen=True)
class _Moments:
    """Moments of n values a channel; m2 to m4 are sums of powers about the mean."""

    n: int
    mean: Tensor
    m2: Tensor
    m3: Tensor
    m4: Tensor
    low: Tensor
    high: Tensor


def _by_channel(name: str, layer: nn.Module, x: Tensor, axis: int | None) -> Tensor:
    """Return a layer's tensor as values x channels, float64."""
    if x.ndim < 2:
        raise ValueError(f"layer '{name}' passes the shape {tuple(x.shape)}, without channels")
    if x.is_complex():
        raise ValueError(f"layer '{name}' passes complex numbers, which have no range")
    axis = _channel_axis(layer, x) if axis is None else axis
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} is not one of layer '{name}', shape {tuple(x.shape)}")
    return x.double().movedim(axis, -1).flatten(0, -2)


def _channel_axis(layer: nn.Module, x: Tensor) -> int:
    if isinstance(layer, FIRST):
        return 1
    if isinstance(layer, LAST) or x.ndim == 3:
        return -1
    last = {w for m in layer.modules() if (w := _width(m, LAST)) is not None}
    first = {w for m in layer.modules() if (w := _width(m, FIRST)) is not None}
    return -1 if x.shape[-1] in last and x.shape[1] not in first else 1


def _width(layer: nn.Module, kinds: tuple[type, ...]) -> int | None:
    """Return the channels of a layer of some kinds: its weight's length along its outputs."""
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[-1] if nn.LayerNorm in kinds else None
    weight = getattr(layer, "weight", None) if isinstance(layer, kinds) else None
    return weight.shape[0] if isinstance(weight, Tensor) and weight.ndim else None


def _moments(x: Tensor) -> _Moments:
    mean = x.mean(0)
    d = x - mean
    square = d.square()
    return _Moments(
        n=len(x),
        mean=mean,
        m2=square.sum(0),
        m3=(square * d).sum(0),
        m4=square.square().sum(0),
        low=x.amin(0),
        high=x.amax(0),
    )


def _merged(a: _Moments, b: _Moments) -> _Moments:
    """Return the moments of two sets of values together (Pebay, 2008, SAND2008-6212, eq. 3.1)."""
    n, d = a.n + b.n, b.mean - a.mean
    p, q = a.n / n, b.n / n
    return _Moments(
        n=n,
        mean=a.mean + q * d,
        m2=a.m2 + b.m2 + n * p * q * d**2,
        m3=a.m3 + b.m3 + n * p * q * (p - q) * d**3 + 3 * d * (p * b.m2 - q * a.m2),
        m4=a.m4
        + b.m4
        + n * p * q * (p * p - p * q + q * q) * d**4
        + 6 * d**2 * (p * p * b.m2 + q * q * a.m2)
        + 4 * d * (p * b.m3 - q * a.m3),
        low=torch.minimum(a.low, b.low),
        high=torch.maximum(a.high, b.high),
    )


def _ranges(found: _Moments) -> ChannelRanges:
    # rounding leaves a constant channel a variance: ask its range
    varies = found.high > found.low
    kurtosis = torch.where(varies, found.n * found.m4 / found.m2.square(), math.nan)
    return ChannelRanges(
        low=found.low.tolist(), high=found.high.tolist(), kurtosis=kurtosis.tolist()
    )
