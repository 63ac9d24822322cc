"""The smallest form in which a tensor is kept whole: raw, as codes, without its zeros, or both.

::

    from snt_core.methods.compress.quantize import quantize_weights
    from snt_core.methods.export.encoding import decode, encode

    layer = quantize_weights(my_model, 4).conv2
    entry, parts = encode(layer.weight, layer.weight_codes["weight"])
    weight, codes = decode(entry, parts)  # equal to the layer's in every number

Codes of b bits take b bits each. What is mostly zero keeps its other numbers, and where they are: a
bit for each number, or their positions at ceil(log2 n) bits each, whichever is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from snt_core.methods.compress.weight_codes import WeightCodes
from snt_core.methods.export.bits import pack, packed_size, unpack

Places = Literal["all", "mask", "positions"]
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
} | {"bool": torch.bool}
INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16}
PART = 100  # bytes that a file needs to name one more part
LARGEST = 2**31  # numbers of a tensor that is looked at; larger ones stay raw


@dataclass(frozen=True)
class Entry:
    """What the parts of a tensor mean.

    Attributes:
        shape: of the tensor.
        dtype: of the tensor, a name in ``DTYPES``.
        places: which numbers are kept, and how that is said.
        count: numbers that are kept.
        bits: of each code; None if numbers are kept as they are.
    """

    shape: tuple[int, ...]
    dtype: str
    places: Places
    count: int
    bits: int | None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def sizes(self) -> dict[str, tuple[torch.dtype, int | None]]:
        """Return dtype and number of entries of each part; None: the scale's is its own affair."""
        found: dict[str, tuple[torch.dtype, int | None]] = {}
        if self.dtype == "bool":
            return {"bits": (torch.uint8, packed_size(self.numel, 1))}
        if self.bits is None:
            found["values"] = (DTYPES[self.dtype], self.count)
        else:
            found["codes"] = (torch.uint8, packed_size(self.count, self.bits))
            found["scale"] = (torch.float32, None)
        if self.places == "mask":
            found["mask"] = (torch.uint8, packed_size(self.numel, 1))
        elif self.places == "positions":
            found["positions"] = (torch.uint8, packed_size(self.count, _width(self.numel)))
        return found


