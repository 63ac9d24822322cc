"""A command with a time: what fits comes first, and it ends in time with everything saved."""

import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from snt_core.common import stopping
from snt_core.common.errors import RunsFailed, UserError
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs import session
from snt_core.runs.budget import Budget, budget_of
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.kinds.step_time import StepTimeSpec
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.plan import PlannedRun
from snt_core.runs.progress import ProgressDisplay
from snt_core.runs.runner import run_all
from snt_core.runs.schedule import Schedule
from snt_core.runs.store import Store
from snt_core.training.engine import detect
from snt_core.training.recipe import Recipe

NET = dataclasses.replace(
    training(PROFILES["smoke"], "cifar100", "adam", 0),
    recipe=Recipe(epochs=1, batch_size=16, lr=1e-2),
)
LONG = dataclasses.replace(NET, recipe=dataclasses.replace(NET.recipe, epochs=4000))
ENGINE = detect(exact=True)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("25m", 1500), ("2h", 7200), ("1h30m", 5400), ("1m1s", 61)]
)
def test_a_budget_is_a_time(text, seconds):
    budget = budget_of(text)
    assert budget.seconds == seconds
    assert seconds - 1 < budget.left <= seconds


def test_no_budget_is_none():
    assert budget_of("") is None


@pytest.mark.parametrize(
    "text", ["25", "m", "0s", "-5m", "5 m", "1.5h", "30m1h", "1d", "٣m", "9" * 40]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UserError, match="--budget is"):
        budget_of(text)


def drawn(steps, seconds, passes):
    """The order in which runs are begun, each of which takes as long as it is planned to."""
    now = time.monotonic()
    budget = Budget(seconds, now + seconds)
    schedule = Schedule([step.spec for step in steps], lambda spec: False, budget.ranks(steps))
    order = []
    takes = {step.spec: step.seconds for step in steps}
    while (spec := schedule.begin()) is not None:
        order.append(spec)
        passes(takes[spec] or 0.0)
        schedule.end(spec, failed=False)
    return order


@pytest.fixture
def passes(monkeypatch):
    """Time goes on when it is told to."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def add(seconds):
        clock[0] += seconds

    return add


def nets(count):
    return [dataclasses.replace(NET, seed=seed) for seed in range(count)]


def test_what_does_not_fit_is_passed_over_for_the_next_that_does(passes):
    a, b, c, d = nets(4)
    sharp = LambdaMaxSpec(parent=a, n_samples=8)
    steps = [
        PlannedRun(a, 40, 0), PlannedRun(sharp, 10, 0), PlannedRun(b, 60, 0), PlannedRun(c, 45, 0)
    ]  # fmt: skip
    assert drawn(steps, 100, passes) == [a, sharp, c]
    assert drawn([*steps, PlannedRun(d, 5, 0)], 100, passes) == [a, sharp, c, d]


def test_unknown_lengths_come_last_and_not_at_the_very_end(passes):
    a, b = nets(2)
    steps = [PlannedRun(a, None, 0), PlannedRun(b, 80, 0)]
    assert drawn(steps, 100, passes) == [b, a]
    assert drawn(steps, 85, passes) == [b]


def test_what_is_too_long_is_begun_when_nothing_else_is_left_if_it_can_be_gone_on_with(passes):
    a, b = nets(2)
    sharp = LambdaMaxSpec(parent=b, n_samples=8)
    steps = [PlannedRun(sharp, 500, 0), PlannedRun(b, 20, 0), PlannedRun(a, 500, 0)]
    assert drawn(steps, 100, passes) == [b, a]


def test_what_is_timed_waits_for_others_but_not_for_what_does_not_fit(passes):
    a, b = nets(2)
    timed = StepTimeSpec(
        data="few-digits", val_size=24, model="resnet20", batch_size=8, rounds=2, fused=False
    )
    sharp = LambdaMaxSpec(parent=b, n_samples=8)
    steps = [
        PlannedRun(timed, 5, 0),
        PlannedRun(a, 20, 0),
        PlannedRun(b, 99, 0),
        PlannedRun(sharp, 1, 0),
    ]
    assert drawn(steps, 50, passes) == [a, timed, b]


@pytest.fixture
def over_once(monkeypatch):
    """`over_once(spec)`: the time is over as soon as that run has told how far it is.

    Returns a list that then holds the moment.
    """

    def arrange(spec):
        moments = []

        def report(self, told, share):
            if told == spec and 0 < share < 1 and not moments:
                moments.append(time.monotonic())
                signal.setitimer(signal.ITIMER_REAL, 0.001)

        monkeypatch.setattr(ProgressDisplay, "report", report)
        return moments

    return arrange


def carried_out(specs, store, **options):
    """The last line of `snt run --budget 1h`."""
    told = io.StringIO()
    budget = Budget(3600, time.monotonic() + 3600)
    console = Console(file=told, width=60)
    session.carry_out(
        specs, store, profile="smoke", exact=True, budget=budget, console=console, **options
    )
    return told.getvalue().splitlines()[-1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_under_way_stops_in_time(tmp_path, over_once, workers):
    store, other = Store(tmp_path), dataclasses.replace(LONG, seed=1)
    moments = over_once(LONG)
    line = carried_out([NET, LONG, other], store, workers=workers)
    assert time.monotonic() - moments[0] < 5
    assert re.match("[01] of 3 runs made in .* of 60 min; under way: train-", line)
    assert re.search("left: [23] runs", line)
    assert stopping.asked() == 0
    assert store.is_begun(LONG)
    assert not any(map(store.is_running, (LONG, other)))


def test_the_end_is_that_of_a_run_without_a_budget(tmp_path, over_once):
    spec = dataclasses.replace(LONG, recipe=dataclasses.replace(NET.recipe, epochs=12))
    store = Store(tmp_path / "parts")
    over_once(spec)
    assert carried_out([spec], store, workers=1).startswith("0 of 1 runs made")
    assert "1 of 1 runs made" in carried_out([spec], store, workers=1)
    (whole,) = run_all([spec], Store(tmp_path / "whole"), profile="smoke", engine=ENGINE)
    record = store.get(spec)
    assert record.provenance["resumed_at_step"] > 0
    assert record.metrics == whole.metrics


def test_a_process_that_does_not_end_in_time_is_ended_well(tmp_path):
    script = """
import time
from snt_core.common import stopping
stopping.PATIENCE = 0.5
with stopping.until(time.monotonic() + 0.2):
    while True:
        try:
            time.sleep(60)
        except stopping.Stopped:
            pass
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, f"{stopping.TIME_IS_OVER}\n")


def test_failures_are_told_with_what_was_made(tmp_path, monkeypatch):
    def fails(self, context):
        raise RuntimeError("broken")

    monkeypatch.setattr(TrainSpec, "perform", fails)
    told = io.StringIO()
    with pytest.raises(RunsFailed, match="broken"):
        session.carry_out(
            [NET], Store(tmp_path), profile="smoke", workers=1, exact=True,
            budget=Budget(60, time.monotonic() + 60), console=Console(file=told),
        )  # fmt: skip
    assert "0 of 1 runs made" in told.getvalue()
