r"""Static quantization of weights and activations, after training and with fine-tuning.

What each convolution and linear layer reads is rounded to :math:`2^b` levels of a range that is
fixed once, from calibration images (Krishnamoorthi, 2018, arXiv:1806.08342). On any model::

    from snt_core.methods.compress.activations import fake_quantize_static, quantize_static
    from snt_core.methods.compress.quantize import freeze

    small = quantize_static(my_model, images, weight_bits=8, act_bits=8)  # my_model stays as it was
    tuned = fake_quantize_static(my_model, images, weight_bits=4, act_bits=4, observer="mse")
    train(tuned)  # any training loop; weights follow straight-through gradients, ranges stay
    small = freeze(tuned)  # plain weights, still quantized activations

With ``preprocess``, uint8 images stay uint8 and are normalised chunk by chunk::

    import torch
    from snt_core.methods.compress.activations import quantize_static

    pixels = torch.randint(256, (64, 3, 16, 16), dtype=torch.uint8)
    options = {"weight_bits": 8, "act_bits": 8, "preprocess": lambda x: x.float().div(255)}
    small = quantize_static(my_model, pixels, **options)

An activation x becomes scale * (code - zero_point), per tensor and affine,

.. math:: scale = \frac{high - low}{2^b - 1}, \quad zero\_point = round(-low / scale), \quad
          code = round(x / scale) + zero\_point \in [0, 2^b - 1],

halves rounded to even; the range always contains 0, which is exact (padding needs it). Observers
choose it from the inputs that the float model's layers see in eval mode:

- ``"minmax"``: the smallest and the largest value;
- ``"percentile"``: the quantiles 1 - p and p of all values, where p is ``percentile`` percent;
- ``"mse"``: of the min-max range shrunk to 1.00, 0.99, ..., 0.01 of itself, the one with the least
  squared error of the quantized values (ties: the widest).

The last two count the values in 65,536 equal bins between smallest and largest, so that memory does
not grow with the images; a quantile errs by at most one bin.

The quantizer is a child module ``act_quantizer`` of the layer, called by a forward pre-hook, so
that copies, ``state_dict`` and ``to(device)`` carry it. What attention multiplies (q k and attn v)
is no layer's input and stays float, as do layers that the images do not reach and what
``nn.MultiheadAttention`` computes inside. Weights: see :mod:`snt_core.methods.compress.quantize`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from snt_core.fast import kernels
from snt_core.methods.compress.composed import composed
from snt_core.methods.compress.quantize import checked_bits, fake_quantize_weights, freeze
from snt_core.methods.compress.ranges import (
    Range,
    affine,
    check_percentile,
    extremes,
    histograms,
    least_error,
    quantiles,
)
from snt_core.methods.models.wrapping import copied, unwrapped
from snt_core.methods.tasks.objective import Preprocess
from snt_core.methods.tasks.observe import Chunks
from snt_core.methods.tasks.task import Task

Observer = Literal["minmax", "percentile", "mse"]


class Calibration(Chunks, total=False):
    """How :func:`calibrate` finds ranges: keywords that other functions hand on to it."""

    observer: Observer
    percentile: float


def calibrate(
    model: nn.Module,
    data: Any,
    act_bits: int,
    *,
    task: Task | None = None,
    observer: Observer = "minmax",
    percentile: float = 99.99,
    batch_size: int = 128,
    preprocess: Preprocess | None = None,
) -> nn.Module:
    """Return a copy of the model that quantizes its activations; the weights stay as they are.

    Args:
        model: any model; it is left as it was.
        data: inputs N C H W, a pair `(inputs, targets)`, a list of batches or a DataLoader; some
            hundred images are enough. Targets do not count.
        act_bits: 2 to 8.
        task: how the model is called on a batch (its ``forward``).
        observer: see above.
        percentile: of ``observer="percentile"``, above 50 and up to 100.
        batch_size: images in a chunk; changes memory and speed only.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: an argument is out of range, no image, an activation is not finite, the model
            has no convolution or linear layer, or quantizes its activations already.
    """
    checked_bits("act_bits", act_bits)
    if observer not in ("minmax", "percentile", "mse"):
        raise ValueError(f"observer '{observer}' is none of 'minmax', 'percentile', 'mse'")
    check_percentile(percentile)
    model = unwrapped(model)
    chunks: Chunks = {"task": task, "batch_size": batch_size, "preprocess": preprocess}
    ranges = extremes(model, data, **chunks)
    if observer != "minmax":
        counts = histograms(model, data, ranges, **chunks)
    model = copied(model)
    for name, ends in ranges.items():
        if observer == "percentile":
            ends = quantiles(counts[name], ends, percentile / 100)
        quantizer = partial(ActQuantizer, act_bits, ends)
        best = least_error(counts[name], ends, quantizer) if observer == "mse" else quantizer()
        attach(model.get_submodule(name), best)
    return model


def fake_quantize_static(
    model: nn.Module,
    data: Any,
    *,
    weight_bits: int,
    act_bits: int,
    per_channel: bool = False,
    **calibration: Unpack[Calibration],
) -> nn.Module:
    """Return a copy of the model that quantizes weights and activations and can be trained.

    Both are quantized in each forward pass. Ranges of activations are those of the float model and
    stay; weights carry the parametrization of
    :func:`~snt_core.methods.compress.quantize.fake_quantize_weights`, which
    :func:`~snt_core.methods.compress.quantize.freeze` ends.

    Args:
        weight_bits: 2 to 8.
        per_channel: a scale for each output channel of a weight instead of one in all.
        calibration: the other arguments of :func:`calibrate`.

    Raises:
        ValueError: as :func:`calibrate`, or ``weight_bits`` is outside 2..8.
    """
    checked_bits("weight_bits", weight_bits)
    model = calibrate(model, data, act_bits, **calibration)
    return fake_quantize_weights(model, weight_bits, per_channel=per_channel)


def quantize_static(
    model: nn.Module,
    data: Any,
    *,
    weight_bits: int,
    act_bits: int,
    per_channel: bool = False,
    **calibration: Unpack[Calibration],
) -> nn.Module:
    """Return a copy of the model with weights and activations quantized, without any training.

    Arguments and errors are those of :func:`fake_quantize_static`.
    """
    bits = {"weight_bits": weight_bits, "act_bits": act_bits}
    return freeze(fake_quantize_static(model, data, **bits, per_channel=per_channel, **calibration))


class ActQuantizer(nn.Module):
    """Rounding to ``2**act_bits`` levels of a fixed range; outside it the gradient is 0.

    The range is ``shrink`` times ``ends``. Buffers: ``scale`` (float) and ``zero_point`` (int32),
    scalars.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, act_bits: int, ends: Range, shrink: float = 1.0) -> None:
        super().__init__()
        self.act_bits = act_bits
        scale, zero_point = affine((shrink * ends[0], shrink * ends[1]), act_bits)
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        return fake_quantize(x, self.scale, self.zero_point, 2**self.act_bits - 1)

    def _apply(self, fn: Any, recurse: bool = True) -> ActQuantizer:
        """Follow ``model.half()`` and its like in everything but the scale's precision."""
        exact = self.scale
        super()._apply(fn, recurse)
        if self.scale.dtype != exact.dtype:  # half precision would move the levels
            self.scale = exact.to(self.scale.device)
        return self


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor | int, top: int) -> Tensor:
    r"""Return ``scale * (code - zero_point)`` of the nearest code in 0..top.

    The gradient passes x straight through between the levels of code 0 and code top, ends
    included, and is 0 outside. A ``scale`` that requires one gets that of the ends alone, as if
    rounding were the identity: those levels' codes, minus zero_point, times the gradients beyond.

    torch's operator of this name does the same, save that it has no gradient for the scale, turns
    NaN into a level (so that divergence goes unseen), and is slower on a CPU.

    Args:
        x: any shape; computed in float32 at least, whatever autocast says, returned in x's dtype.
        scale: a scalar, above 0.
        zero_point: a whole number in 0..top.
    """
    if kernels.served(x, scale) and scale.dtype == torch.float32 and kernels.available():
        return _OnePass.apply(x, scale, int(zero_point), top)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    rounded = _FakeQuantize.apply if kernels.untraced(x, scale) else composed
    return rounded(wide, scale.to(wide.dtype), zero_point, top).to(x.dtype)


