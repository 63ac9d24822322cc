"""Which of many weights are the smallest: exact counts, one threshold for all, ties by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import BoolTensor, Tensor


def smallest(weights: Iterable[Tensor], sparsities: Sequence[float]) -> Iterator[list[BoolTensor]]:
    """Yield, for each sparsity, a mask of each weight that is True where it stays.

    Of n entries in all, the round(sparsity * n) smallest magnitudes go; of equal ones the first, in
    the order of the weights. All sparsities take one sort together; one alone takes a partial one.

    Args:
        weights: of any shapes; finite.
        sparsities: shares in [0, 1].
    """
    weights = list(weights)
    device = weights[0].device
    magnitudes = torch.cat([w.detach().abs().flatten().to(device) for w in weights])
    counts = [round(sparsity * len(magnitudes)) for sparsity in sparsities]
    for count, threshold in zip(counts, _thresholds(magnitudes, counts), strict=True):
        kept = _kept(magnitudes, count, threshold).split([w.numel() for w in weights])
        yield [mask.view(w.shape).to(w.device) for w, mask in zip(weights, kept, strict=True)]


def _thresholds(magnitudes: Tensor, counts: Sequence[int]) -> list[Tensor | None]:
    """Return the largest magnitude that goes for each count; None where none goes."""
    used = sorted({count for count in counts if count})
    if not used:
        return [None] * len(counts)
    if magnitudes.device.type != "cpu" or magnitudes.dtype == torch.bfloat16:
        # numpy has no bfloat16; a GPU selects by itself
        found = [magnitudes.kthvalue(count).values for count in used]
    else:
        values = magnitudes.numpy()
        # numpy's are many times as fast as torch's on a CPU
        values = np.partition(values, used[0] - 1) if len(used) == 1 else np.sort(values)
        found = list(torch.from_numpy(values)[[count - 1 for count in used]])
    by_count = dict(zip(used, found, strict=True))
    return [by_count.get(count) for count in counts]


def _kept(magnitudes: Tensor, count: int, threshold: Tensor | None) -> Tensor:
    if threshold is None:
        return torch.ones_like(magnitudes, dtype=torch.bool)
    kept = magnitudes > threshold
    # a threshold alone would take or leave all equal magnitudes, and miss the count
    spared = len(kept) - count - int(kept.sum())
    if spared:
        ties = (magnitudes == threshold).nonzero().squeeze(1)
        kept[ties[len(ties) - spared :]] = True
    return kept
