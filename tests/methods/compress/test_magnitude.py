"""The smallest weights against a stable sort of them all."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snt_core.methods.compress.magnitude import smallest
from snt_core.methods.compress.prune import prune_magnitude, prune_sweep


def by_sorting(weights: list[Tensor], sparsity: float) -> list[Tensor]:
    magnitudes = torch.cat([w.abs().flatten() for w in weights])
    kept = torch.ones_like(magnitudes, dtype=torch.bool)
    kept[magnitudes.argsort(stable=True)[: round(sparsity * len(kept))]] = False
    return [m.view_as(w) for w, m in zip(weights, kept.split([w.numel() for w in weights]))]


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@settings(max_examples=150, deadline=None)
@given(
    sparsities=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    levels=st.sampled_from([0, 1, 2, 5, 50]),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 10**6),
)
def test_masks_are_those_of_a_stable_sort_ties_included(
    sparsities: list[float], levels: int, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(s, generator=generator) for s in ((7, 5), (3, 2, 2), (0, 4), (11, 1))]
    if levels:
        weights = [(w * levels).round() / levels for w in weights]
    weights = [w.to(dtype) for w in weights]
    for sparsity, masks in zip(sparsities, smallest(weights, sparsities), strict=True):
        expected = by_sorting(weights, sparsity)
        assert all(torch.equal(a, b) for a, b in zip(masks, expected, strict=True))


def test_formats_and_strides_may_be_mixed() -> None:
    weights = [torch.randn(4, 6).mT, torch.randn(5, 5).half(), torch.randn(2, 3).double()]
    [masks] = smallest(weights, [0.5])
    assert all(torch.equal(a, b) for a, b in zip(masks, by_sorting(weights, 0.5), strict=True))


def test_a_sweep_is_pruning_to_each_level_with_one_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(5, 6))
    levels = [0.9, 0.0, 0.5, 0.5, 1.0]
    expected = [prune_magnitude(model, level).state_dict() for level in levels]
    before, sorts = copy.deepcopy(model.state_dict()), []
    plain = np.sort
    monkeypatch.setattr(np, "sort", lambda *args: sorts.append(1) or plain(*args))
    monkeypatch.setattr(np, "partition", None)
    found = list(prune_sweep(model, levels))
    assert [level for level, _ in found] == levels
    for (_, pruned), state in zip(found, expected, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in pruned.state_dict().items())
    assert sorts == [1]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_sweep_checks_every_level_first() -> None:
    with pytest.raises(ValueError, match=r"sparsity 1\.5 is outside"):
        next(prune_sweep(nn.Linear(3, 3), [0.5, 1.5]))