class _FakeQuantize(torch.autograd.Function):
    """:func:`fake_quantize` for any device; one function takes half the passes of a composition."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor | int, top: int) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.lowest, ctx.highest = -zero_point, top - zero_point
        # times the reciprocal, as torch's kernels do: division differs from them near ties
        codes = (x * (1 / scale)).round_().add_(zero_point).clamp_(0, top)
        return codes.sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, scale = ctx.saved_tensors
        inside, ends = _straight_through(grad, x, scale, ctx.lowest, ctx.highest)
        return inside, ends if ctx.needs_input_grad[1] else None, None, None


def _straight_through(
    grad: Tensor, x: Tensor, scale: Tensor, lowest: Tensor | int, highest: Tensor | int
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of the scale, which have gradients themselves."""
    below, above = x < lowest * scale, x > highest * scale
    ends = (grad * below).sum() * lowest + (grad * above).sum() * highest
    return grad * ~(below | above), ends


class _OnePass(torch.autograd.Function):
    """:func:`fake_quantize` by a kernel, in one pass each way; the memory format of x stays."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: int, top: int) -> Tensor:
        y = torch.empty_like(x)  # dense, while x may be a view with gaps: the kernel knows none
        if x.stride() != y.stride():
            x = torch.empty_like(y).copy_(x)
        ctx.save_for_backward(x, scale)
        ctx.levels = (zero_point, top)
        kernels.call("fake_quantize", x.dtype, x, y, x.numel(), scale, zero_point, top)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, scale = ctx.saved_tensors
        zero_point, top = ctx.levels
        # a second derivative is asked for, or one of many gradients at once
        if torch.is_grad_enabled() or not kernels.served(grad):
            inside, ends = _straight_through(
                grad.float(), x.float(), scale, -zero_point, top - zero_point
            )
            return inside.to(x.dtype), ends if ctx.needs_input_grad[1] else None, None, None
        if grad.stride() != x.stride():
            grad = torch.empty_like(x).copy_(grad)
        d_x, d_scale = torch.empty_like(x), torch.empty_like(scale)
        kernels.call(
            "fake_quantize_backward", x.dtype, grad, x, d_x, x.numel(), scale, *ctx.levels, d_scale
        )
        return d_x, d_scale if ctx.needs_input_grad[1] else None, None, None


def attach(layer: nn.Module, quantizer: nn.Module) -> None:
    """Make a layer quantize its input, in place.

    Raises:
        ValueError: it does so already.
    """
    if hasattr(layer, "act_quantizer"):
        raise ValueError(f"a {type(layer).__name__} of the model quantizes its input already")
    layer.act_quantizer = quantizer.to(next(layer.parameters()).device)
    layer.register_forward_pre_hook(quantize_input, with_kwargs=True)


def quantize_input(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Quantize a layer's input: the pre-hook, of module level so that copies of a model keep it."""
    if args:
        return (layer.act_quantizer(args[0]), *args[1:]), kwargs
    first = next(iter(kwargs))  # of a call layer(input=x)
    return args, {**kwargs, first: layer.act_quantizer(kwargs[first])}
