"""Steps as CUDA graphs, with a recorder that does on a CPU what a graph does on a card."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from snt_core import graphs, train
from snt_core.data import load
from snt_core.engine import Engine
from snt_core.models import build
from snt_core.specs import Recipe
from snt_core.train import optimizer_for, update

PLAIN = Engine(device="cpu", dtype="fp32", fused=False)
GRAPHS = dataclasses.replace(PLAIN, graphs=True)
RECIPE = Recipe(epochs=2, batch_size=32, lr=3e-3, warmup_epochs=0.5, weight_decay=0.05)
RECIPES = {
    "adam": RECIPE,
    "sam": dataclasses.replace(RECIPE, optimizer="sam", rho=0.05),
    "asam": dataclasses.replace(RECIPE, optimizer="sam", rho=0.5, adaptive=True),
}


class Tape(TorchDispatchMode):
    """The operations of a block with the memory that each of them reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[Callable, Any, Any, list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # by address: `p.data = other` must not change what is replayed
        args, kwargs = tree_map_only(Tensor, lambda t: t.detach(), (args, kwargs))
        for tensor in tree_flatten((args, kwargs))[0]:
            self._keep(tensor)
        out = func(*args, **kwargs)
        results = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        self.known |= {t.untyped_storage().data_ptr() for t in results}
        self.lines.append((func, args, kwargs, results))
        return out

    def _keep(self, tensor: Any) -> None:
        """What memory from outside held, since a recording carries nothing out."""
        if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
            self.known.add(tensor.untyped_storage().data_ptr())
            whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
            self.before.append((whole, whole.clone()))

    def undo(self) -> None:
        for whole, held in self.before:
            whole.copy_(held)

    def replay(self) -> None:
        for func, args, kwargs, results in self.lines:
            out = [t for t in tree_flatten(func(*args, **kwargs))[0] if isinstance(t, Tensor)]
            for old, new in zip(results, out, strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def recordings(monkeypatch):
    """Recorded as a graph would be; the list holds a tape for each recording."""
    tapes: list[Tape] = []

    def record(work):
        with Tape() as tape:
            result = work()
        tape.undo()
        tapes.append(tape)

        def replay():
            tape.replay()
            return result

        return replay

    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(graphs, "beside", lambda work: work())
    return tapes


@pytest.fixture(scope="module")
def digits():
    whole = load("digits", 180)
    return dataclasses.replace(whole, train=whole.train[:160], val=whole.val[:40])


def fit(digits, recipe, engine, **options):
    torch.set_num_threads(1)
    model = build("resnet20", "snt", 10, 0)
    return model, train.fit(model, digits, recipe, engine, seed=0, **options)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recorded_training_is_the_plain_one(digits, recordings, monkeypatch, name):
    """Bit by bit, given that a recording holds the learning rate in float32."""
    exact = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", lambda *a: float(torch.tensor(exact(*a))))
    plain, expected = fit(digits, RECIPES[name], PLAIN)
    replayed, found = fit(digits, RECIPES[name], GRAPHS)
    assert len(recordings) == 1
    assert found.steps > graphs.WARM_UP + 2
    assert found.history == expected.history
    state = replayed.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(state[key], value), key


def test_a_recorded_training_goes_on_from_its_checkpoint(digits, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECK_EVERY", 2)
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    whole, expected = fit(digits, RECIPES["sam"], GRAPHS)

    def killer(done, steps):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(digits, RECIPES["sam"], GRAPHS, checkpoint=tmp_path / "state.pt", progress=killer)
    resumed, found = fit(digits, RECIPES["sam"], GRAPHS, checkpoint=tmp_path / "state.pt")
    assert found.resumed == 6
    assert found.history == expected.history
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_a_recording_follows_batch_and_learning_rate(recordings):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    optimizer = optimizer_for(net, RECIPE)
    graphs.rate_at_fixed_address(optimizer, "cpu")
    step = graphs.Recorded(lambda x, y: update(net, optimizer, PLAIN, x, y), notify=print)
    labels = torch.tensor([0, 2])
    for _ in range(graphs.WARM_UP + 1):
        step(torch.randn(2, 3, 2, 2), labels)
    graphs.set_rate(optimizer, 0.0)
    weight = net[1].weight.detach().clone()
    images = torch.randn(2, 3, 2, 2)
    expected = nn.functional.cross_entropy(net(images), labels)
    assert torch.equal(step(images, labels), expected)
    assert torch.equal(net[1].weight, weight)
    graphs.set_rate(optimizer, 0.1)
    step(images, labels)
    assert not torch.equal(net[1].weight, weight)


def test_what_cannot_be_recorded_goes_on_as_it_is(monkeypatch):
    def refuse(work):
        raise RuntimeError("operation not permitted when stream is capturing\nlong story")

    monkeypatch.setattr(graphs, "record", refuse)
    monkeypatch.setattr(graphs, "beside", lambda work: work())
    said = []
    step = graphs.Recorded(lambda x, y: x.sum() + y.sum(), said.append)
    results = [float(step(torch.full((2,), i), torch.zeros(2))) for i in range(6)]
    assert results == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert len(said) == 1
    assert "operation not permitted" in said[0]
    assert "\n" not in said[0]
