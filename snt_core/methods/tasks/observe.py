"""What passes through named layers of a model, chunk by chunk.

::

    from snt_core.methods.tasks.observe import observe

    observe(my_model, ["conv1", "fc"], images, lambda name, x: print(name, x.abs().max()))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from snt_core.methods.models.wrapping import eval_copy, opened, unwrapped
from snt_core.methods.tasks.objective import Inputs, Preprocess, changed
from snt_core.methods.tasks.task import Task

Capture = Literal["input", "output"]
Range = tuple[float, float]
CLOSE = 1e-3  # how far two passes over one set of data may lie apart, as a share of a range


class Chunks(TypedDict, total=False):
    """How :func:`observe` shows data to a model: keywords that other functions hand on to it."""

    task: Task | None
    preprocess: Preprocess | None
    batch_size: int


@torch.inference_mode(False)
def observe(
    model: nn.Module,
    layers: Iterable[str],
    data: Any,
    see: Callable[[str, Tensor], None],
    *,
    task: Task | None = None,
    capture: Capture = "input",
    preprocess: Preprocess | None = None,
    batch_size: int = 128,
) -> None:
    """Run a copy of the model in eval mode, without gradients or autocast, and show its layers.

    Args:
        model: any model; it is left as it was.
        layers: names as in ``model.named_modules()``.
        data: inputs N ... or a pair `(inputs, targets)`, shown to the model in chunks of
            ``batch_size``; or a list of batches, or a DataLoader. Targets do not count.
        see: called with the layer's name and its tensor for each chunk, and once more for each
            further time that the model calls the layer; what it gets may change afterwards, so it
            must not be kept.
        task: how the model is called on a batch (its ``forward``); the rest of it does not count.
        capture: ``"input"``, the layer's first argument, or ``"output"``.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: a layer is unknown, passes no tensor, or one that is not finite; no image.
    """
    if capture not in ("input", "output"):
        raise ValueError(f"capture '{capture}' is neither 'input' nor 'output'")
    inputs = Inputs(data, task, batch_size=batch_size, preprocess=preprocess)
    model = eval_copy(model)  # its hooks go with it
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in dict.fromkeys(layers):
        if name not in modules:
            raise ValueError(f"the model has no layer '{name}'; see model.named_modules()")
        layer = unwrapped(modules[name])
        if capture == "input":  # before the layer runs: it may work in place
            layer.register_forward_pre_hook(_before(name, see), with_kwargs=True)
        else:
            layer.register_forward_hook(_after(name, see))
    with torch.no_grad():
        inputs.show(opened(model))


def agree(first: Mapping[str, Range], second: Mapping[str, Range]) -> None:
    """Raise ValueError where a second pass over the data spans other ranges than the first."""
    for name, (low, high) in first.items():
        below, above = second.get(name, (0.0, 0.0))
        apart = max(abs(below - low), abs(above - high))
        if apart > CLOSE * (high - low):
            raise changed(
                f"showed layer '{name}' values from {low:.6g} to {high:.6g}, then from "
                f"{below:.6g} to {above:.6g}"
            )


def _before(name: str, see: Callable[[str, Tensor], None]) -> Callable:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        passed = (*args, *kwargs.values())  # of a call layer(input=x) too
        see(name, _checked(name, passed[0] if passed else None))

    return before


def _after(name: str, see: Callable[[str, Tensor], None]) -> Callable:
    return lambda module, args, output: see(name, _checked(name, output))


def _checked(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(f"layer '{name}' passes a {type(value).__name__}, not a tensor")
    if not value.isfinite().all():
        raise ValueError(f"layer '{name}' passes values that are not finite")
    return value
