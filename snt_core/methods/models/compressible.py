"""Which weights compression and analysis act on, and where a layer's outputs lie in them.

::

    from snt_core.methods.models.compressible import outputs_of, prunable

    prunable(my_model)  # {"conv1.weight": Parameter(...), "conv2.weight": ...}
    rows = outputs_of(my_model.conv1).rows(my_model.conv1.weight)  # one row an output

Weights are those of convolutions (transposed ones too), linear and bilinear layers, the packed or
separate projections of ``nn.MultiheadAttention``, and the matrices of ``nn.RNN``, ``nn.LSTM``,
``nn.GRU`` and their cells. What is left out and why:
:func:`snt_core.methods.models.coverage.coverage`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Layer = nn.modules.conv._ConvNd | nn.Linear
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Sites = list[tuple[nn.Module, str]]  # a module and the name of a weight in it


@dataclass(frozen=True)
class Outputs:
    """Where the outputs of a layer lie in its weight.

    Attributes:
        axis: of the outputs: 0, but 1 in a transposed convolution.
        groups: of a transposed convolution, whose axis 1 holds the outputs of one group only, and
            whose axis 0 the inputs of all groups. Elsewhere 1.
    """

    axis: int = 0
    groups: int = 1

    def rows(self, weight: Tensor) -> Tensor:
        """Return the weight as outputs x rest; a view where that is possible."""
        if self.axis:
            weight = weight.unflatten(0, (self.groups, len(weight) // self.groups))
            weight = weight.transpose(1, 2).flatten(0, 1)
        # not -1, which has no answer for a weight without entries
        return weight.reshape(len(weight), math.prod(weight.shape[1:]))

    def spread(self, values: Tensor, like: Tensor) -> Tensor:
        """Return one value an output in a shape that broadcasts with the weight ``like``."""
        ones = [1] * (like.ndim - 1)
        if not self.axis:
            return values.view(len(values), *ones)
        inputs = len(like) // self.groups if self.groups > 1 else 1
        outputs = len(values) // self.groups
        each = values.view(self.groups, 1, outputs).expand(-1, inputs, -1)
        return each.reshape(self.groups * inputs, outputs, *ones[1:])


FIRST_AXIS = Outputs()


def outputs_of(module: nn.Module) -> Outputs:
    """Return where the outputs lie in the weights of a layer."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return Outputs(1, module.groups)
    return FIRST_AXIS


def output_axis(module: nn.Module) -> int:
    """Return the axis of a layer's weight that its outputs run along: 1 if transposed, else 0."""
    return outputs_of(module).axis


def weight_names(module: nn.Module) -> list[str]:
    """Return the names of the weights in a module itself that compression acts on."""
    if isinstance(module, (*LAYERS, nn.Bilinear)):
        return ["weight"]
    if isinstance(module, nn.MultiheadAttention):
        if module._qkv_same_embed_dim:
            return ["in_proj_weight"]
        return ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
    if isinstance(module, nn.RNNBase):
        return [name for name in module._flat_weights_names if name.startswith("weight")]
    if isinstance(module, nn.RNNCellBase):
        return ["weight_ih", "weight_hh"]
    return []


def sites(model: nn.Module) -> Sites:
    """Return every weight as a module and its name there, in the order of the modules."""
    return [(m, name) for m in model.modules() for name in weight_names(m)]


def layers(model: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and linear layers, by their name in ``model.named_modules()``."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LAYERS)}


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that are parameters, by their name in ``model.named_parameters()``.

    A weight that two layers share is named once. One that is computed on each access (weight
    normalisation, a mask) is no parameter; in ``folding.plain(model)`` it is.
    """
    owned = {id(p) for m, name in sites(model) if (p := m._parameters.get(name)) is not None}
    return {name: p for name, p in model.named_parameters() if id(p) in owned}


def outputs_by_name(model: nn.Module) -> dict[str, Outputs]:
    """Return where the outputs lie for each name of :func:`prunable`."""
    found = {id(m._parameters.get(name)): outputs_of(m) for m, name in reversed(sites(model))}
    return {name: found[id(p)] for name, p in prunable(model).items()}


def owners(model: nn.Module) -> dict[int, Sites]:
    """Return, for the id of each parameter, all modules that hold it and its name there."""
    found: dict[int, Sites] = defaultdict(list)
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                found[id(p)].append((module, name))
    return found


def full_names(model: nn.Module) -> dict[tuple[nn.Module, str], str]:
    """Return each weight's name in the model, like ``"layer1.0.conv1.weight"``."""
    return {
        (module, name): f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        for name in weight_names(module)
    }


def check_kinds(model: nn.Module) -> None:
    """Refuse weights that cannot be compressed, by name and before anything is copied.

    Raises:
        ValueError: no weight at all, or one that is not initialised, on the meta device, sparse, or
            of another dtype than float16, bfloat16, float32, float64.
    """
    found = full_names(model)
    if not found:
        # a scripted or exported model has parameters, but no layers that are known
        hint = ": give it as it was before it was traced" if [*model.parameters()] else ""
        raise ValueError(
            f"{type(model).__name__} has no convolution or linear layer, attention or recurrent"
            f" layer to act on{hint}"
        )
    for site, name in found.items():
        for tensor in stored(*site):
            if reason := why_not(tensor):
                raise ValueError(f"weight '{name}' {reason}")


def standardised(module: nn.Module) -> str | None:
    """Return the class of a layer that standardises its weight in each pass, else None.

    It subtracts the filter's mean, so that what is pruned does not stay zero.
    """
    kind, named = type(module), r"(Scaled)?Std(Conv|Linear)|WSConv"
    known = kind.__module__ == "timm.layers.std_conv" or re.match(named, kind.__name__)
    return kind.__name__ if known else None


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite.

    Raises:
        ValueError: one of them, named with how many of its entries are NaN or infinite.
    """
    for name, weight in weights.items():
        if bad := int((~weight.detach().isfinite()).sum()):
            raise ValueError(
                f"weight '{name}' is not finite in {bad} of {weight.numel()} entries:"
                " mend or retrain the layer first"
            )


def why_not(tensor: Tensor) -> str | None:
    """Return why this tensor cannot be compressed and what to do, or None."""
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        return "is not initialised (a lazy layer): run one batch through the model first"
    if is_traceable_wrapper_subclass(tensor):
        return f"is a {type(tensor).__name__}: only plain tensors can be compressed"
    if tensor.is_meta:
        return "is on the meta device and has no values: load the weights first"
    if tensor.layout != torch.strided:
        return f"has layout {tensor.layout}: make it dense first, by to_dense()"
    if tensor.dtype not in FLOATS:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return f"is {dtype}: only float16, bfloat16, float32 and float64 can be compressed"
    return None


def stored(module: nn.Module, name: str) -> list[Tensor]:
    """Return the tensors behind a weight, whether it is a parameter or computed from others."""
    weight = module._parameters.get(name)
    if weight is not None:
        return [weight]
    parametrizations = getattr(module, "parametrizations", {})
    if name in parametrizations:
        return list(parametrizations[name].parameters(recurse=False))
    older = (module._parameters.get(f"{name}_{end}") for end in ("orig", "g", "v"))
    return [p for p in older if p is not None]