def encode(tensor: Tensor, codes: WeightCodes | None) -> tuple[Entry, dict[str, Tensor]] | None:
    """Return the smallest form of a tensor and its parts, by name; None if that is the raw one.

    Args:
        tensor: on the CPU.
        codes: its levels; None, or ones that it does not keep to the last bit, are passed over.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in DTYPES or not 1 < tensor.numel() < LARGEST:
        return None
    if name == "bool":
        entry = Entry(tuple(tensor.shape), name, "all", tensor.numel(), None)
        small = packed_size(tensor.numel(), 1) + PART < tensor.numel()
        return (entry, {"bits": pack(tensor, 1)}) if small else None
    integers = codes.codes(tensor) if codes is not None else None
    # as bits, so that a negative zero counts as a number to keep
    same = INTEGERS[tensor.element_size()]
    kept = tensor.contiguous().view(same) != 0 if integers is None else integers != 0
    levels = codes if integers is not None else None
    best = min(_candidates(tensor, kept, levels), key=lambda found: _bytes(found, levels, tensor))
    if _bytes(best, levels, tensor) >= tensor.numel() * tensor.element_size():
        return None
    return best, _parts(best, tensor, kept, integers, levels)


def _candidates(tensor: Tensor, kept: Tensor, levels: WeightCodes | None) -> Iterator[Entry]:
    shape, name = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    bits = None if levels is None else levels.bits
    yield Entry(shape, name, "all", tensor.numel(), bits)
    for places in ("mask", "positions"):
        yield Entry(shape, name, places, int(kept.sum()), bits)


def _bytes(entry: Entry, levels: WeightCodes | None, tensor: Tensor) -> int:
    """Return what a form takes in a file, names of further parts included."""
    total = -PART  # which the raw tensor has, too
    for dtype, count in entry.sizes().values():
        if count is None:
            scale = levels.scale if levels is not None else tensor
            total += PART + scale.numel() * scale.element_size()
        else:
            total += PART + count * dtype.itemsize
    return total


def _parts(
    entry: Entry,
    tensor: Tensor,
    kept: Tensor,
    integers: Tensor | None,
    levels: WeightCodes | None,
) -> dict[str, Tensor]:
    parts = {}
    numbers = (tensor if integers is None else integers).flatten()
    if entry.places != "all":
        numbers = numbers[kept.flatten()]
    if entry.places == "mask":
        parts["mask"] = pack(kept, 1)
    elif entry.places == "positions":
        parts["positions"] = pack(kept.flatten().nonzero(), _width(entry.numel))
    if levels is None:
        parts["values"] = numbers.clone()
    else:
        parts["codes"] = pack(numbers.int() + levels.top, levels.bits)
        parts["scale"] = levels.scale.clone()
    return parts


def decode(entry: Entry, parts: dict[str, Tensor]) -> tuple[Tensor, WeightCodes | None]:
    """Return the tensor, and its levels where it is kept as codes.

    Raises:
        ValueError: the parts are not those that the entry needs, or contradict it.
    """
    _check(entry, parts)
    if entry.dtype == "bool":
        return unpack(parts["bits"], 1, entry.numel).bool().view(entry.shape), None
    levels = None
    if entry.bits is None:
        numbers = parts["values"]
    else:
        levels = WeightCodes(entry.bits, parts["scale"])
        integers = unpack(parts["codes"], entry.bits, entry.count) - levels.top
        if entry.count and integers.max() > levels.top:
            raise ValueError(f"codes beyond {entry.bits} bits' largest")
        numbers = integers.to(torch.int8)
    whole = numbers
    if entry.places != "all":
        whole = numbers.new_zeros(entry.numel)
        whole[_places(entry, parts)] = numbers
    whole = whole.view(entry.shape)
    if levels is None:
        return whole, None
    return levels.weight(whole, DTYPES[entry.dtype]), levels


def _places(entry: Entry, parts: dict[str, Tensor]) -> Tensor:
    if entry.places == "mask":
        kept = unpack(parts["mask"], 1, entry.numel).bool()
        if int(kept.sum()) != entry.count:
            raise ValueError(f"a mask of {int(kept.sum())} numbers, where {entry.count} are kept")
        return kept
    positions = unpack(parts["positions"], _width(entry.numel), entry.count)
    if entry.count and (positions[-1] >= entry.numel or (positions.diff() <= 0).any()):
        raise ValueError("positions that do not rise, or lie beyond the end")
    return positions


def _check(entry: Entry, parts: dict[str, Tensor]) -> None:
    if entry.bits is not None and (entry.bits not in range(2, 9) or entry.dtype == "bool"):
        raise ValueError(f"codes of {entry.bits} bits for {entry.dtype}")
    if not 0 <= entry.count <= entry.numel or (
        entry.places == "all" and entry.count != entry.numel
    ):
        raise ValueError(f"{entry.count} numbers kept of {entry.numel}")
    sizes = entry.sizes()
    if set(parts) != set(sizes):
        raise ValueError(f"parts {sorted(parts)}, where {sorted(sizes)} are needed")
    for name, (dtype, count) in sizes.items():
        part = parts[name]
        if count is not None and (part.dtype != dtype or part.shape != (count,)):
            raise ValueError(
                f"{name} of {part.dtype} {tuple(part.shape)}, where {dtype} ({count},) is needed"
            )
    if entry.bits is not None:
        scale = parts["scale"]
        fits = scale.dim() == 0 or (
            scale.dim() == len(entry.shape)
            and all(a in (1, b) for a, b in zip(scale.shape, entry.shape, strict=True))
        )
        if not fits or not scale.is_floating_point():
            raise ValueError(f"a scale of shape {tuple(scale.shape)} for {entry.shape}")
        if not (scale.isfinite() & (scale > 0)).all():
            raise ValueError("a scale that is not above 0 and finite")


def _width(numel: int) -> int:
    """Return the bits of a position among ``numel``."""
    return max(1, (numel - 1).bit_length())


def as_json(entry: Entry) -> list[Any]:
    """Return an entry as a short list for JSON."""
    return [list(entry.shape), entry.dtype, entry.places, entry.count, entry.bits]


def from_json(found: Any) -> Entry:
    """Return the entry of :func:`as_json`.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(found, list) or len(found) != 5:
        raise ValueError("an entry that is no list of five")
    shape, dtype, places, count, bits = found
    whole = [*shape, count, 0 if bits is None else bits] if isinstance(shape, list) else [None]
    plain = all(type(n) is int and n >= 0 for n in whole)
    if not plain or dtype not in DTYPES or places not in ("all", "mask", "positions"):
        raise ValueError(f"an entry {str(found)[:80]}")
    return Entry(tuple(shape), dtype, places, count, bits)
