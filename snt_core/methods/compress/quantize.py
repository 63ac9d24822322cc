r"""Uniform symmetric weight quantization, after training and during it.

The scheme of the paper's weight quantization: Krishnamoorthi, 2018, arXiv:1806.08342, with the
straight-through gradient of Bengio et al., 2013, arXiv:1308.3432. Works on any model::

    from snt_core.methods.compress.quantize import fake_quantize_weights, freeze, quantize_weights

    small = quantize_weights(my_model, weight_bits=4)  # my_model stays as it was
    tuned = fake_quantize_weights(my_model, weight_bits=4)  # quantized in every forward pass:
    train(tuned)  # any training loop fine-tunes it
    small = freeze(tuned)  # plain model, quantized weights

With b bits a weight w becomes scale * code,

.. math:: scale = \frac{\max |w|}{2^{b-1} - 1}, \qquad
          code = round(w / scale) \in [-(2^{b-1} - 1), 2^{b-1} - 1],

halves rounded to even: :math:`2^b - 1` levels around an exact zero. The maximum is over the tensor,
or with ``per_channel`` over each channel of axis 0 (the outputs). All weights of convolutions and
linear layers are quantized, first and last included (to ``edge_bits``, if given); biases and
normalisation are not, nor is the packed ``in_proj_weight`` of ``nn.MultiheadAttention``. A
quantized weight is kept as the floating-point number that its code stands for.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.methods.compress.weight_codes import keep_codes
from snt_core.methods.compressible import LAYERS

Clipping = Literal["max", "mse"]
SHRINK = torch.arange(100, 0, -1) / 100  # of the maximum, from which "mse" chooses


def codes(weight: Tensor, weight_bits: int, per_channel: bool = False) -> tuple[Tensor, Tensor]:
    """Return the integer codes of a weight, and the scale that turns them back into numbers.

    Args:
        weight: any shape; with ``per_channel`` the channels on axis 0.
        weight_bits: 2 to 8, sign included.
        per_channel: a scale for each channel instead of one in all.

    Returns:
        Codes (int8, the weight's shape), and the scale (a scalar, or the shape C 1 1 ... of the C
        channels): ``codes * scale`` is the quantized weight. All-zero weights have scale 1.

    Raises:
        ValueError: ``weight_bits`` is outside 2..8, or the weight is not finite.
    """
    if not weight.isfinite().all():
        raise ValueError("the weight has entries that are not finite")
    rounded, scale = _round(weight.detach(), checked_bits("weight_bits", weight_bits), per_channel)
    return rounded.to(torch.int8), scale


def fake_quantize_weights(
    model: nn.Module,
    weight_bits: int,
    *,
    per_channel: bool = False,
    clipping: Clipping = "max",
    edge_bits: int | None = None,
) -> nn.Module:
    """Return a copy of the model that quantizes its weights in each forward pass, to be trained.

    Each weight carries a ``torch.nn.utils.parametrize`` parametrization; the float weight behind it
    is what an optimizer sees (``...parametrizations.weight.original``), the scale follows it, and
    the gradient passes straight through. :func:`freeze` ends it.

    Args:
        clipping: "max": the outermost level is the largest magnitude. "mse": that times the one of
            1.00, 0.99, ..., 0.01 that rounds the weight with the least squared error (ties: the
            largest); the factor stays while the weights are trained.
        edge_bits: 2 to 8, for the first and the last layer as the model names them; None for
            ``weight_bits``.

    Raises:
        ValueError: bits are outside 2..8, or ``clipping`` is another word.
    """
    checked_bits("weight_bits", weight_bits)
    edge_bits = weight_bits if edge_bits is None else checked_bits("edge_bits", edge_bits)
    if clipping not in ("max", "mse"):
        raise ValueError(f"clipping is {clipping!r}; it must be 'max' or 'mse'")
    model = copy.deepcopy(model)
    chosen = [module for module in model.modules() if isinstance(module, LAYERS)]
    for module in chosen:
        bits = edge_bits if module in (chosen[0], chosen[-1]) else weight_bits
        factor = _least_error(module.weight, bits, per_channel) if clipping == "mse" else None
        quantizer = FakeQuantize(bits, per_channel, factor)
        parametrize.register_parametrization(module, "weight", quantizer)
    return model


def freeze(model: nn.Module) -> nn.Module:
    """Return a plain copy of a fake-quantized model: same outputs, ordinary quantized weights.

    Each layer keeps their bits and scales in its attribute ``weight_codes``, by the weight's name:
    :class:`~snt_core.methods.compress.weight_codes.WeightCodes`.
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if _is_fake_quantized(module):
            for quantizer, scale in _scales(module):
                keep_codes(module, "weight", quantizer.weight_bits, scale)
            # a copy shares its class with the original, and torch deletes `weight` from the class
            shared = type(module)
            module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
            parametrize.remove_parametrizations(module, "weight")
            # torch puts the weight last: restore the order that the model had
            for name in [name for name in module._parameters if name != "weight"]:
                module._parameters[name] = module._parameters.pop(name)
    return model


