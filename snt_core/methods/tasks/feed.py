"""Data in any of its forms, as batches that can be read again and again.

`(inputs, targets)` is a pair of tensors, split into batches; a list of batches and a DataLoader are
read as they are; where targets are not needed, a tensor of inputs is enough. A list of two tensors
is read as what a DataLoader yields, inputs and targets, where it cannot be two batches of inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

FORMS = "a pair of tensors (inputs, targets), a list of batches, or a DataLoader"


class Feed:
    """Batches of the data; iterating it begins anew.

    Attributes:
        pair: the inputs and targets where the data is such a pair, else None.
        size: the samples, where the data is one tensor or a pair, else None.
    """

    def __init__(self, data: Any, batch_size: int, *, inputs_alone: bool = False) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be a whole number >= 1")
        self.pair: tuple[Tensor, Tensor] | None = None
        self.size: int | None = None
        self._batches: Iterable[Any]
        if isinstance(data, Tensor):
            if not inputs_alone:
                raise ValueError("data is a tensor without targets: give (inputs, targets)")
            self.size = _filled(data, "data")
            self._batches = data.split(batch_size)
        elif _is_pair(data, inputs_alone):
            self.pair = inputs, targets = data[0], data[1]
            self.size = _filled(inputs, "inputs")
            if len(inputs) != _filled(targets, "targets"):
                raise ValueError(
                    f"{len(inputs)} images, {len(targets)} labels: need a label for each image"
                )
            # not a zip, which could be read only once
            self._batches = list(zip(inputs.split(batch_size), targets.split(batch_size)))
        else:
            self._batches = _batches(data)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def moved(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Return a copy of a batch, whatever its nesting, on a device.

    Floating-point tensors become `dtype`, others stay. Tensors are always copied, since a model
    whose first layer works in place would change the user's data.
    """

    def move(x: Tensor) -> Tensor:
        y = x.to(device)
        if dtype is not None and y.is_floating_point():
            y = y.to(dtype)
        return y.clone() if y is x else y

    return mapped(value, move, lambda other: other.to(device))


def floats(value: Any, dtype: torch.dtype) -> Any:
    """Return a model's output, whatever its nesting, with floating-point tensors as `dtype`."""
    return mapped(value, lambda x: x.to(dtype) if x.is_floating_point() else x)


def mapped(
    value: Any, change: Callable[[Tensor], Tensor], other: Callable[[Any], Any] | None = None
) -> Any:
    """Return nested tensors, each changed; `other` changes what has a `to` without being one.

    Mappings, lists, tuples and dataclasses are opened, and come back as what they were.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        kept = {key: mapped(part, change, other) for key, part in value.items()}
        return kept if type(value) is dict else _as(type(value), kept)
    if isinstance(value, tuple) and hasattr(value, "_fields") and not hasattr(value, "to"):
        return type(value)(*(mapped(part, change, other) for part in value))
    if isinstance(value, list | tuple) and not hasattr(value, "to"):
        return type(value)(mapped(part, change, other) for part in value)
    if other is not None and hasattr(value, "to"):
        return other(value)
    if is_dataclass(value) and not isinstance(value, type):
        made = copy.copy(value)  # not by its constructor, which may take other arguments
        for field in fields(value):
            part = mapped(getattr(value, field.name), change, other)
            object.__setattr__(made, field.name, part)  # of frozen ones too
        return made
    return value


def leaves(value: Any) -> list[Tensor]:
    """Return the tensors of a nested value, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = (getattr(value, field.name) for field in fields(value))
    return [x for part in parts for x in leaves(part)]


def _as(kind: Any, kept: dict[Any, Any]) -> Any:
    """Return the mapping as its own kind, since those of Hugging Face are read by attribute."""
    for make in (lambda: kind(**kept), lambda: kind(kept)):
        try:
            made = make()
        except TypeError:
            continue
        if isinstance(made, Mapping) and made.keys() == kept.keys():
            return made
    return kept


def _is_pair(data: Any, inputs_alone: bool) -> bool:
    """Whether data is inputs and targets rather than two batches of inputs.

    A tuple of two tensors is a pair. So is a list of two where both have as many samples, but
    samples of different shapes. Batches of inputs alone may have these too, such as images of two
    sizes, but have one number of axes, one format, and one width of rows or number of channels.

    Raises:
        ValueError: targets are not needed, and the list may be either.
    """
    if not isinstance(data, list | tuple) or len(data) != 2:
        return False
    first, second = data
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        return False
    if type(data) is not list:
        return True
    if not (first.ndim and second.ndim and len(first) == len(second)):
        return False
    if first.shape[1:] == second.shape[1:]:
        return False
    if not inputs_alone or first.ndim != second.ndim or first.dtype != second.dtype:
        return True
    rows = first.ndim == 2 and first.is_floating_point()
    if rows or (first.ndim > 3 and first.shape[1] != second.shape[1]):
        return True
    shapes = " and ".join(str(tuple(x.shape)) for x in data)
    raise ValueError(
        f"a list of two tensors of shapes {shapes} may be inputs and targets, or two batches of "
        "inputs: give (inputs, targets) as a tuple, or the batches as [[first], [second]]"
    )


def _batches(data: Any) -> Iterable[Any]:
    name = type(data).__name__
    if isinstance(data, np.ndarray) or _of_arrays(data):
        raise ValueError("data holds NumPy arrays: make tensors of them with torch.from_numpy")
    if isinstance(data, Mapping):
        raise ValueError(f"data is one {name}: give a list of batches, such as [batch]")
    if isinstance(data, Iterator):
        raise ValueError(f"data is a {name}, which can be read only once: give list(data)")
    if isinstance(data, Dataset):
        raise ValueError(f"data is a Dataset: give DataLoader({name.lower()}, batch_size=128)")
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise ValueError(f"data is a {name}: give {FORMS}")
    if isinstance(data, tuple):
        parts = ", ".join(type(part).__name__ for part in data)
        raise ValueError(f"data is a tuple of ({parts}): give {FORMS}")
    return data


def _of_arrays(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(isinstance(part, np.ndarray) for part in data)


def _filled(x: Tensor, name: str) -> int:
    if x.ndim == 0:
        raise ValueError(f"{name} is a scalar: its first axis must be the samples")
    if x.numel() == 0:
        raise ValueError(f"0 images: {name} of shape {tuple(x.shape)} holds nothing")
    return len(x)
