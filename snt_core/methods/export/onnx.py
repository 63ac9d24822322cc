"""A compressed model as an ONNX file, with quantize and dequantize nodes that engines understand.

::

    import onnxruntime
    from snt_core.methods.compress.activations import quantize_static
    from snt_core.methods.export.onnx import export_onnx

    small = quantize_static(my_model, images, weight_bits=8, act_bits=8, per_channel=True)
    size = export_onnx(small, images[:2], "small.onnx")  # bytes
    session = onnxruntime.InferenceSession("small.onnx")

Each quantizer becomes a QuantizeLinear and a DequantizeLinear of 8 bits, and a Clip where it has
fewer bits. Each quantized weight becomes an int8 tensor and a DequantizeLinear, whatever its bits:
ONNX has no 3, 5, 6 or 7 bits. BatchNorm goes into the scales of the convolution before it, so that
the codes stay. Pruned weights stay dense: engines have no kernels for scattered zeros.

ONNX divides by the scale, where the model multiplies with its reciprocal: numbers within a rounding
error of the middle between two levels may go to the other one. Engines that compute in integers
round biases, too, to whole multiples of the input's scale times the weight's; on processors without
VNNI onnxruntime's sums of 8-bit products may overflow, which 7 bits of the weights prevent.

Needs ``pip install "snt-core[export]"``.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.common.files import atomic_write
from snt_core.fast.fused import fuse
from snt_core.methods.compress.activations import ActQuantizer
from snt_core.methods.compress.pact import PACT
from snt_core.methods.compress.quantize import freeze
from snt_core.methods.export.extra import required
from snt_core.methods.export.onnx_fold import fold_norms
from snt_core.methods.export.quantizers import described
from snt_core.methods.models.wrapping import unwrapped

OPSET = 20


def export_onnx(
    model: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    file: str | Path,
    *,
    dynamic_batch: bool = True,
) -> int:
    """Write a model as an ONNX file for inference, and return its bytes.

    Args:
        model: in float32; quantized, pruned, both or neither. It is exported in eval mode and left
            as it was; weights that are rounded in each pass are frozen first.
        example: what the model takes, a batch of any size; several arguments as a tuple.
        file: a path; what is there is replaced, whole or not at all.
        dynamic_batch: let axis 0 of all arguments have any size in the file.

    Raises:
        ImportError: onnx or onnxscript is missing.
        ValueError: the example is no tensor, the model is not in float32, or it cannot be exported
            (as an LSTM with ``proj_size``); the first line of the exporter's reason is told.
        OSError: the file cannot be written.
    """
    required("onnx", "onnxscript")
    content = onnx_model(model, example, dynamic_batch=dynamic_batch).SerializeToString()
    atomic_write(Path(file), content)
    return len(content)


def onnx_model(
    model: nn.Module, example: Tensor | tuple[Tensor, ...], *, dynamic_batch: bool = True
) -> Any:
    """Return the ``onnx.ModelProto`` of :func:`export_onnx`."""
    onnx, _ = required("onnx", "onnxscript")
    args = example if isinstance(example, tuple) else (example,)
    for a in args:
        if not isinstance(a, Tensor):
            raise ValueError(
                f"example holds a {type(a).__name__}; it must be a tensor that the model takes, or "
                "a tuple of tensors: wrap a model that takes something else in a module"
            )
    args = tuple(a.detach() for a in args)  # the exporter fails on what has gradients
    shapes = None
    if dynamic_batch:
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} if a.ndim else None for a in args)
        # torch takes a batch of 1 for one that is always 1
        args = tuple(torch.cat([a, a]) if a.ndim and len(a) == 1 else a for a in args)
    ready = _with_nodes(model)
    # attention's fast path is one operator that ONNX does not know
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                ready, args, dynamo=True, dynamic_shapes=shapes, opset_version=OPSET, verbose=False
            )
        made = _bare(fold_norms(program.model_proto))
        onnx.checker.check_model(made)
    except Exception as error:  # of many kinds, which the exporter's do not have in common
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = next(iter(str(cause).strip().splitlines()), "") or type(cause).__name__
        hint = "; try dynamic_batch=False" if dynamic_batch else ""
        raise ValueError(f"the model cannot be exported to ONNX: {said[:300]}{hint}") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return made


def _bare(model: Any) -> Any:
    """Return an ONNX model without what only says where its nodes came from, changed in place."""
    del model.graph.value_info[:], model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


class _QuantizeNodes(nn.Module):
    """What a quantizer of activations does, in operators that ONNX has nodes for."""

    def __init__(self, scale: float, zero_point: int, top: int) -> None:
        super().__init__()
        self.scale, self.zero_point, self.top = scale, zero_point, top

    def forward(self, x: Tensor) -> Tensor:
        quantized: Any = torch.ops.quantized_decomposed
        to = (self.scale, self.zero_point, 0, 255, torch.uint8)
        x = quantized.dequantize_per_tensor(quantized.quantize_per_tensor(x, *to), *to)
        if self.top == 255:
            return x
        # The nodes have 8 bits. The ends are levels, so that it may come last; it must, lest an
        # engine take this for 8 bits and round biases to the far larger steps of fewer.
        return x.clamp(-self.zero_point * self.scale, (self.top - self.zero_point) * self.scale)


class _DequantizeNode(nn.Module):
    """A parametrization that gives a weight from its codes."""

    codes: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, bare: bool) -> None:
        super().__init__()
        self.bare = bare
        self.largest = (codes * scale).abs().max().item() if codes.numel() else 0.0
        self.axis = next((i for i, n in enumerate(scale.shape) if n > 1), None)
        self.first = scale.reshape(-1)[0].item()
        self.register_buffer("codes", codes.clone())
        self.register_buffer("scale", scale.reshape(-1).clone())
        self.register_buffer("zero", torch.zeros(scale.numel(), dtype=torch.int64))

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Any = torch.ops.quantized_decomposed
        levels = (-128, 127, torch.int8)
        if self.axis is None:
            weight = quantized.dequantize_per_tensor(self.codes, self.first, 0, *levels)
        else:
            weight = quantized.dequantize_per_channel(
                self.codes, self.scale, self.zero, self.axis, *levels
            )
        # In a product with floats onnxruntime takes a bare node for leave to round those to 8 bits
        # of its own choice. This changes no number, and keeps it from that.
        return weight if self.bare else weight.clamp(-self.largest, self.largest)


def _with_nodes(model: nn.Module) -> nn.Module:
    """Return a copy for export, which computes with quantize and dequantize operators."""
    importlib.import_module("torch.ao.quantization.fx._decomposed")  # which defines them
    model = fuse(freeze(unwrapped(model)), on=False).eval()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point() and value.dtype != torch.float32:
            raise ValueError(f"'{name}' is {value.dtype}; export to ONNX is for model.float()")
    for name, module in model.named_modules():
        if isinstance(module, nn.LSTM) and module.proj_size:
            raise ValueError(
                f"layer '{name}' is an LSTM with proj_size={module.proj_size}, which ONNX's LSTM "
                "does not have: use proj_size=0 and a Linear layer after it"
            )
    described(model)  # which refuses other quantizers
    for module in list(model.modules()):
        quantizer = getattr(module, "act_quantizer", None)
        if quantizer is not None:
            module.act_quantizer = _nodes_of(quantizer)
        # recurrent layers keep a list of their weights, which would not see the new ones
        if not isinstance(module, nn.RNNBase):
            _dequantize_weights(module)
    return model


def _nodes_of(quantizer: ActQuantizer | PACT) -> _QuantizeNodes:
    if isinstance(quantizer, PACT):
        scale = quantizer.step().item()
        return _QuantizeNodes(scale, quantizer.below, quantizer.below + quantizer.above)
    top = 2**quantizer.act_bits - 1
    return _QuantizeNodes(quantizer.scale.item(), int(quantizer.zero_point), top)


def _dequantize_weights(module: nn.Module) -> None:
    for name, levels in getattr(module, "weight_codes", {}).items():
        weight = module._parameters.get(name)
        codes = levels.codes(weight) if weight is not None else None
        # a node has one scale, or one for each place on one axis
        along = sum(n > 1 for n in levels.scale.shape)
        if codes is not None and along <= 1 and levels.scale.dtype == torch.float32:
            to = weight.device  # type: ignore[union-attr]
            read = getattr(module, "act_quantizer", None)
            integers = isinstance(read, _QuantizeNodes) and read.top == 255
            bare = integers or isinstance(module, nn.modules.conv._ConvNd)
            node = _DequantizeNode(codes, levels.scale, bare).to(to)
            parametrize.register_parametrization(module, name, node, unsafe=True)
