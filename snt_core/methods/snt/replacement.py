"""The exchange of a net's activations for Eq. (1), call by call."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snt_core.methods.snt.call_sites import (
    GATES,
    KINDS,
    LEAKY,
    CallTrace,
    Site,
    fresh,
    kind_of,
    tensors,
)
from snt_core.methods.snt.retrace import Retraced, Untraceable
from snt_core.methods.snt.transform import SNTActivation

Places = list[tuple[nn.Module, str]]  # a module, and the name of a child there


def swap(net: nn.Module, old: nn.Module, new: nn.Module, modes: dict[nn.Module, bool]) -> nn.Module:
    """Put `new` wherever `old` is in the net, with its training mode; return the net."""
    modes[new] = modes[old]
    for module in list(net.modules()):
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new
    return new if net is old else net


@torch.no_grad()
def outputs(net: nn.Module, arguments: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors that a net returns.

    Raises:
        ValueError: there is none.
    """
    output = net(*fresh(arguments))
    found = tensors(output)
    if not found:
        raise ValueError(
            f"the model returns a {type(output).__name__} in which no tensor is found to compare: "
            "wrap it in a module that returns tensors, alone or in a tuple, dict or dataclass"
        )
    return found


class Replacement:
    """A net whose activations are replaced, in place where the call of each has a name.

    Args:
        net: a copy that may change, in eval mode.
        slope: as in `to_snt`.
        modes: the training mode of each of its modules; new ones are added.
    """

    def __init__(self, net: nn.Module, slope: float | str, modes: dict[nn.Module, bool]) -> None:
        self.net, self.slope, self.modes = net, slope, modes
        self.names = {module: name for name, module in net.named_modules()}
        self.replaced: list[tuple[SNTActivation, Site, bool]] = []  # the last: equal at first
        self.left: list[tuple[str, str]] = []
        self.old: list[tuple[SNTActivation, Any]] = []

    def replace(self, trace: CallTrace) -> None:
        """Replace the activations that a run has shown."""
        callers: dict[nn.Module | None, dict[int, Site]] = {}
        for site in trace.sites:
            known = callers.setdefault(site.caller, {}).setdefault(site.order, site)
            if (known.kind, known.channels, known.dim) != (site.kind, site.channels, site.dim):
                known.differs = True
        for caller, sites in callers.items():
            self._in_caller(caller, list(sites.values()), trace)
        called = {site.module for site in trace.sites}
        for module, name in self.names.items():
            if kind_of(module) in KINDS - {"SNTActivation"} and module not in called:
                self.left.append((name, "the example does not reach it"))

    def _in_caller(self, caller: nn.Module | None, sites: list[Site], trace: CallTrace) -> None:
        wanted = [site for site in sites if self._wanted(site)]
        if isinstance(caller, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            for site in wanted[:1]:  # held as an attribute, module or function
                old = site.module or caller.activation
                caller.activation = self._new(site, old)
                # or a fused kernel of evaluation computes the old one
                caller.activation_relu_or_gelu = 0
            return
        places = self._places(caller, wanted, trace)
        if places is not None:
            for site, (owner, name) in zip(wanted, places, strict=True):
                owner._modules[name] = self._new(site, site.module)
            return
        try:
            self._in_graph(caller, sites, wanted, trace)
        except Untraceable as error:
            self.left += [(self._name(site), str(error)) for site in wanted]

    def _wanted(self, site: Site) -> bool:
        reason = ""
        if site.kind in GATES:
            reason = f"{site.kind} is a gate"
        elif site.kind == "SNTActivation":
            reason = "it is Eq. (1) already"
        elif site.differs:
            reason = "one call meets different numbers of channels"
        elif site.dim == 0 or not site.channels:
            reason = "its input has no axis for the batch"
        elif not site.dtype.is_floating_point:
            reason = f"its input is of {site.dtype}"
        if reason:
            self.left.append((self._name(site), reason))
        return not reason

    def _name(self, site: Site) -> str:
        if site.module is not None:
            return self.names.get(site.module, site.kind)
        caller = self.names.get(site.caller, "") if site.caller else ""
        return f"{caller}: {site.kind} as a function" if caller else f"{site.kind} as a function"

    def _places(
        self, caller: nn.Module | None, sites: list[Site], trace: CallTrace
    ) -> Places | None:
        """Return where each activation can be replaced by name; None where one cannot."""
        places: Places = []
        for site in sites:
            names = [n for n, m in caller._modules.items() if m is site.module] if caller else []
            calls = [s for s in sites if s.module is site.module]
            if site.module is None:
                return None
            if names and len(calls) == 1:
                places.append((caller, names[0]))  # type: ignore[arg-type]
            elif isinstance(caller, nn.Sequential) and len(names) == len(calls):
                i = next(i for i, s in enumerate(calls) if s is site)
                places.append((caller, names[i]))
            else:
                homes = [
                    (owner, name)
                    for owner in self.net.modules()
                    for name, child in owner._modules.items()
                    if child is site.module
                ]
                total = {(s.caller, s.order) for s in trace.sites if s.module is site.module}
                if names or len(homes) != 1 or len(total) != 1:
                    return None
                places += homes
        return places

    def _in_graph(
        self, caller: nn.Module | None, sites: list[Site], wanted: list[Site], trace: CallTrace
    ) -> None:
        """Replace the activations of a module that calls functions, or one module several times."""
        if caller is None:
            raise Untraceable("no module calls it")
        block = Retraced(caller, trace.given[caller])
        nodes = block.activations()
        if [block.kind(node) for node in nodes] != [site.kind for site in sites]:
            raise Untraceable("its forward pass as a graph calls other activations")
        for node, site in zip(nodes, sites, strict=True):
            if any(site is w for w in wanted):
                name = str(node.target).replace(".", "_") if site.module else site.kind.lower()
                old = site.module or _function(node, site)
                block.exchange(node, self._new(site, old), name)
        self.net = swap(self.net, caller, block.module(), self.modes)

    def _new(self, site: Site, old: Any) -> SNTActivation:
        """Return Eq. (1) for a call; `old` is what it replaces."""
        new = SNTActivation(site.channels, dim=site.dim).to(site.device, site.dtype)
        wish = site.slope if self.slope == "match" else self.slope
        equal = False
        with torch.no_grad():
            if wish is not None:
                new.beta.copy_(torch.as_tensor(wish))
            if site.slope is not None and site.kind in LEAKY:
                # in the format that the old one multiplies in
                width = torch.promote_types(site.dtype, torch.float32)
                slope = torch.as_tensor(site.slope, dtype=width, device=site.device)
                equal = bool((new.beta.to(width) == slope).all())
        self.modes[new] = self.modes.get(site.module or site.caller or self.net, False)
        self.replaced.append((new, site, equal))
        self.old.append((new, old))
        return new

    def check_wiring(self, arguments: tuple[Any, ...], expected: list[Tensor]) -> None:
        """Raise ValueError unless the net computes `expected` with its old activations."""
        handles = [new.register_forward_hook(_as_before(old)) for new, old in self.old]
        try:
            found = outputs(self.net, arguments)
        finally:
            for handle in handles:
                handle.remove()
        if len(found) != len(expected) or not all(map(_close, found, expected)):
            raise ValueError(
                "the model reads what an activation overwrites in place: set inplace=False in its "
                "activations, and see that its outputs stay the same"
            )


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference between outputs; infinite where they are of other shapes."""
    if len(found) != len(expected):
        return math.inf
    return max(map(_apart, found, expected), default=0.0)


def _apart(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return math.inf
    if torch.equal(a, b):  # empty ones too
        return 0.0
    if not (a.is_floating_point() or a.is_complex()):
        a, b = a.double(), b.double()  # truth values and unsigned integers have no difference
    return float((a - b).abs().max())


def _close(found: Tensor, expected: Tensor) -> bool:
    """Whether two outputs are equal, floats up to what another kernel may round."""
    if found.shape != expected.shape:
        return False
    numbers = expected.is_floating_point() or expected.is_complex()
    if not numbers or not expected.numel():
        return torch.equal(found, expected)
    size = float(expected.abs().nan_to_num().max())
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * size, equal_nan=True)


def _as_before(old: Any) -> Any:
    function = copy.deepcopy(old).eval() if isinstance(old, nn.Module) else old
    return lambda module, args, output: function(args[0].clone())


def _function(node: fx.Node, site: Site) -> Any:
    """Return the function of a tensor that a node calls."""
    if site.kind == "PReLU":  # whose weight is a node too
        weight = torch.as_tensor(site.slope, dtype=site.dtype, device=site.device).reshape(-1)
        return lambda x: F.prelu(x, weight)
    target, rest = node.target, node.args[1:]
    options = {k: v for k, v in node.kwargs.items() if k not in ("input", "inplace")}
    if isinstance(target, str):
        return lambda x: getattr(x, target)(*rest, **options)
    return lambda x: target(x, *rest, **options)
