"""Figure 4: block diagrams, traced from the modules that are trained; nothing is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from snt_core.paper.looks import described, panels
from snt_core.paper.profiles import Profile
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import fx, nn

COLOURS = {"linear": "#cfe3f2", "norm": "#eeeeee", "act": "#f6d9c8", "sum": "#ffffff"}
INPUT = -1
SIDE = 1.9  # where shortcuts run, the main path being at 0


def runs(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Return nothing: the diagrams are drawn from the code."""
    return []


@dataclass(frozen=True)
class Box:
    """One step of a block's forward pass: `label`, the kind that colours it, and the places in the
    list of the steps that it reads, -1 being the block's input."""

    label: str
    kind: str
    reads: tuple[int, ...]


def operations(block: nn.Module) -> list[Box]:
    """Return the operations of a block, in the order of its forward pass but for shortcuts.

    Traced by torch.fx, so that the picture is of the code that runs. Identities and reshaping are
    left out.
    """
    modules = dict(block.named_modules())
    boxes: list[Box] = []
    place: dict[fx.Node, int] = {}  # the last box on the way to a node's value
    for node in _trace(block).nodes:
        reads = tuple(place[arg] for arg in node.all_input_nodes)
        if node.op == "placeholder":
            place[node] = INPUT
        elif node.op == "call_module" and (found := _looks(modules[node.target])):
            boxes.append(Box(*found, reads))
            place[node] = len(boxes) - 1
        elif node.op == "call_function" and node.target.__name__ in ("add", "iadd"):
            boxes.append(Box("+", "sum", reads))
            place[node] = len(boxes) - 1
        elif reads:
            place[node] = max(reads)
    return _shortcuts_last(boxes)


def _shortcuts_last(boxes: list[Box]) -> list[Box]:
    """Return the boxes with what is added to a sum, as its second term, right before it."""
    order = list(range(len(boxes)))
    readers = Counter(source for box in boxes for source in box.reads)
    for i, box in enumerate(boxes):
        at = box.reads[-1] if box.kind == "sum" else INPUT
        while at != INPUT and readers[at] == 1 and len(boxes[at].reads) == 1:
            order.remove(at)
            order.insert(order.index(i), at)
            i, at = at, boxes[at].reads[0]
    new = {INPUT: INPUT, **{old: place for place, old in enumerate(order)}}
    return [
        replace(boxes[old], reads=tuple(new[source] for source in boxes[old].reads))
        for old in order
    ]


def _trace(block: nn.Module) -> fx.Graph:
    """Return the graph of a block down to its leaves, activations of our own among them.

    Of its forward's arguments the first is traced; others have their defaults.
    """
    from torch import fx, nn

    from snt_core.methods.snt.transform import SNTActivation

    class Leaves(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            own = isinstance(module, SNTActivation | nn.Conv2d)  # subclasses of ours among them
            return own or super().is_leaf_module(module, name)

    options = list(signature(block.forward).parameters.values())[1:]
    return Leaves().trace(block, concrete_args={o.name: o.default for o in options})


def _looks(module: nn.Module) -> tuple[str, str] | None:
    """Return label and kind of a module's box; none for an identity."""
    from torch import nn

    from snt_core.methods.snt.transform import SNTActivation

    match module:
        case nn.Identity():
            return None
        case nn.Conv2d():
            size = "x".join(map(str, module.kernel_size))
            return f"{'depthwise ' * (module.groups > 1)}conv {size}", "linear"
        case nn.Linear():
            return f"linear {module.in_features} → {module.out_features}", "linear"
        case nn.BatchNorm2d():
            return "batch norm", "norm"
        case nn.LayerNorm():
            return "layer norm", "norm"
        case SNTActivation():
            return "Eq. (1)", "act"
    return type(module).__name__, "act"


def figure(columns: dict[str, nn.Module]) -> Figure:
    """Draw a column per block, top to bottom in the order of its forward pass."""
    traced = {title: operations(block) for title, block in columns.items()}
    height = max(map(len, traced.values()))
    figure, axes = panels(len(traced), width=2.6 * len(traced), height=0.5 * height + 1.2)
    for ax, (title, boxes) in zip(axes, traced.items(), strict=True):
        _draw(ax, boxes)
        ax.set(xlim=(-1.2, 3), ylim=(height, -1.6), title=title)
        ax.set_axis_off()
    told = (f"{t}: {', '.join(box.label for box in boxes)}" for t, boxes in traced.items())
    return described(figure, f"Flow charts, top to bottom. {'. '.join(told)}.")


def _draw(ax: Axes, boxes: list[Box]) -> None:
    where = _layout(boxes)
    line: dict[str, Any] = {"color": "0.45", "lw": 1.2, "zorder": 1}
    for i, box in enumerate(boxes):
        x, y = where[i]
        ax.text(
            x,
            y,
            box.label,
            ha="center",
            va="center",
            fontsize=9,
            bbox={"boxstyle": "round", "fc": COLOURS[box.kind], "ec": "0.7"},
        )
        for source in box.reads:
            u, v = where[source]
            if u == x and y - v == 1:
                ax.plot([u, x], [v, y], **line)
            elif u == 0 and x == 0:  # a shortcut without operations
                ax.plot([0, SIDE, SIDE, 0], [v + 0.5, v + 0.5, y, y], **line)
            elif u == 0:  # a shortcut begins
                ax.plot([0, x, x], [v + 0.5, v + 0.5, y], **line)
            else:  # a shortcut ends
                ax.plot([u, u, x], [v, y, y], **line)
    ax.plot(0, -0.55, "v", color="0.45", ms=5)


def _layout(boxes: list[Box]) -> dict[int, tuple[float, float]]:
    """Return the place of every box: the main path runs down, shortcuts stand beside it.

    A shortcut is what is called last before a sum and does not read what was called just before.
    """
    side: set[int] = set()
    for i, box in enumerate(boxes):
        branch = i - 1
        while box.kind == "sum" and branch > 0 and boxes[branch].reads == (branch - 1,):
            branch -= 1
        if box.kind == "sum" and branch > 0 and branch - 1 in box.reads:
            side |= set(range(branch, i))
    where: dict[int, tuple[float, float]] = {INPUT: (0.0, -1.0)}
    row = 0
    for i in range(len(boxes)):
        if i not in side:
            where[i] = (0.0, float(row))
            row += 1
    for i in side:
        end = next(j for j in range(i, len(boxes)) if j not in side)  # the sum that it leads to
        where[i] = (SIDE, where[end][1] - (end - i))
    return where
