"""The forward pass of one module as a graph, in which single calls can be exchanged.

Its children stay as they are, and so do its parameters' names.
"""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from typing import Any

from torch import fx, nn

from snt_core.methods.snt.call_sites import FUNCTIONS, METHODS, kind_of


class Untraceable(Exception):
    """A module whose forward pass is no graph; the message says why."""


class _Local(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class Retraced:
    """A module's own forward pass as a graph.

    Args:
        module: it stays as it is.
        given: how many positional arguments it is called with, and the names of the others; what
            is not given keeps its default.

    Raises:
        Untraceable: the forward pass depends on values, on the training mode by more than a flag,
            or takes any number of arguments.
    """

    def __init__(self, module: nn.Module, given: tuple[int, set[str]]) -> None:
        self.origin = module
        training = module.training
        try:
            graphs = []
            for mode in (False, True):
                module.training = mode
                graphs.append(_Local().trace(module, _defaults(module, given)))
        except Untraceable:
            raise
        except Exception as error:  # whatever a forward pass does with a proxy
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise Untraceable(f"its forward pass is no graph ({reason})") from error
        finally:
            module.training = training
        self.graph = graphs[0]
        _follow_training(*graphs)
        self.added: dict[str, nn.Module] = {}
        self.exchanged: set[str] = set()

    def kind(self, node: fx.Node) -> str | None:
        """Return which activation a node calls, if any."""
        if node.op == "call_module":
            return kind_of(self.target(node))
        table = {"call_function": FUNCTIONS, "call_method": METHODS}.get(node.op, {})
        return table.get(node.target)

    def target(self, node: fx.Node) -> nn.Module:
        """Return the module that a node calls."""
        name = str(node.target)
        return self.added[name] if name in self.added else self.origin.get_submodule(name)

    def activations(self) -> list[fx.Node]:
        """Return the calls of activations, in their order."""
        return [node for node in self.graph.nodes if self.kind(node)]

    def exchange(self, node: fx.Node, new: nn.Module, name: str) -> str:
        """Let `new` be called in the place of a node, and return its name in the module."""
        x = node.args[0] if node.args else node.kwargs["input"]
        assert isinstance(x, fx.Node)
        with self.graph.inserting_after(node):
            call = self.graph.call_module(self.add(new, name), (x,))
        if self._in_place(node):
            order = {n: i for i, n in enumerate(self.graph.nodes)}
            for user in [u for u in x.users if order[u] > order[call]]:
                user.replace_input_with(x, call)
        self._drop(node, call)
        return str(call.target)

    def _drop(self, node: fx.Node, instead: fx.Node) -> None:
        node.replace_all_uses_with(instead)
        self.graph.erase_node(node)
        if node.op == "call_module":
            self.exchanged.add(str(node.target))

    def insert(self, x: fx.Node, users: list[fx.Node], new: nn.Module, name: str) -> str:
        """Let `users` read `new(x)` in the place of `x`."""
        with self.graph.inserting_after(x):
            call = self.graph.call_module(self.add(new, name), (x,))
        for user in users:
            user.replace_input_with(x, call)
        return str(call.target)

    def bypass(self, node: fx.Node) -> None:
        """Let what read a call read its first argument."""
        x = node.args[0]
        assert isinstance(x, fx.Node)
        self._drop(node, x)

    def add(self, new: nn.Module, name: str) -> str:
        """Take in a module under this name, or the name with a number; no call is made."""
        taken = {*self.origin._modules, *self.added, *dir(self.origin)}
        free = (
            name
            if name not in taken
            else next(found for i in range(len(taken) + 1) if (found := f"{name}_{i}") not in taken)
        )
        self.added[free] = new
        return free

    def _in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.target(node), "inplace", False))
        name = node.target if isinstance(node.target, str) else node.target.__name__
        return name.endswith("_") or node.kwargs.get("inplace") is True or True in node.args[1:]

    def module(self) -> fx.GraphModule:
        """Return a module of the same children and parameters that computes the graph."""
        root, origin = nn.Module(), self.origin
        root._parameters, root._buffers = origin._parameters, origin._buffers
        calls = Counter(str(n.target) for n in self.graph.nodes if n.op == "call_module")
        gone = {name for name in self.exchanged if not calls[name]}
        kept = {name: m for name, m in origin._modules.items() if name not in gone}
        root._modules = kept | {k: m for k, m in self.added.items() if k not in gone}
        root.training = origin.training
        found = fx.GraphModule(root, self.graph, type(origin).__name__)
        for name, value in vars(origin).items():
            if not name.startswith("_") and name not in vars(found):
                setattr(found, name, value)
        found._parameters, found._buffers = dict(root._parameters), dict(root._buffers)
        found._modules = dict(root._modules)
        found._non_persistent_buffers_set = set(origin._non_persistent_buffers_set)
        found.training = origin.training
        return found


def _defaults(module: nn.Module, given: tuple[int, set[str]]) -> dict[str, Any]:
    """Return the arguments that are not given, at their defaults."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    count, names = given
    fixed = {}
    for i, p in enumerate(parameters):
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise Untraceable("its forward pass takes any number of arguments")
        if i >= count and p.name not in names:
            fixed[p.name] = p.default
    return fixed


def _follow_training(graph: fx.Graph, training: fx.Graph) -> None:
    """Let flags that differ between two graphs, of evaluation and of training, follow the mode."""
    nodes, others = list(graph.nodes), list(training.nodes)
    differs = Untraceable("its forward pass differs between training and evaluation")
    if [(n.op, str(n.target)) for n in nodes] != [(n.op, str(n.target)) for n in others]:
        raise differs
    for node, other in zip(nodes, others, strict=True):
        if len(node.args) != len(other.args) or node.kwargs.keys() != other.kwargs.keys():
            raise differs
        places = [*enumerate(node.args), *node.kwargs.items()]
        for place, value in places:
            second = other.args[place] if isinstance(place, int) else other.kwargs[place]
            if str(value) == str(second):
                continue
            if not isinstance(value, bool) or not isinstance(second, bool):
                raise differs
            with graph.inserting_before(node):
                flag = graph.create_node("get_attr", "training")
                if value:  # true in evaluation
                    flag = graph.call_function(operator.not_, (flag,))
            if isinstance(place, int):
                node.update_arg(place, flag)
            else:
                node.update_kwarg(place, flag)