def quantize_weights(model: nn.Module, weight_bits: int, **options: Any) -> nn.Module:
    """Return a copy of the model with its weights rounded to the nearest level, not trained.

    Options and errors are those of :func:`fake_quantize_weights`.
    """
    return freeze(fake_quantize_weights(model, weight_bits, **options))


class FakeQuantize(nn.Module):
    """A parametrization that rounds a weight to its levels, with the identity's gradient.

    ``factor``, a scalar or one for each channel of axis 0, shrinks the range; None is 1.
    """

    def __init__(self, weight_bits: int, per_channel: bool, factor: Tensor | None = None) -> None:
        super().__init__()
        self.weight_bits, self.per_channel = weight_bits, per_channel
        self.factor: Tensor | None
        self.register_buffer("factor", factor)

    def levels(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight's codes as floats, and the scale that turns them back into numbers."""
        return _round(weight.detach(), self.weight_bits, self.per_channel, self.factor)

    def forward(self, weight: Tensor) -> Tensor:
        rounded, scale = self.levels(weight)
        # the difference is exactly 0, so the levels stay exact (w + (q - w) would miss them)
        return rounded * scale + (weight - weight.detach())


def _least_error(weight: Tensor, weight_bits: int, per_channel: bool) -> Tensor:
    """Return the factor of ``SHRINK`` of the least squared error, one for each channel or in all.

    Ties: the largest.
    """
    weight = weight.detach()
    channels = len(weight) if per_channel else 1
    errors = []
    for factor in SHRINK.to(weight):
        rounded, scale = _round(weight, weight_bits, per_channel, factor)
        errors.append((rounded * scale - weight).square().reshape(channels, -1).sum(1))
    # argmin may take any of equal errors; the first of them is the first that is not larger
    missed = torch.stack(errors)
    best = (missed <= missed.amin(0)).int().argmax(0)
    factor = SHRINK.to(weight)[best]
    return factor if per_channel else factor.squeeze()


def _round(
    weight: Tensor, weight_bits: int, per_channel: bool, factor: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the codes as floats, and the scale in a shape that broadcasts with them."""
    top = 2 ** (weight_bits - 1) - 1
    channels = len(weight) if per_channel else 1
    scale = weight.abs().reshape(channels, -1).amax(1) / top
    if factor is not None:
        scale = scale * factor
    scale = scale.view(-1, *[1] * (weight.dim() - 1)) if per_channel else scale.squeeze()
    # zeros have no scale; below the smallest normal number the reciprocal would overflow
    scale = torch.where(scale < torch.finfo(weight.dtype).tiny, torch.ones_like(scale), scale)
    # times the reciprocal, as torch's kernels do: division differs from them near ties
    return (weight * (1 / scale)).round().clamp(-top, top), scale


def _scales(module: nn.Module) -> list[tuple[FakeQuantize, Tensor]]:
    """Return what rounds the module's weight, with the scale that it has now."""
    found = []

    def see(quantizer: Any, args: tuple[Tensor, ...]) -> None:
        found.append((quantizer, quantizer.levels(args[0])[1]))

    parametrizations: Any = module.parametrizations
    chain = [p for p in parametrizations.weight if isinstance(p, FakeQuantize)]
    handles = [p.register_forward_pre_hook(see) for p in chain]
    with torch.no_grad():
        module.weight  # noqa: B018 - computed on access, from what other parametrizations give
    for handle in handles:
        handle.remove()
    return found


def _is_fake_quantized(module: nn.Module) -> bool:
    if not parametrize.is_parametrized(module, "weight"):
        return False
    parametrizations: Any = module.parametrizations
    return any(isinstance(p, FakeQuantize) for p in parametrizations.weight)


def checked_bits(name: str, bits: int) -> int:
    """Return the bits as they are.

    Raises:
        ValueError: they are outside 2..8; the message names the argument.
    """
    if bits not in range(2, 9):
        raise ValueError(f"{name} {bits} is outside 2..8")
    return bits
