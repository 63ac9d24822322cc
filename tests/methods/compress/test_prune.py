"""Exact counts, nested masks, and torch's own global pruning as oracle."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from snt_core.methods.compress.prune import (
    exponential_sparsity,
    magnitude_masks,
    prune_iterative,
    prune_magnitude,
    sparsity,
)
from snt_core.methods.models.compressible import LAYERS, prunable

TOTAL = 54 + 24 + 30  # conv, grouped conv without bias, linear


def net(levels: int = 0) -> nn.Module:
    """Small net; with `levels`, weights are whole numbers, so that most of them tie."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv1d(4, 6, 2, groups=2, bias=False),
        nn.LayerNorm(5),
        nn.Linear(5, 6),
    )
    if levels:
        for weight in prunable(model).values():
            weight.data = torch.randint(1, levels + 1, weight.shape) * weight.data.sign()
    return model


shares = st.floats(0, 1)


def test_counts_convolutions_and_linear_layers_only() -> None:
    assert list(prunable(net())) == ["0.weight", "3.weight", "5.weight"]
    assert sum(w.numel() for w in prunable(net()).values()) == TOTAL


@settings(max_examples=40, deadline=None)
@given(share=shares, levels=st.sampled_from([0, 1, 3]))
def test_exactly_k_weights_go_even_when_they_tie(share: float, levels: int) -> None:
    model = net(levels)
    zeros = TOTAL - sum(int(m.sum()) for m in magnitude_masks(model, share).values())
    assert zeros == round(share * TOTAL)
    assert sparsity(prune_magnitude(model, share)) == zeros / TOTAL


@settings(max_examples=40, deadline=None)
@given(a=shares, b=shares, levels=st.sampled_from([0, 1, 3]))
def test_a_pruned_weight_stays_pruned_at_higher_sparsity(a: float, b: float, levels: int) -> None:
    model = net(levels)
    more, fewer = (magnitude_masks(model, s) for s in sorted((a, b)))
    assert all((fewer[name] <= more[name]).all() for name in more)
    # and pruning in two steps is pruning once
    twice = prune_magnitude(prune_magnitude(model, min(a, b)), max(a, b))
    once = prune_magnitude(model, max(a, b))
    assert all(torch.equal(v, once.state_dict()[k]) for k, v in twice.state_dict().items())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.77, 0.9])
def test_equals_torch_global_unstructured(share: float) -> None:
    ours, theirs = prune_magnitude(net(), share), net()
    layers = [(theirs[i], "weight") for i in (0, 3, 5)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=share)
    for i in (0, 3, 5):
        assert torch.equal(ours[i].weight, theirs[i].weight)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_only_weights_change_and_only_in_the_copy(share: float) -> None:
    model = net().train()
    before = copy.deepcopy(model.state_dict())
    pruned = prune_magnitude(model, share)
    assert pruned.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    changed = {k for k, v in pruned.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == (set(prunable(model)) if share else set())
    assert sparsity(pruned) == round(share * TOTAL) / TOTAL


def test_layers_compete_under_one_threshold() -> None:
    model = net()
    model[5].weight.data *= 1000
    masks = magnitude_masks(model, (TOTAL - 30) / TOTAL)
    assert masks["5.weight"].all()
    assert not masks["0.weight"].any()
    assert all(m.dtype == torch.bool for m in masks.values())


def test_a_shared_weight_counts_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert list(prunable(model)) == ["0.weight"]
    pruned = prune_magnitude(model, 0.5)
    assert pruned[0].weight is pruned[1].weight
    assert int((pruned[1].weight == 0).sum()) == 8


@pytest.mark.parametrize("share", [-0.1, 1.01, 50, float("nan")])
def test_a_share_outside_0_to_1_is_named(share: float) -> None:
    with pytest.raises(ValueError, match=rf"sparsity {share} is outside \[0, 1\]"):
        prune_magnitude(net(), share)


def test_a_model_without_weights_is_named() -> None:
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        magnitude_masks(nn.BatchNorm2d(3), 0.5)
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        sparsity(nn.ReLU())


# iterative ----------------------------------------------------------------------------------


def nudge(model: nn.Module) -> None:
    """A step that moves every trainable weight, pruned ones too if nothing holds them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    optimizer.zero_grad()
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    for weight in (m.weight for m in model.modules() if isinstance(m, nn.Linear)):
        (x[:, : weight.shape[1]] @ weight.T).square().sum().backward()
    optimizer.step()


def finetune(steps: int, seen: list[float] | None = None):
    def train(model, after_step):
        for i in range(steps):
            nudge(model)
            after_step((i + 1) / steps)
            if seen is not None:
                weights = [m.weight for m in model.modules() if isinstance(m, LAYERS)]
                zeros = sum(int((w == 0).sum()) for w in weights)
                seen.append(zeros / sum(w.numel() for w in weights))

    return train


def test_every_round_ends_at_its_sparsity_and_pruned_weights_stay_away():
    model, gone = net(), None
    rounds = list(prune_iterative(model, (0.3, 0.6, 0.9), finetune(10)))
    assert [level for level, _ in rounds] == [0.3, 0.6, 0.9]
    for level, pruned in rounds:
        assert sparsity(pruned) == round(level * TOTAL) / TOTAL
        assert list(pruned.state_dict()) == list(model.state_dict())
        zero = torch.cat([(w == 0).flatten() for w in prunable(pruned).values()])
        assert gone is None or bool((gone <= zero).all())
        gone = zero
    assert sparsity(model) == 0


def test_sparsity_rises_along_the_exponential_in_the_first_half_of_a_round():
    seen: list[float] = []
    list(prune_iterative(net(), (0.8,), finetune(40, seen)))
    for i, share in enumerate(seen):
        expected = 1 - 0.2 ** min(1.0, (i + 1) / 20)  # the density goes from 1 to 0.2
        assert share == pytest.approx(expected, abs=0.5 / TOTAL + 1e-9)


def test_the_exponential_by_hand():
    assert exponential_sparsity(0.0, 0.75, 0.5) == pytest.approx(0.5)  # 1, 1/2, 1/4 are left
    assert exponential_sparsity(0.5, 0.9, 0.0) == pytest.approx(0.5)
    assert exponential_sparsity(0.5, 0.9, 1.0) == pytest.approx(0.9)
    assert exponential_sparsity(0.0, 1.0, 0.25) == 0.25


def test_training_moves_what_is_left():
    model = net()
    (_, pruned), *_ = prune_iterative(model, (0.5,), finetune(4))
    before, after = (prunable(m)["5.weight"] for m in (model, pruned))
    kept = after != 0
    assert kept.any()
    assert not torch.equal(before[kept], after[kept])


def test_a_round_that_resumes_from_its_state_dict_ends_the_same():
    """The masks are buffers: loaded in the middle of a round, they hold what went before."""
    states = []

    def train(model, after_step, first=0, stop=10):
        for i in range(first, stop):
            nudge(model)
            after_step((i + 1) / 10)
            if i == 2:
                states.append(copy.deepcopy(model.state_dict()))

    (_, whole), *_ = prune_iterative(net(), (0.7,), train)

    def resumed(model, after_step):
        model.load_state_dict(states[0])
        train(model, after_step, first=3)

    (_, again), *_ = prune_iterative(net(), (0.7,), resumed)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_iterative_pruning_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match=r"0\.3 comes after 0\.6"):
        list(prune_iterative(net(), (0.6, 0.3), finetune(2)))
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="share a weight"):
        next(prune_iterative(tied, (0.5,), finetune(2)))
