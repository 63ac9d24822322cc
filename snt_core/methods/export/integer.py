"""Quantized layers on torch's own integer kernels, those of oneDNN for CPUs.

::

    from snt_core.methods.compress.activations import quantize_static
    from snt_core.methods.export.integer import with_integer_kernels

    small = quantize_static(my_model, images, weight_bits=8, act_bits=8)
    fast, layers = with_integer_kernels(small)

Convolutions and linear layers whose weights and inputs are quantized multiply uint8 by int8, sum in
int32 and give floats, which are what the simulation gives up to float32's rounding. All else stays.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snt_core.methods.compress.pact import PACT
from snt_core.methods.compress.quantize import freeze
from snt_core.methods.models.wrapping import unwrapped

READERS = (nn.TransformerEncoderLayer, nn.MultiheadAttention)  # of their layers' weights
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def with_integer_kernels(model: nn.Module) -> tuple[nn.Module, int]:
    """Return a copy for inference on this CPU, and how many layers use integer kernels in it.

    Layers are passed over whose weights or inputs are float, which are transposed, pad with other
    than zeros or have further hooks, and those directly in ``nn.TransformerEncoderLayer``.

    Raises:
        ValueError: torch has no such kernels here.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qconv_pointwise"):
        raise ValueError("torch has no integer kernels of oneDNN here: use engine='onnxruntime'")
    model = freeze(unwrapped(model)).eval().requires_grad_(False)
    found = 0
    for parent in list(model.modules()):
        if isinstance(parent, READERS):
            continue
        for name, layer in list(parent.named_children()):
            if _is_served(layer):
                setattr(parent, name, IntegerLayer(layer))
                found += 1
    return model, found


def _is_served(layer: nn.Module) -> bool:
    # the types themselves: a subclass may compute something else
    if type(layer) not in (*CONVOLUTIONS, nn.Linear) or not hasattr(layer, "act_quantizer"):
        return False
    levels = getattr(layer, "weight_codes", {}).get("weight")
    weight = layer.weight
    if levels is None or not isinstance(weight, Tensor) or weight.dtype != torch.float32:
        return False
    watched = len(layer._forward_pre_hooks) + len(layer._forward_hooks)
    zeros = getattr(layer, "padding_mode", "zeros") == "zeros"
    padding = getattr(layer, "padding", ())
    per_output = levels.scale.numel() in (1, len(weight))
    plain = watched == 1 and zeros and not isinstance(padding, str) and per_output
    return plain and weight.device.type == "cpu" and levels.codes(weight) is not None


class IntegerLayer(nn.Module):
    """A convolution or linear layer of int8 codes, which quantizes its float input itself."""

    packed: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor | None

    def __init__(self, layer: Any) -> None:
        super().__init__()
        quantizer = layer.act_quantizer
        if isinstance(quantizer, PACT):
            self.scale, self.zero = quantizer.step().item(), quantizer.below
            self.top = quantizer.below + quantizer.above
        else:
            self.scale, self.zero = quantizer.scale.item(), quantizer.zero_point.item()
            self.top = 2**quantizer.act_bits - 1
        levels = layer.weight_codes["weight"]
        codes, scales = levels.codes(layer.weight), levels.scale.reshape(-1).float().clone()
        self.geometry: Any = None  # of a convolution
        if isinstance(layer, CONVOLUTIONS):
            shape = (layer.stride, layer.padding, layer.dilation)
            self.geometry = (*map(list, shape), layer.groups)
            packed = torch.ops.onednn.qconv_prepack(
                codes, scales, self.scale, self.zero, *self.geometry, None
            )
        else:
            packed = torch.ops.onednn.qlinear_prepack(codes, None)
        self.register_buffer("packed", packed, persistent=False)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int32))
        self.register_buffer("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        codes = torch.quantize_per_tensor(x, self.scale, self.zero, torch.quint8).int_repr()
        if self.top < 255:
            codes.clamp_(max=self.top)
        weight = (self.packed, self.scales, self.zeros, self.bias)
        out: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        if self.geometry is None:
            return torch.ops.onednn.qlinear_pointwise(codes, self.scale, self.zero, *weight, *out)
        single = codes.dim() == self.packed.dim() - 1  # one sample, without its batch
        codes = codes.unsqueeze(0) if single else codes
        y = torch.ops.onednn.qconv_pointwise(
            codes, self.scale, self.zero, *weight, *self.geometry, *out
        )
        return y.squeeze(0) if single else y
