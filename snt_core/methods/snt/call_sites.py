"""Where a model calls activations, found by running it: modules and functions alike.

::

    from snt_core.methods.snt.call_sites import find

    for site in find(my_model.eval(), (images,)).sites:
        print(site.kind, site.channels, site.dim)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from snt_core.methods.models.wrapping import unwrapped
from snt_core.methods.tasks.feed import leaves, mapped

# Eq. (1) without shifts is the same function
LEAKY = {"ReLU", "LeakyReLU", "PReLU"}
CURVED = {
    *("ReLU6", "RReLU", "Threshold", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish"),
    *("Hardswish", "Softplus", "GELUTanh", "QuickGELU", "Swish", "HardSwish", "HardMish"),
    *("SwishMe", "MishMe", "HardSwishMe", "HardMishMe", "NewGELUActivation", "SquaredReLU"),
}
# they scale what they are multiplied with, and so keep a bounded output
GATES = {"Sigmoid", "Hardsigmoid", "HardSigmoid", "HardSigmoidMe", "Tanh", "Hardtanh"}
KINDS = CURVED | LEAKY | {"SNTActivation"}

_NAMES = {
    "ReLU": ("relu", "relu_"),
    "ReLU6": ("relu6", "relu6_"),
    "LeakyReLU": ("leaky_relu", "leaky_relu_"),
    "PReLU": ("prelu",),
    "RReLU": ("rrelu", "rrelu_"),
    "ELU": ("elu", "elu_"),
    "CELU": ("celu", "celu_"),
    "SELU": ("selu", "selu_"),
    "GELU": ("gelu",),
    "SiLU": ("silu",),
    "Mish": ("mish",),
    "Hardswish": ("hardswish",),
    "Softplus": ("softplus",),
    "Sigmoid": ("sigmoid", "sigmoid_"),
    "Hardsigmoid": ("hardsigmoid",),
    "Tanh": ("tanh", "tanh_"),
}
# function -> kind, in torch, torch.nn.functional and among the methods of a tensor
FUNCTIONS: dict[Any, str] = {
    getattr(home, name): kind
    for kind, names in _NAMES.items()
    for name in names
    for home in (torch, F, Tensor, torch._C._nn)
    if hasattr(home, name)
}
METHODS = {name: kind for kind, names in _NAMES.items() for name in names if hasattr(Tensor, name)}

# functions whose results have their channels on axis 1, or on the last; and those that move axes
_FIRST: tuple[Any, ...] = (*(F.batch_norm, torch.batch_norm, F.group_norm, F.instance_norm),)
_SPATIAL: dict[Any, int] = {  # axes that follow the channels
    F.conv1d: 1,
    F.conv2d: 2,
    F.conv3d: 3,
    F.conv_transpose1d: 1,
    F.conv_transpose2d: 2,
    F.conv_transpose3d: 3,
}
_LAST: tuple[Any, ...] = (F.linear, F.layer_norm)
_MOVES: tuple[Any, ...] = (
    *(Tensor.permute, Tensor.transpose, Tensor.movedim),
    *(torch.permute, torch.transpose, torch.movedim),
)


@dataclass
class Site:
    """A call of an activation: which one, by which module, on which tensors.

    Attributes:
        kind: such as "ReLU", of a module or a function.
        caller: the module in whose forward pass it is called.
        order: how many activations the caller has called before in the same forward pass.
        module: the activation, or None for a function.
        channels: size of the axis that the layer before it has its outputs on.
        dim: that axis, 1 or -1; 0 where the example has no batch axis.
        dtype, device: those of its input.
        slope: of the negative side, one for each channel where it is a tensor; None if curved.
        differs: whether a later pass of the caller has met other channels at this call.
        before, after: identities of what it reads and returns, to follow what passes between.
    """

    kind: str
    caller: nn.Module | None
    order: int
    module: nn.Module | None
    channels: int
    dim: int
    dtype: torch.dtype
    device: torch.device
    slope: float | Tensor | None
    before: int = 0
    after: int = 0
    differs: bool = False


@dataclass
class CallTrace:
    """What a run of a model has shown; `kept` holds its tensors, so that identities stay."""

    sites: list[Site] = field(default_factory=list)
    inputs: dict[nn.Module, list[tuple[Any, ...]]] = field(default_factory=dict)
    given: dict[nn.Module, tuple[int, set[str]]] = field(default_factory=dict)
    outputs: dict[nn.Module, list[int]] = field(default_factory=dict)
    readers: dict[int, set[nn.Module | None]] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)
    kept: list[Any] = field(default_factory=list)


class _Watch(TorchFunctionMode):
    """Notes calls of activations, and on which axis of each tensor its channels lie."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = CallTrace()
        self.axis: dict[int, int] = {}
        self.stack: list[list[Any]] = [[None, 0]]  # modules, and activations called in each

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inside = kind_of(self.stack[-1][0])
        kind = FUNCTIONS.get(func)
        site = None
        if kind and not inside and args and isinstance(args[0], Tensor):
            site = self.note(kind, None, args, kwargs or {}, self.stack[-1])
        # not within activations, which overwrite what they return; nor shapes, which hooks read too
        if not inside and getattr(func, "__name__", "") != "__get__":
            self.read(args)
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.trace.kept.append(out)
            self.follow(func, args, kwargs or {}, out)
            if site:
                site.after = id(out)
        return out

    def read(self, args: Any) -> None:
        """Note that the module under way reads these tensors."""
        for x in args:
            if isinstance(x, Tensor):
                self.trace.readers.setdefault(id(x), set()).add(self.stack[-1][0])

    def follow(self, func: Any, args: Any, kwargs: Any, out: Tensor) -> None:
        """Say on which axis of a result its channels lie."""
        if func in _FIRST:
            self.axis[id(out)] = 1
        elif func in _SPATIAL:
            self.axis[id(out)] = out.ndim - 1 - _SPATIAL[func]
        elif func in _LAST:
            self.axis[id(out)] = out.ndim - 1
        else:
            flat = [a for arg in args for a in (arg if isinstance(arg, list | tuple) else [arg])]
            known = [a for a in flat if isinstance(a, Tensor) and id(a) in self.axis]
            for a in known:
                if func in _MOVES:
                    sizes = torch.empty([2 + i for i in range(a.ndim)], device="meta")
                    moved = func(sizes, *args[1:], **kwargs)
                    self.axis[id(out)] = list(moved.shape).index(2 + self.axis[id(a)])
                elif a.ndim == out.ndim:
                    self.axis[id(out)] = self.axis[id(a)]
                else:
                    continue
                break

    def note(
        self, kind: str, module: nn.Module | None, args: Any, kwargs: Any, frame: list[Any]
    ) -> Site:
        """Remember the call of an activation on `args[0]`."""
        x = args[0]
        axis = self.axis.get(id(x), 1 if x.ndim == 4 else x.ndim - 1)
        slope = slope_of(kind, module, args, kwargs)
        if isinstance(slope, Tensor) and x.ndim > 1:
            axis = 1  # PReLU's
        dim = 1 if axis == 1 and x.ndim != 2 else -1
        if axis not in (1, x.ndim - 1):
            dim = axis
        self.trace.kept.append(x)
        channels = x.shape[axis] if x.ndim else 0
        caller, order = frame
        site = Site(kind, caller, order, module, channels, dim, x.dtype, x.device, slope, id(x))
        frame[1] += 1
        self.trace.sites.append(site)
        return site

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        trace = self.trace
        trace.inputs.setdefault(module, []).append(tuple(map(id, args)))
        trace.given.setdefault(module, (len(args), set(kwargs)))
        trace.kept.append(args)
        kind = kind_of(module)
        if kind and args and isinstance(args[0], Tensor):
            self.read(args)
            self.note(kind, module, args, kwargs, self.stack[-1])
        self.stack.append([module, 0])

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.stack.pop()
        self.trace.kept.append(output)
        self.trace.outputs.setdefault(module, []).append(id(output))
        for site in reversed(self.trace.sites):
            if site.module is module:
                site.after = id(output)
                break
        if isinstance(output, Tensor) and kind_of(module) and args:
            self.axis.setdefault(id(output), self.axis.get(id(args[0]), output.ndim - 1))


