"""Speed-ups on a clock that only the models move, and the search against a linear one."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snt_core.common import timing
from snt_core.methods.compress.speed import solve_setting, speedup

IMAGES = torch.zeros(2, 3, 4, 4)


class Clock:
    """Time in ticks; `load` is how much slower the machine gets with each forward pass."""

    def __init__(self, load: float = 1.0) -> None:
        self.now, self.pace, self.load, self.passes = 0.0, 1.0, load, 0

    def perf_counter(self) -> float:
        return self.now

    def spend(self, ticks: float) -> None:
        self.now += ticks * self.pace
        self.pace *= self.load
        self.passes += 1

    def __deepcopy__(self, memo: dict) -> Clock:
        return self


class Net(nn.Module):
    """Takes `ticks`, the first time 1000 more; checks how it is called."""

    def __init__(self, clock: Clock, ticks: float) -> None:
        super().__init__()
        self.clock, self.ticks, self.warm = clock, ticks, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.clock.spend(self.ticks if self.warm else 1000 + self.ticks)
        self.warm = True
        return x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return install(monkeypatch, Clock())


def install(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


@pytest.mark.parametrize("repeats", [1, 4])
def test_is_the_ratio_of_the_times_without_the_first(clock: Clock, repeats: int) -> None:
    plain, fast = Net(clock, 3.0).train(), Net(clock, 2.0)
    assert speedup(plain, fast, IMAGES, repeats=repeats) == pytest.approx(1.5)
    assert clock.passes == 2 * (repeats + 1)
    assert plain.training
    assert not plain.warm


@pytest.mark.parametrize("load", [0.99, 1.01])
def test_a_drifting_machine_cancels(monkeypatch: pytest.MonkeyPatch, load: float) -> None:
    clock = install(monkeypatch, Clock(load))
    # each model in one go would be 12 % off
    assert speedup(Net(clock, 3.0), Net(clock, 2.0), IMAGES) == pytest.approx(1.5, rel=0.0102)


def test_one_disturbed_pair_does_not_count(clock: Clock) -> None:
    class Disturbed(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.clock.passes == 4:
                self.clock.now += 1000
            return super().forward(x)

    assert speedup(Disturbed(clock, 3.0), Net(clock, 2.0), IMAGES) == pytest.approx(1.5)


@given(gains=st.lists(st.integers(1, 10), min_size=1, max_size=20), target=st.floats(0.5, 12))
def test_finds_what_a_linear_search_finds(gains: list[int], target: float) -> None:
    gains.sort()
    tried = []
    with pytest.MonkeyPatch.context() as patch:
        plain = Net(install(patch, Clock()), 2520.0)  # whole ticks for each gain, so exact

        def compress(model: Net, setting: int) -> nn.Module:
            tried.append(setting)
            return Net(model.clock, model.ticks / gains[setting])

        def solve() -> tuple[int, float]:
            return solve_setting(plain, IMAGES, target, compress, range(len(gains)))

        fast_enough = [gain for gain in gains if gain >= target]
        if fast_enough:
            assert solve() == (gains.index(fast_enough[0]), fast_enough[0])
        else:
            with pytest.raises(ValueError, match=f"out of reach: {gains[-1]} is the largest"):
                solve()
        assert len(tried) <= len(gains).bit_length()


def test_arguments_out_of_range_are_named(clock: Clock) -> None:
    net = Net(clock, 1.0)
    with pytest.raises(ValueError, match="repeats 0 "):
        speedup(net, net, IMAGES, repeats=0)
    for target in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"target {target} "):
            solve_setting(net, IMAGES, target, lambda model, _: copy.copy(model), [1])
    with pytest.raises(ValueError, match=r"settings \[\]"):
        solve_setting(net, IMAGES, 1.5, lambda model, _: model, [])
