"""Table 1 measured: what a step of Adam, SAM and SNT costs in one process, in alternation."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

from snt_core.common.timing import seconds_of
from snt_core.common.workers import Workers
from snt_core.data.facts import Facts
from snt_core.data.split import Dataset, Split, normalise
from snt_core.fast import graphs
from snt_core.fast.fused import fuse
from snt_core.fast.memory_format import channels_last
from snt_core.nets import build
from snt_core.training.engine import Engine, peak_memory
from snt_core.training.fit import optimizer_for, stepper
from snt_core.training.recipe import Recipe

# contender -> variant of the net that it trains
CONTENDERS = {
    "adam": "base",
    "sam": "base",
    "snt": "snt",
    "adam_eager": "base",
    "snt_eager": "snt",
}
PROCESSES = 5  # in which memory is measured: a process's peak varies by a tenth and more
EAGER = ("adam_eager", "snt_eager")  # plain PyTorch operators, whatever kernels there are


class Timing(Protocol):
    """What `measure` reads of a specification: `rounds` steps of each contender are timed."""

    @property
    def model(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def rounds(self) -> int: ...


def measure(
    spec: Timing,
    data: Dataset,
    engine: Engine,
    *,
    fused: bool,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Return `{"steps": ...}`: each contender's seconds by round and their median, MB by process.

    Every round takes one step of each contender on the same batch, in an order that turns from
    round to round, so that a machine that slows down slows them all. Without `fused` all are
    eager, and those of that name are not measured again.
    """
    names = [name for name in CONTENDERS if fused or name not in EAGER]
    batch = data.train.tensors(spec.batch_size)
    step_of = {name: _stepper(name, spec, batch, data.facts, engine, fused) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-_untimed(engine), spec.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            elapsed = seconds_of(step_of[name], torch.device(engine.device))
            if turn >= 0:
                seconds[name].append(elapsed)
        progress(max(0, turn), spec.rounds)
    steps: dict[str, Any] = {
        name: {
            "seconds": [round(s, 6) for s in seconds[name]],
            "median": statistics.median(seconds[name]),
            "memory_mb": [],
        }
        for name in names
    }
    for _ in range(max(1, min(PROCESSES, spec.rounds // 2))):
        for name in names:
            steps[name]["memory_mb"].append(_memory(name, spec, data.facts, engine, fused))
    return {"steps": steps}


def _untimed(engine: Engine) -> int:
    """Return after how many steps all is made: caches, states, a compiled kernel, a recording."""
    return graphs.WARM_UP + 1 if engine.graphs else 2


def _stepper(
    name: str, spec: Timing, batch: Split, facts: Facts, engine: Engine, fused: bool
) -> Callable[[], Any]:
    """Return one optimizer step of a contender on a fixed batch, as a function."""
    model = build(spec.model, CONTENDERS[name], facts.num_classes, spec.seed)
    model = channels_last(model.to(engine.device)).train()
    fuse(model, fused and name not in EAGER)
    rho: dict[str, Any] = {"optimizer": "sam", "rho": 0.05} if name == "sam" else {}
    optimizer = optimizer_for(model, Recipe(epochs=1, lr=1e-4, **rho))
    images = normalise(batch.images, facts)
    return partial(stepper(model, optimizer, engine), images, batch.labels)


def _memory(name: str, spec: Timing, facts: Facts, engine: Engine, fused: bool) -> float:
    """Return the MB that some steps need beyond what the process had.

    On a CPU they run in a process of their own, since a process's peak never falls.
    """
    if engine.device == "cuda":
        return _growth(name, spec, facts, engine, fused)
    # torch is imported once for all contenders, and so is what an optimizer asks for
    with Workers(1, _end_at_once, (__name__, "torch._dynamo")) as one:
        one.hand_out(name, _growth, name, spec, facts, engine, fused)
        (answer,) = one.answers()
        if answer.error is not None:
            raise answer.error
        return float(answer.value)


def _end_at_once() -> None:
    """Let this process end when it is told to: there is no checkpoint to write."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _growth(name: str, spec: Timing, facts: Facts, engine: Engine, fused: bool) -> float:
    """Return by how many MB some steps raise this process's peak."""
    torch.set_num_threads(engine.threads)
    shape = (spec.batch_size, facts.size, facts.size, 3)
    black = Split(torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[0], dtype=torch.int64))
    batch = black.to(engine.device)  # a step needs the same memory whatever it sees
    # A first step on one image loads what the compiler needs, which is not the step's own memory.
    _stepper(name, spec, batch[:1], facts, engine, fused)()
    step = _stepper(name, spec, batch, facts, engine, fused)
    if engine.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak_memory(engine.device)
    for _ in range(_untimed(engine)):
        step()
    return round((peak_memory(engine.device) - before) / 2**20, 1)