def kind_of(module: nn.Module | None) -> str | None:
    """Return the kind of an activation module; None for any other module."""
    name = type(module).__name__
    return name if name in KINDS | GATES else None


def slope_of(kind: str, module: nn.Module | None, args: Any, kwargs: Any) -> float | Tensor | None:
    """Return the slope of the negative side; None for activations that have no single one."""
    if kind in ("ReLU", "ReLU6"):
        return 0.0
    if kind == "LeakyReLU":
        if module is not None:
            return float(module.negative_slope)  # type: ignore[arg-type]
        return float(kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01))
    if kind == "PReLU":
        weight = module.weight if module is not None else kwargs.get("weight", args[-1])
        assert isinstance(weight, Tensor)
        return weight.detach().clone() if weight.numel() > 1 else float(weight)
    return None


def find(model: nn.Module, example: tuple[Any, ...]) -> CallTrace:
    """Return what a forward pass of the model calls; the model must be in eval mode.

    Args:
        model: any module; hooks are put on it and taken off again.
        example: its arguments.
    """
    watch = _Watch()
    handles = []
    for module in unwrapped(model).modules():
        enter = module.register_forward_pre_hook(watch.enter, with_kwargs=True)
        leave = module.register_forward_hook(watch.leave, with_kwargs=True)
        handles += [enter, leave]
    try:
        with torch.no_grad(), watch:
            output = model(*fresh(example))
    finally:
        for handle in handles:
            handle.remove()
    watch.trace.kept.append(output)
    watch.trace.returned = set(map(id, tensors(output)))
    return watch.trace


def tensors(output: Any) -> list[Tensor]:
    """Return the tensors in an output of any structure, those that torch knows among them."""
    return [x for leaf in tree_leaves(output) for x in leaves(leaf)]


def fresh(arguments: tuple[Any, ...]) -> Any:
    """Return the arguments with copies of their tensors, which a model may overwrite."""
    return mapped(arguments, lambda x: x.detach().clone().requires_grad_(x.requires_grad))
