"""SNT for a net that exists: Eq. (1) in the place of its activations, its weights kept.

::

    from snt_core.methods.snt.to_snt import to_snt

    net, report = to_snt(my_model, images[:2])
    print(report)  # what was replaced, what was moved, and what was left as it is
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snt_core.common.arguments import require_number
from snt_core.methods.models.wrapping import copied, unwrapped
from snt_core.methods.snt.call_sites import find
from snt_core.methods.snt.preactivation import Rows, move
from snt_core.methods.snt.replacement import Replacement, difference, outputs
from snt_core.methods.snt.transform import SLOPE


@dataclass(frozen=True)
class Replaced:
    """An activation that Eq. (1) stands for now.

    Attributes:
        name: of the new module.
        was: kind of the old one, such as "ReLU".
        channels: of the layer before it: how many triples there are.
        dim: the axis of the channels.
        equal: whether Eq. (1) starts as the very function that it replaces.
    """

    name: str
    was: str
    channels: int
    dim: int
    equal: bool


@dataclass(frozen=True)
class Report:
    """What `to_snt` did to a model.

    Attributes:
        replaced: activations that are Eq. (1) now, one module a call.
        left: activations that stay, each with the reason.
        moved: activations that went before the linear layers, each with where to.
        stayed: those that could not or need not move, each with the reason.
        equal: whether the outputs for the example, in eval mode, are the old ones to the last bit.
        difference: the largest difference between them; infinite where their shapes differ.
    """

    replaced: tuple[Replaced, ...]
    left: tuple[tuple[str, str], ...]
    moved: tuple[tuple[str, str], ...]
    stayed: tuple[tuple[str, str], ...]
    equal: bool
    difference: float

    def __str__(self) -> str:
        kinds = ", ".join(sorted({r.was for r in self.replaced}))
        same = "equal to the last bit" if self.equal else f"up to {self.difference:.3g} apart"
        lines = [f"Eq. (1) in the place of {len(self.replaced)} activations ({kinds or 'none'})"]
        lines += [f"Outputs for the example, before and after: {same}"]
        lines += [
            f"  {r.name}: was {r.was}, {r.channels} channels on axis {r.dim}"
            + ("" if r.equal else "; Eq. (1) is another function")
            for r in self.replaced
        ]
        for title, rows in (
            ("Left as they are", self.left),
            ("Moved before the linear layers", self.moved),
            ("Not moved", self.stayed),
        ):
            lines += [f"{title}: {len(rows)}"] * bool(rows)
            lines += [f"  {name}: {reason}" for name, reason in rows]
        return "\n".join(lines)


class Transformed(NamedTuple):
    """The new model and the report on it."""

    model: nn.Module
    report: Report


def to_snt(
    model: nn.Module,
    example: Tensor | tuple[Any, ...],
    *,
    preact: bool = False,
    slope: float | str = "match",
) -> Transformed:
    """Return a copy of a model with Eq. (1) for its activations, and a report on what was done.

    Every call of an activation gets an `SNTActivation` of its own, with a triple for each channel
    of the layer before it; calls and channels are found by running `example`. A module that calls
    functions (`F.relu`), or one activation several times, becomes a `torch.fx.GraphModule` with
    the same children and parameters. The given model is left untouched; training mode, device
    and dtype are kept.

    Args:
        model: any net, such as those of timm and torchvision.
        example: its input, or a tuple of its arguments.
        preact: move activations that follow a shortcut's addition to before the linear layers of
            the next block, so that additions join linear operations only (section 4.1 of the
            paper). This changes what a trained net computes.
        slope: "match", that of the activation which is replaced, so that ReLU, LeakyReLU and PReLU
            stay the same function (the curved ones get 0.25); or a number for all.

    Raises:
        ValueError: an argument does not fit, the model fails on the example, or it reads what an
            activation has overwritten.
    """
    if isinstance(slope, str) and slope != "match":
        raise ValueError(f"slope is '{slope}'; it must be 'match' or a number, such as {SLOPE}")
    if not isinstance(slope, str):
        require_number(slope=slope)
    arguments = example if isinstance(example, tuple) else (example,)
    if not any(isinstance(x, Tensor) for x in arguments):
        raise ValueError(
            f"example is a {type(example).__name__}; it must be a tensor that the model takes, "
            "or a tuple of its arguments"
        )
    origin = unwrapped(model)
    net = copied(origin).eval()
    pairs = zip(net.modules(), origin.modules(), strict=True)
    modes = {module: before.training for module, before in pairs}
    try:
        # by itself, since some layers take another kernel when they are watched
        expected = outputs(net, arguments)
        trace = find(net, arguments)
    except (RuntimeError, TypeError, IndexError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"the model fails on the example: {reason}") from error
    work = Replacement(net, slope, modes)
    work.replace(trace)
    work.check_wiring(arguments, expected)
    net = work.net
    moved: Rows = []
    stayed: Rows = []
    if preact:
        net, moved, stayed = move(net, arguments, modes)
    found = outputs(net, arguments)
    for module in net.modules():
        module.training = modes.get(module, origin.training)
    names = {module: name for name, module in net.named_modules()}
    replaced = [
        Replaced(names[new], site.kind, site.channels, site.dim, equal)
        for new, site, equal in work.replaced
    ]
    report = Report(
        *(tuple(replaced), tuple(work.left), tuple(moved), tuple(stayed)),
        equal=len(found) == len(expected) and all(map(torch.equal, found, expected)),
        difference=difference(found, expected),
    )
    return Transformed(net, report)
