"""The pre-activation order of section 4 for residual blocks that exist.

A block that ends in `act(main(x) + shortcut(x))` hands its activation to the next block, which
applies it before its main path only; the shortcut takes `x` itself, and additions join linear
operations only. The first block takes the activation of the stem, through a max pooling as well
(an activation that never falls commutes with it); the last block keeps its own, before pooling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from snt_core.methods.snt.call_sites import CallTrace, Site, find
from snt_core.methods.snt.replacement import swap
from snt_core.methods.snt.retrace import Retraced, Untraceable

Rows = list[tuple[str, str]]
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
LINEAR = (
    *(nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.Identity),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.modules.dropout._DropoutNd),
)


@dataclass
class _Block:
    """A module that ends in the activation of a sum of a main path and a linear shortcut."""

    module: nn.Module
    graph: Retraced
    x: fx.Node
    main: list[fx.Node]  # what reads x on the main path
    last: fx.Node  # the activation after the sum


def move(
    net: nn.Module, arguments: tuple[Any, ...], modes: dict[nn.Module, bool]
) -> tuple[nn.Module, Rows, Rows]:
    """Move activations in a net whose activations are all Eq. (1), and say which did and why not.

    Args:
        net: it may change; in eval mode.
        arguments: an example.
        modes: the training mode of each module; new ones are added.
    """
    trace = find(net, arguments)
    names = {module: name for name, module in net.named_modules()}
    blocks: dict[nn.Module, _Block] = {}
    stayed: dict[nn.Module, str] = {}
    for site in trace.sites:
        if site.kind == "SNTActivation" and site.module is not None:
            stayed[site.module] = "no block that follows could take it: it ends no shortcut's sum"
        caller = site.caller
        if caller is None or caller in blocks or _is_root(caller, net):
            continue
        try:
            block = _block(caller, trace)
        except Untraceable as error:
            if site.module is not None:
                stayed[site.module] = str(error)
            continue
        if block:
            blocks[caller] = block
    moves = []
    for block in blocks.values():
        found = _source(block, blocks, trace)
        if found is not None:
            moves.append((found, block))
    rows: Rows = []
    for site, block in moves:
        act = site.module
        assert act is not None
        block.graph.insert(block.x, block.main, act, "before")
        modes[act] = modes[block.module]
        stayed.pop(act, None)
        rows.append((names[act], f"before the main path of {names[block.module]}"))
        owner = blocks.get(site.caller) if site.caller else None
        if owner is not None and owner.graph.target(owner.last) is act:
            owner.graph.bypass(owner.last)
        else:
            assert site.caller is not None
            (name,) = [n for n, m in site.caller._modules.items() if m is act]
            site.caller._modules[name] = nn.Identity()
    changed = {site.caller for site, _ in moves} | {block.module for _, block in moves}
    for block in blocks.values():
        if block.module in changed:
            net = swap(net, block.module, block.graph.module(), modes)
        act = block.graph.target(block.last) if block.last in block.graph.graph.nodes else None
        if act in stayed:
            stayed[act] = "it is the last of its chain, before pooling or the like"
        for node in block.graph.activations():
            inner = block.graph.target(node)
            if node is not block.last and inner in stayed:
                stayed[inner] = "it stands before a linear layer already"
    return net, rows, [(names[m], reason) for m, reason in stayed.items() if m in names]


def _is_root(module: nn.Module, net: nn.Module) -> bool:
    return module is net or isinstance(module, nn.Sequential)


def _block(module: nn.Module, trace: CallTrace) -> _Block | None:
    """Return a module as a residual block; None where it ends in another way."""
    if len(trace.inputs[module]) > 1:
        return None
    graph = Retraced(module, trace.given[module])
    (end,) = [node for node in graph.graph.nodes if node.op == "output"]
    last = end.args[0]
    if not isinstance(last, fx.Node) or graph.kind(last) != "SNTActivation":
        return None
    total = last.args[0]
    if not isinstance(total, fx.Node) or len(total.users) != 1:
        return None
    if getattr(total.target, "__name__", total.target) not in ("add", "iadd", "add_"):
        return None
    sides = [_linear(graph, side) for side in total.args[:2] if isinstance(side, fx.Node)]
    ends = [path[-1] for path in sides if path and path[-1].op == "placeholder"]
    if len(sides) != 2 or len(ends) != 1:  # with two, both sides are linear
        return None
    x = ends[0]
    (shortcut,) = [path for path in sides if path and path[-1] is x]
    first = shortcut[-2] if len(shortcut) > 1 else total
    main = [user for user in x.users if user is not first]
    return _Block(module, graph, x, main, last) if main else None


def _linear(graph: Retraced, node: fx.Node) -> list[fx.Node]:
    """Return the nodes from this one back to what is not a linear module of a single input."""
    path = [node]
    while node.op == "call_module" and len(node.args) == 1:
        parts = [m for m in graph.target(node).modules() if not list(m.children())]
        source = node.args[0]
        if not all(isinstance(m, LINEAR) for m in parts) or not isinstance(source, fx.Node):
            break
        node = source
        path.append(node)
    return path


def _source(block: _Block, blocks: dict[nn.Module, _Block], trace: CallTrace) -> Site | None:
    """Return the activation whose output, or its max pooling, this block alone reads."""
    wanted = trace.inputs[block.module][0][0]
    inside = set(block.module.modules())
    for _ in range(2):
        if wanted in trace.returned or any(
            reader not in inside for reader in trace.readers.get(wanted, ())
        ):
            return None
        for site in trace.sites:
            if site.after == wanted and site.kind == "SNTActivation" and site.module is not None:
                owner = blocks.get(site.caller) if site.caller else None
                held = site.caller is not None and site.module in site.caller._modules.values()
                return site if owner is not None or held else None
        pools = [m for m in trace.outputs if isinstance(m, POOLS) and wanted in trace.outputs[m]]
        if not pools or len(trace.inputs[pools[0]]) > 1:
            return None
        wanted, inside = trace.inputs[pools[0]][0][0], {pools[0]}
    return None
