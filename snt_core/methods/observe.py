"""What passes through named layers of a model, chunk by chunk.

::

    from snt_core.methods.observe import observe

    observe(my_model, ["conv1", "fc"], images, lambda name, x: print(name, x.abs().max()))
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

Preprocess = Callable[[Tensor], Tensor]  # a chunk of images to what the model takes
Capture = Literal["input", "output"]


def observe(
    model: nn.Module,
    layers: Iterable[str],
    images: Tensor,
    see: Callable[[str, Tensor], None],
    *,
    capture: Capture = "input",
    preprocess: Preprocess | None = None,
    batch_size: int = 128,
) -> None:
    """Run a copy of the model in eval mode, without gradients or autocast, and show its layers.

    Args:
        model: any model of one argument; it is left as it was.
        layers: names as in ``model.named_modules()``.
        images: N ..., shown to the model in chunks of ``batch_size``.
        see: called with the layer's name and its tensor for each chunk, and once more for each
            further time that the model calls the layer; what it gets may change afterwards, so it
            must not be kept.
        capture: ``"input"``, the layer's first argument, or ``"output"``.
        preprocess: applied to each chunk on the model's device, e.g. uint8 to normalised floats.

    Raises:
        ValueError: a layer is unknown, passes no tensor, or one that is not finite; no image.
    """
    if capture not in ("input", "output"):
        raise ValueError(f"capture '{capture}' is neither 'input' nor 'output'")
    if batch_size < 1 or len(images) == 0:
        raise ValueError(f"{len(images)} images, batch_size {batch_size}: neither may be 0")
    model = copy.deepcopy(model).eval()  # its hooks go with it
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in dict.fromkeys(layers):
        if name not in modules:
            raise ValueError(f"the model has no layer '{name}'; see model.named_modules()")
        if capture == "input":  # before the layer runs: it may work in place
            modules[name].register_forward_pre_hook(_before(name, see))
        else:
            modules[name].register_forward_hook(_after(name, see))
    device = next(model.parameters(), images).device  # the images' for a model without parameters
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for chunk in images.split(batch_size):
            model((preprocess or (lambda x: x))(chunk.to(device)))


def _before(name: str, see: Callable[[str, Tensor], None]) -> Callable:
    return lambda module, args: see(name, _checked(name, args[0] if args else None))


def _after(name: str, see: Callable[[str, Tensor], None]) -> Callable:
    return lambda module, args, output: see(name, _checked(name, output))


def _checked(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(f"layer '{name}' passes a {type(value).__name__}, not a tensor")
    if not value.isfinite().all():
        raise ValueError(f"layer '{name}' passes values that are not finite")
    return value
