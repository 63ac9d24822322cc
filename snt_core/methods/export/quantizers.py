"""The quantizers of a model's activations, described in plain values and made anew from those.

Scales and levels follow with the state dict.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from snt_core.methods.compress.activations import ActQuantizer, attach
from snt_core.methods.compress.pact import PACT

ALPHAS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
FIELDS = {"ActQuantizer": ("act_bits",), "PACT": ("act_bits", "below", "above")}


def described(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return for each layer that quantizes its input what its state dict does not hold.

    Raises:
        ValueError: a quantizer is of another kind than the two of this package.
    """
    found = {}
    for name, layer in model.named_modules():
        quantizer: Any = getattr(layer, "act_quantizer", None)
        if quantizer is None:
            continue
        kind = type(quantizer).__name__
        if type(quantizer) not in (ActQuantizer, PACT):
            raise ValueError(f"'{name}' quantizes its input by a {kind}, which is not known here")
        found[name] = {"kind": kind} | {field: getattr(quantizer, field) for field in FIELDS[kind]}
        if kind == "PACT":  # a parameter, which follows model.half() and its like
            found[name]["dtype"] = str(quantizer.clip_alpha.dtype)
    return found


def attach_all(model: nn.Module, descriptions: dict[str, Any]) -> None:
    """Make a model quantize its activations as described, in place.

    Quantizers that it has are replaced.

    Raises:
        ValueError: a description is not one of :func:`described`, or of a layer that the model does
            not have, or one of the model's quantizers is not described.
    """
    layers = dict(model.named_modules())
    for name in described(model):
        if name not in descriptions:
            raise ValueError(f"'{name}' quantizes its input in the model and not in the file")
    for name, description in descriptions.items():
        quantizer = _made(name, description)
        if name not in layers:
            raise ValueError(f"the model has no layer '{name}': is it another architecture?")
        if hasattr(layers[name], "act_quantizer"):
            like = layers[name].act_quantizer.state_dict()
            layers[name].act_quantizer = quantizer.to(next(iter(like.values())).device)
        else:
            if next(layers[name].parameters(), None) is None:
                raise ValueError(f"'{name}' has no weights, so that its input is never quantized")
            attach(layers[name], quantizer)


def check_values(model: nn.Module) -> None:
    """Look at what the quantizers of a model hold.

    Raises:
        ValueError: a scale or level is not a finite number above 0, or a zero point is no code.
    """
    for name, module in model.named_modules():
        if isinstance(module, ActQuantizer):
            top = 2**module.act_bits - 1
            if not (module.scale.isfinite() & (module.scale > 0)).all():
                raise ValueError(f"'{name}' has the scale {module.scale.tolist()}")
            if not ((module.zero_point >= 0) & (module.zero_point <= top)).all():
                raise ValueError(f"'{name}' has the zero point {module.zero_point.tolist()}")
        elif isinstance(module, PACT) and not module.clip_alpha.isfinite().all():
            raise ValueError(f"'{name}' has the level {module.clip_alpha.tolist()}")


def _made(name: str, description: Any) -> nn.Module:
    kind = description.get("kind") if isinstance(description, dict) else None
    if kind not in FIELDS:
        raise ValueError(f"'{name}' has a quantizer of kind {str(kind)[:40]}")
    values = {field: description.get(field) for field in FIELDS[kind]}
    bits = values["act_bits"]
    if any(type(value) is not int for value in values.values()) or bits not in range(2, 9):
        raise ValueError(f"'{name}' has a quantizer of {str(values)[:80]}")
    if kind == "ActQuantizer":
        return ActQuantizer(bits, (0.0, 1.0))
    below, above = values["below"], values["above"]
    if below < 0 or above < 1 or below + above > 2**bits - 1:
        raise ValueError(f"'{name}' has {below} + {above} steps, too many for {bits} bits")
    dtypes = {str(dtype): dtype for dtype in ALPHAS}
    if description.get("dtype") not in dtypes:
        raise ValueError(f"'{name}' has a level of dtype {str(description.get('dtype'))[:40]}")
    quantizer = PACT(bits, (0.0, 1.0)).to(dtypes[description["dtype"]])
    quantizer.below, quantizer.above, quantizer.signed = below, above, below > 0
    return quantizer
