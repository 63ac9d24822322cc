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
or with ``per_channel`` over each output: axis 0, or axis 1 of a transposed convolution (in each of
its groups). Half-precision weights are rounded in float32. Weights of convolutions, linear,
attention and recurrent layers are quantized, first and last included (to ``edge_bits``, if given);
biases, normalisation and embeddings are not (:func:`~snt_core.methods.models.coverage.coverage`
lists all by name). Where a layer computes its weight, by weight normalisation say, the computed
one is rounded. A weight that is tied, to an embedding say, is rounded wherever it is used. A
quantized weight is kept as the floating-point number that its code stands for.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from snt_core.methods.compress.levels import FakeQuantize, checked_bits, codes, least_error_factor
from snt_core.methods.compress.masking import Mask, compute_by, parametrized_by
from snt_core.methods.compress.weight_codes import keep_codes
from snt_core.methods.models.compressible import (
    Sites,
    check_finite,
    check_kinds,
    full_names,
    outputs_of,
    owners,
    sites,
)
from snt_core.methods.models.coverage import mark
from snt_core.methods.models.folding import bake, effective, fold_hooks
from snt_core.methods.models.wrapping import copied, unwrapped

__all__ = ["FakeQuantize", "checked_bits", "codes", "fake_quantize_weights", "freeze"]
__all__ += ["quantize_weights", "round_weights", "roundable"]

Clipping = Literal["max", "mse"]


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
    the gradient passes straight through. :func:`freeze` ends it. What masks of
    ``torch.nn.utils.prune`` hold at zero stays there; the older hooks of weight and spectral
    normalisation end, their weights being plain from here on.

    Args:
        clipping: "max": the outermost level is the largest magnitude. "mse": that times the one of
            1.00, 0.99, ..., 0.01 that rounds the weight with the least squared error (ties: the
            largest); the factor stays while the weights are trained.
        edge_bits: 2 to 8, for the first and the last layer as the model names them; None for
            ``weight_bits``. A weight tied to one of these layers has the more bits.

    Raises:
        ValueError: bits are outside 2..8, ``clipping`` is another word, the model has no such
            weights, or one of them is not finite, not in a float format, on the meta device, not
            initialised or rounded in each pass already.
    """
    checked_bits("weight_bits", weight_bits)
    edge_bits = weight_bits if edge_bits is None else checked_bits("edge_bits", edge_bits)
    if clipping not in ("max", "mse"):
        raise ValueError(f"clipping is {clipping!r}; it must be 'max' or 'mse'")
    model = roundable(model)
    found = sites(model)
    edges = {found[0][0], found[-1][0]}
    bits = [edge_bits if module in edges else weight_bits for module, _ in found]
    round_weights(model, found, bits, per_channel=per_channel, clipping=clipping)
    return model


def roundable(model: nn.Module) -> nn.Module:
    """Return a copy, unwrapped, whose weights :func:`round_weights` can act on.

    What older hooks compute is plain in it, save that masks hold on.

    Raises:
        ValueError: as :func:`fake_quantize_weights` of the weights.
    """
    model = unwrapped(model)
    check_kinds(model)
    for site, name in full_names(model).items():
        if parametrized_by(*site, FakeQuantize):
            raise ValueError(
                f"weight '{name}' is rounded in each pass already:"
                " quantize the float model, or freeze this one first"
            )
    model = copied(model)
    masks = fold_hooks(model)
    check_finite({name: effective(*site) for site, name in full_names(model).items()})
    for site, kept in masks.items():
        compute_by(*site, Mask(kept))
    return model


def round_weights(
    model: nn.Module,
    found: Sites,
    bits: list[int],
    *,
    per_channel: bool = False,
    clipping: Clipping = "max",
) -> None:
    """Make a model round these weights in each forward pass, in place.

    Args:
        found: modules and the names of weights in them.
        bits: of each; a weight that is tied has the most that one of its layers asks for, and is
            rounded in every module that holds it.
    """
    held = owners(model)
    wanted: dict[tuple[tuple[nn.Module, str], ...], int] = {}
    for (module, name), most in zip(found, bits, strict=True):
        same = tuple(held.get(id(module._parameters.get(name)), [(module, name)]))
        wanted[same] = max(most, wanted.get(same, 0))
    for same, most in wanted.items():
        first = next(site for site in found if site in same)
        outputs = outputs_of(first[0])
        factor = None
        if clipping == "mse":
            factor = least_error_factor(effective(*first), most, per_channel, outputs)
        for module, name in same:
            compute_by(module, name, FakeQuantize(most, per_channel, factor, outputs))


def freeze(model: nn.Module) -> nn.Module:
    """Return a plain copy of a fake-quantized model: same outputs, ordinary quantized weights.

    Weights that are tied stay so, unless one of the modules that hold them does not round them.
    Each module keeps bits and scales in its attribute ``weight_codes``, by the weight's name:
    :class:`~snt_core.methods.compress.weight_codes.WeightCodes`.
    """
    model = copied(unwrapped(model))
    quantizers = {
        (module, name): quantizer
        for module in model.modules()
        for name in list(getattr(module, "parametrizations", ()))
        if (quantizer := parametrized_by(module, name, FakeQuantize))
    }
    # all of them before any of them ends, since they may share what they are computed from
    values = {site: effective(*site) for site in quantizers}
    scales = {site: _scale(site, quantizer) for site, quantizer in quantizers.items()}
    originals = {site: bake(*site, values[site]) for site in quantizers}
    tied: dict[int, nn.Parameter] = {}
    for site, quantizer in quantizers.items():
        _tie(site, originals[site], tied)
        keep_codes(*site, quantizer.weight_bits, scales[site])
        mark(*site, weight_bits=quantizer.weight_bits)
    return model


def _scale(site: tuple[nn.Module, str], quantizer: FakeQuantize) -> Tensor:
    """Return the scale of a weight as its quantizer rounds it now."""
    seen: list[Tensor] = []
    handle = quantizer.register_forward_pre_hook(
        lambda _, args: seen.append(quantizer.levels(args[0])[1])
    )
    effective(*site)
    handle.remove()
    return seen[-1]


def _tie(
    site: tuple[nn.Module, str], original: Tensor | None, tied: dict[int, nn.Parameter]
) -> None:
    """Let weights that came from one parameter, and are equal, be one again."""
    module, name = site
    own: Any = module._parameters[name]
    first = tied.setdefault(id(original), own) if original is not None else own
    if first is not own and torch.equal(first, own):
        module._parameters[name] = first


def quantize_weights(
    model: nn.Module,
    weight_bits: int,
    *,
    per_channel: bool = False,
    clipping: Clipping = "max",
    edge_bits: int | None = None,
) -> nn.Module:
    """Return a copy of the model with its weights rounded to the nearest level, not trained.

    Arguments and errors are those of :func:`fake_quantize_weights`.
    """
    return freeze(
        fake_quantize_weights(
            model, weight_bits, per_channel=per_channel, clipping=clipping, edge_bits=edge_bits
        )
    )
