"""Steps as CUDA graphs, with a recorder that does on a CPU what a graph does on a card."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from snt_core.data.load import load
from snt_core.data.split import normalise
from snt_core.fast import graphs, kernels
from snt_core.methods.compress.pact import prepare_qat
from snt_core.nets import build
from snt_core.training import fit as train
from snt_core.training.engine import Engine
from snt_core.training.fit import optimizer_for, update
from snt_core.training.recipe import Recipe

aten = torch.ops.aten
PLAIN = Engine(device="cpu", dtype="fp32", fused=False)
GRAPHS = dataclasses.replace(PLAIN, graphs=True)
RECIPE = Recipe(epochs=2, batch_size=16, lr=3e-3, warmup_epochs=0.5, weight_decay=0.05)
RECIPES = {
    "adam": RECIPE,
    "sam": dataclasses.replace(RECIPE, optimizer="sam", rho=0.05),
    "asam": dataclasses.replace(RECIPE, optimizer="sam", rho=0.5, adaptive=True),
}


WAITING = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.is_nonzero}


class Tape(TorchDispatchMode):
    """The operations of a block with the memory that each of them reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[Callable, Any, Any, list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket in WAITING:
            raise RuntimeError(f"{func} waits for the card")
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
        with Tape() as tape, pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "is_initialized", lambda: True)
            patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            result = work()
        tapes.append(tape)
        tape.undo()

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
    return dataclasses.replace(whole, train=whole.train[:112], val=whole.val[:40])


def fit(digits, recipe, engine, **options):
    torch.set_num_threads(1)
    model = build("resnet20", "snt", 10, 0)
    return model, train.fit(model, digits, recipe, engine, seed=0, **options)


@pytest.fixture
def rounded_rates(monkeypatch):
    """A recording holds the learning rate in float32; so does the plain loop then."""
    exact = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", lambda *a: float(torch.tensor(exact(*a))))


def assert_same(found, expected):
    """Of model and fit, bit by bit."""
    assert found[1].steps > graphs.WARM_UP + 2
    assert found[1].history == expected[1].history
    state = found[0].state_dict()
    for key, value in expected[0].state_dict().items():
        assert torch.equal(state[key], value), key


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "fp32") for name in RECIPES), ("sam", "bf16")]
)
def test_a_recorded_training_is_the_plain_one(digits, recordings, rounded_rates, name, dtype):
    plain, recorded = (dataclasses.replace(engine, dtype=dtype) for engine in (PLAIN, GRAPHS))
    expected = fit(digits, RECIPES[name], plain)
    found = fit(digits, RECIPES[name], recorded)
    assert len(recordings) == 1
    assert_same(found, expected)


def test_replays_see_what_happens_between_them(digits, recordings, rounded_rates):
    """Iterative pruning puts weights back to zero after each step."""
    found = []
    for engine in (PLAIN, GRAPHS):
        torch.set_num_threads(1)
        model = build("resnet20", "base", 10, 0)
        kept = {name: p.abs() > 0.1 for name, p in model.named_parameters() if p.ndim > 1}

        @torch.no_grad()
        def prune(step: int, model=model, kept=kept) -> None:
            for name, p in model.named_parameters():
                if name in kept:
                    p.mul_(kept[name])

        done = train.fit(model, digits, RECIPE, engine, seed=0, after_step=prune)
        found.append((model, done))
    assert len(recordings) == 1
    assert_same(found[1], found[0])
    name, mask = next(iter(kept.items()))
    assert torch.equal(model.get_parameter(name) != 0, mask)


def test_quantization_aware_training_can_be_recorded(
    digits, recordings, rounded_rates, monkeypatch
):
    monkeypatch.setattr(kernels, "available", lambda: False)  # a tape sees torch's operations only
    torch.set_num_threads(1)
    images = normalise(digits.train.images[:64], digits.facts)
    float_net = build("resnet20", "base", 10, 0).eval()
    student = prepare_qat(float_net, images, weight_bits=4, act_bits=4)
    found = []
    for engine in (PLAIN, GRAPHS):
        model = copy.deepcopy(student)
        found.append((model, train.fit(model, digits, RECIPE, engine, seed=0)))
    assert len(recordings) == 1
    assert_same(found[1], found[0])


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


def test_a_rate_lies_where_the_step_runs():
    """From the processor's memory a card's optimizer would read it once, while recording."""
    optimizer = optimizer_for(nn.Linear(2, 2), RECIPE)
    graphs.rate_at_fixed_address(optimizer, "meta")
    assert all(group["lr"].device.type == "meta" for group in optimizer.param_groups)
    assert all(group["capturable"] for group in optimizer.param_groups)


def test_a_step_that_waits_for_the_card_is_not_recorded(recordings):
    said = []
    step = graphs.Recorded(lambda x, y: torch.tensor(float(x.sum())), said.append)
    for i in range(6):
        assert float(step(torch.full((2,), i), torch.zeros(2))) == 2 * i
    assert len(said) == 1


class Card:
    """Stands for `torch.cuda`; `said` is what was asked of it, in order."""

    def __init__(self, monkeypatch) -> None:
        self.said: list[str] = []
        graphs._side.cache_clear()
        for name in ("Stream", "CUDAGraph", "current_stream", "set_stream", "graph", "stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def Stream(self):
        return SimpleNamespace(wait_stream=lambda other: self.said.append("side waits"))

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: self.said.append("replay"))

    def current_stream(self):
        return SimpleNamespace(wait_stream=lambda other: self.said.append("main waits"))

    def set_stream(self, stream) -> None:
        self.said.append("stream restored")

    @contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        assert stream is graphs._side()
        assert capture_error_mode == "thread_local"
        self.said.append("record")
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError("failed due to a previous error during capture") from error

    @contextmanager
    def stream(self, stream):
        assert stream is graphs._side()
        self.said.append("beside")
        yield


def test_what_is_asked_of_the_card(monkeypatch):
    card = Card(monkeypatch)
    step = graphs.Recorded(lambda x, y: card.said.append("work") or x, print)
    for _ in range(graphs.WARM_UP + 2):
        step(torch.ones(2), torch.zeros(2))
    warm = ["side waits", "beside", "work", "main waits"]
    assert card.said == [*warm * graphs.WARM_UP, "record", "work", "replay", "replay"]
    graphs._side.cache_clear()


def test_a_failed_recording_leaves_the_stream_as_it_was_and_says_why(monkeypatch):
    card = Card(monkeypatch)
    said = []

    def work(x, y):
        if card.said[-1] == "record":
            raise RuntimeError("operation not permitted")
        return x

    step = graphs.Recorded(work, said.append)
    for _ in range(graphs.WARM_UP + 2):
        step(torch.ones(2), torch.zeros(2))
    assert card.said[-2:] == ["record", "stream restored"]
    assert "operation not permitted" in said[0]
    assert len(said) == 1
    graphs._side.cache_clear()


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
