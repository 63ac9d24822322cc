"""BatchNorm as a part of the quantized convolution before it, in an ONNX graph.

A norm multiplies each output channel by a number, and so does the scale of that channel's weights:
the codes stay, and integer kernels serve what floats would have had to. A negative number turns the
signs of the codes, which lie symmetrically around zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def fold_norms(model: Any) -> Any:
    """Fold each BatchNormalization behind a convolution of dequantized weights, in place.

    Args:
        model: an ``onnx.ModelProto``, which is returned.
    """
    import onnx

    graph = model.graph
    values = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    for out in graph.output:
        uses[out.name] = uses.get(out.name, 0) + 1
    new: dict[str, np.ndarray] = {}
    gone = []
    for norm in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        conv = made_by.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or uses[conv.output[0]] != 1:
            continue
        dequantize = made_by.get(conv.input[1])
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        names = [*dequantize.input, *norm.input[1:5], *conv.input[2:3]]
        shared = uses[dequantize.output[0]] != 1 or uses[dequantize.input[0]] != 1
        if shared or any(name and name not in values for name in names):
            continue
        codes, scale = (values[name] for name in dequantize.input[:2])
        weight, bias, mean, variance = (values[name].astype(np.float64) for name in norm.input[1:5])
        eps = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = weight / np.sqrt(variance + eps)
        before = values[conv.input[2]] if len(conv.input) > 2 and conv.input[2] else 0.0
        signs = np.sign(factor).astype(codes.dtype).reshape(-1, *[1] * (codes.ndim - 1))
        name = conv.output[0]
        scales = np.where(factor == 0, 1.0, np.abs(factor) * scale.astype(np.float64))
        new[f"{name}_codes"] = codes * signs
        new[f"{name}_scale"] = scales.astype(np.float32)
        new[f"{name}_zero"] = np.zeros(len(factor), codes.dtype)
        new[f"{name}_bias"] = ((before - mean) * factor + bias).astype(np.float32)
        dequantize.input[:] = [f"{name}_codes", f"{name}_scale", f"{name}_zero"]
        del dequantize.attribute[:]
        dequantize.attribute.append(onnx.helper.make_attribute("axis", 0))
        conv.input[:] = [conv.input[0], conv.input[1], f"{name}_bias"]
        conv.output[0] = norm.output[0]
        gone.append(norm)
    for norm in gone:
        graph.node.remove(norm)
    used = {name for node in graph.node for name in node.input}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in new.items())
    return model
