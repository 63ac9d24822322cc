"""Pruning in one's own loop: what stays zero, what resumes, and what is an error."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from snt_core.methods.compress.prune import magnitude_masks, prune_magnitude, sparsity
from snt_core.methods.compress.pruner import MagnitudePruner
from snt_core.methods.compress.quantize import fake_quantize_weights, freeze
from snt_core.methods.models.compressible import prunable
from snt_core.methods.models.coverage import coverage

TOTAL = 6 * 8 + 8 * 3


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model, optimizer, pruner, steps, first=0, dtype=torch.float32):
    levels = []
    for i in range(first, first + steps):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(i)).to(dtype)

        def closure(x=x):
            optimizer.zero_grad()
            loss = (model(x) - x[:, :3]).float().square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        pruner.step()
        levels.append(sparsity(model))
    return levels


OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.1, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.05, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_away_whatever_moves_them(name: str, later: bool) -> None:
    model = net()
    if later:
        pruner = MagnitudePruner(model, 0.8, steps=10)
        optimizer = OPTIMIZERS[name](model.parameters())
    else:
        optimizer = OPTIMIZERS[name](model.parameters())
        pruner = MagnitudePruner(model, 0.8, steps=10)
    gone = torch.zeros(TOTAL, dtype=torch.bool)
    for i in range(15):
        [level] = train(model, optimizer, pruner, 1, first=i)
        zero = torch.cat([(w == 0).flatten() for w in prunable(model).values()])
        assert (gone <= zero).all()
        gone = zero
        share = min(1, (i + 1) / 10)  # the density decays exponentially from 1 to 0.2
        assert level == pytest.approx(1 - 0.2**share, abs=0.5 / TOTAL + 1e-9) == pruner.sparsity
    small = pruner.finalize()
    assert small is model
    assert sparsity(small) == round(0.8 * TOTAL) / TOTAL
    assert [type(p) for p in small.parameters()] == [nn.Parameter] * 4
    assert coverage(small).touched["0.weight"] == "pruned to 0.8 of all weights"


def test_one_step_without_training_is_pruning_once() -> None:
    model = net()
    expected = prune_magnitude(model, 0.6).state_dict()
    pruner = MagnitudePruner(model, 0.6)
    pruner.step()
    assert all(torch.equal(v, expected[k]) for k, v in pruner.finalize().state_dict().items())


@pytest.mark.parametrize(
    "schedule",
    [[0.1, 0.1, 0.5, 0.7], torch.tensor([0.1, 0.1, 0.5, 0.7]).double(), lambda i: min(0.1 * i, 1)],
)
def test_lists_and_functions_of_the_step(schedule) -> None:
    model = net()
    pruner = MagnitudePruner(model, schedule)
    levels = train(model, torch.optim.SGD(model.parameters(), 0.1), pruner, 6)
    asked = [0.1 * i for i in range(1, 7)] if callable(schedule) else [0.1, 0.1, 0.5, *[0.7] * 3]
    assert levels == [round(level * TOTAL) / TOTAL for level in asked]
    pruner.finalize()


@pytest.mark.parametrize("change", [lambda layer: layer, parametrizations.weight_norm])
@pytest.mark.parametrize("at", [1, 4, 9])
def test_resumed_equals_uninterrupted(at: int, change) -> None:
    def parts():
        model = net()
        change(model[0])
        optimizer = torch.optim.Adam(model.parameters(), 0.05, weight_decay=0.1)
        return model, optimizer, MagnitudePruner(model, 0.8, steps=7)

    whole = parts()
    train(*whole, 12)
    first = parts()
    train(*first, at)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    again = parts()
    for part, state in zip(again, torch.load(file, weights_only=True)):
        part.load_state_dict(state)
    train(*again, 12 - at, first=at)
    expected = whole[2].finalize().state_dict()
    for key, value in again[2].finalize().state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_that_moves_to_another_format_stays_pruned(dtype: torch.dtype) -> None:
    model = net()
    pruner = MagnitudePruner(model, [0.3, 0.5])
    pruner.step()
    model.to(dtype)
    train(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), pruner, 3, dtype=dtype)
    assert sparsity(pruner.finalize()) == 0.5


def test_a_pruned_model_is_pruned_further_from_where_it_is() -> None:
    model = prune_magnitude(net(), 0.5)
    gone = {name: w == 0 for name, w in prunable(model).items()}
    pruner = MagnitudePruner(model, 0.9, steps=20)
    levels = train(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), pruner, 20)
    assert levels[0] == pytest.approx(1 - 0.5 * 0.2**0.05, abs=0.5 / TOTAL + 1e-9)
    assert all((w[gone[name]] == 0).all() for name, w in prunable(pruner.finalize()).items())


@pytest.mark.parametrize(
    "wrap",
    [lambda m: torch.compile(m, backend="eager"), nn.DataParallel],
)
def test_wrapped_models_are_pruned_inside(wrap) -> None:
    model = net()
    pruner = MagnitudePruner(wrap(model), 0.5)
    pruner.step()
    assert pruner.finalize() is model
    assert sparsity(model) == 0.5


def test_normalised_weights_are_masked_as_they_are_used() -> None:
    model = net()
    parametrizations.weight_norm(model[0])
    parametrizations.spectral_norm(model[2])
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    pruner = MagnitudePruner(model, 0.5, steps=3)
    levels = train(model, optimizer, pruner, 5)
    assert levels[2:] == [0.5] * 3
    x = torch.randn(4, 6)
    y = model.eval()(x)
    small = pruner.finalize()
    assert torch.equal(small(x), y)
    assert list(small.state_dict()) == list(net().state_dict())
    assert sparsity(small) == 0.5


def test_a_net_that_rounds_its_weights_is_pruned_before_it_rounds() -> None:
    model = fake_quantize_weights(net(), 8)
    pruner = MagnitudePruner(model, 0.5, steps=3)
    train(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), pruner, 5)
    originals = [model[i].parametrizations.weight.original for i in (0, 2)]
    assert sum(int((w == 0).sum()) for w in originals) == TOTAL // 2
    assert sparsity(freeze(pruner.finalize())) >= 0.5


def test_tied_and_recurrent_weights() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "rnn": nn.GRU(4, 4)})
    model["b"].weight = model["a"].weight
    pruner = MagnitudePruner(model, 0.5)
    masks = magnitude_masks(model, 0.5)
    pruner.step()
    assert {n: m.tolist() for n, m in pruner.masks.items()} == {
        n: m.tolist() for n, m in masks.items()
    }
    pruner.finalize()["rnn"](torch.randn(2, 3, 4))
    assert model["b"].weight is model["a"].weight


# errors -------------------------------------------------------------------------------------


def test_forgotten_steps_are_an_error() -> None:
    model = net()
    with pytest.raises(ValueError, match=r"step\(\) was called 0 of 1 times"):
        MagnitudePruner(model, 0.5).finalize()
    with pytest.raises(ValueError, match=r"0 of 1 times"):
        MagnitudePruner(model, lambda step: 0.5).finalize()
    pruner = MagnitudePruner(model, [0.1, 0.5])
    pruner.step()
    with pytest.raises(ValueError, match=r"1 of 2 times, so that sparsity is 0\.09"):
        pruner.finalize()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    train(model, optimizer, pruner, 1)
    model(torch.randn(8, 6)).square().sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"pruned weights of '0\.weight' moved"):
        pruner.finalize()
    pruner.step()
    assert sparsity(pruner.finalize()) == 0.5


def test_what_is_finalized_is_over() -> None:
    pruner = MagnitudePruner(net(), 0.5)
    pruner.step()
    pruner.finalize()
    for call in (pruner.step, pruner.finalize, lambda: pruner.load_state_dict(pruner.state_dict())):
        with pytest.raises(ValueError, match="finalized already"):
            call()


@pytest.mark.parametrize(
    ("schedule", "steps", "words"),
    [
        (1.5, None, r"1\.5 is outside \[0, 1\]"),
        (float("nan"), None, "nan is outside"),
        ([0.1, -1], None, "-1 is outside"),
        ([0.5, 0.4], None, r"0\.4 comes after 0\.5"),
        ([], None, "no sparsity"),
        (0.5, 0, "steps 0 must be 1 or more"),
        ([0.5], 3, "steps 3 go with a single target"),
        (0.2, 5, r"0\.2 is below the model's own, 0\.5"),
        ([0.1, 0.2], None, r"0\.2 is below the model's own, 0\.5"),
    ],
)
def test_schedules_that_make_no_sense_are_named(schedule, steps, words: str) -> None:
    model = prune_magnitude(net(), 0.5)
    with pytest.raises(ValueError, match=words):
        MagnitudePruner(model, schedule, steps=steps)


def test_a_function_may_not_fall_or_leave_the_range() -> None:
    pruner = MagnitudePruner(net(), lambda step: {1: 0.5, 2: 0.4}[step])
    pruner.step()
    with pytest.raises(ValueError, match=r"0\.4 of step 2 comes after 0\.5"):
        pruner.step()
    with pytest.raises(ValueError, match=r"2\.0 is outside"):
        MagnitudePruner(net(), lambda step: 2).step()


def test_models_that_cannot_be_pruned_are_named() -> None:
    hooked = net()
    weight_norm(hooked[0])
    with pytest.raises(ValueError, match=r"'0\.weight' is computed by a hook, WeightNorm"):
        MagnitudePruner(hooked, 0.5)
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        MagnitudePruner(nn.ReLU(), 0.5)
    broken = net()
    pruner = MagnitudePruner(broken, 0.5)
    broken[2].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"'2\.weight' is not finite"):
        pruner.step()


def test_states_of_another_model_are_named() -> None:
    pruner = MagnitudePruner(net(), 0.5)
    other = MagnitudePruner(nn.Sequential(nn.Linear(6, 9)), 0.5)
    with pytest.raises(ValueError, match=r"'0\.weight' has shape \(9, 6\) there, \(8, 6\) here"):
        pruner.load_state_dict(other.state_dict())
    state = copy.copy(pruner.state_dict())
    del state["asked"]
    with pytest.raises(ValueError, match=r"lacks \['asked'\]"):
        pruner.load_state_dict(state)
