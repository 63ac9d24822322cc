"""Whole numbers of few bits, packed without gaps.

::

    import torch
    from snt_core.methods.export.bits import pack, packed_size, unpack

    packed = pack(torch.tensor([5, 0, 7]), width=3)  # 9 bits in 2 bytes: 10100011 10000000
    unpack(packed, width=3, count=3)  # tensor([5, 0, 7])

The first number has the highest bits of the first byte; the last byte is filled with zeros.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

PIECE = 2**20  # numbers at a time, each of which takes `width` bytes meanwhile; a multiple of 8


def packed_size(count: int, width: int) -> int:
    """Return how many bytes ``count`` numbers of ``width`` bits take."""
    return (count * width + 7) // 8


def pack(numbers: Tensor, width: int) -> Tensor:
    """Return whole numbers in 0..2**width - 1 as a row of bytes, uint8.

    Args:
        numbers: any shape, read row by row.
        width: 1 to 32 bits for each.
    """
    flat = numbers.flatten().numpy().astype(np.uint8 if width <= 8 else np.uint32)
    pieces = [_bits(flat[i : i + PIECE], width) for i in range(0, len(flat), PIECE)]
    packed = [piece if width == 8 else np.packbits(piece) for piece in pieces]
    return torch.from_numpy(np.concatenate([np.zeros(0, np.uint8), *packed]))


def _bits(numbers: np.ndarray, width: int) -> np.ndarray:
    """Return the bits of each number in a row, the highest first; of 8 bits the numbers."""
    if width == 8:
        return numbers
    if width < 8:
        return np.unpackbits(numbers[:, None], axis=1)[:, 8 - width :]
    places = np.arange(width - 1, -1, -1, dtype=np.uint32)
    return (numbers[:, None] >> places & 1).astype(np.uint8)


def unpack(packed: Tensor, width: int, count: int) -> Tensor:
    """Return the first ``count`` numbers of :func:`pack`, int64.

    Args:
        packed: uint8, of :func:`packed_size` bytes.
        width: 1 to 32 bits for each.
    """
    found = np.empty(count, np.uint8 if width <= 8 else np.int64)
    for start in range(0, count, PIECE):
        stop = min(start + PIECE, count)
        piece = packed.numpy()[start * width // 8 : packed_size(stop, width)]
        found[start:stop] = _numbers(piece, width, stop - start)
    return torch.from_numpy(found.astype(np.int64))


def _numbers(packed: np.ndarray, width: int, count: int) -> np.ndarray:
    if width == 8:
        return packed
    bits = np.unpackbits(packed)[: count * width].reshape(-1, width)
    if width < 8:
        whole = np.zeros((count, 8), np.uint8)
        whole[:, 8 - width :] = bits
        return np.packbits(whole)
    places = np.arange(width - 1, -1, -1, dtype=np.int64)
    return (bits.astype(np.int64) << places).sum(1)
