"""What comes next: whole results early, times alone, others' runs last."""

import dataclasses

from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.kinds.step_time import StepTimeSpec
from snt_core.runs.kinds.tokens import TokenSpec
from snt_core.runs.schedule import Schedule

NET = training(PROFILES["smoke"], "cifar100", "adam", 0)
OTHER = dataclasses.replace(NET, seed=1)
SHARP, SHARP_OTHER = (LambdaMaxSpec(parent=net, n_samples=8) for net in (NET, OTHER))
TOKENS = TokenSpec(parent=NET, method="merge", settings=(1,), batch_size=8, repeats=3)
STEPS = StepTimeSpec(
    data="few-digits", val_size=24, model="resnet20", batch_size=8, rounds=2, fused=False
)
ALL = [TOKENS, STEPS, NET, OTHER, SHARP, SHARP_OTHER]


def nobody(spec):
    return False


def test_a_measurement_comes_before_a_net_that_is_not_begun():
    schedule = Schedule(ALL, nobody)
    order = []
    while (spec := schedule.begin()) is not None:
        order.append(spec)
        schedule.end(spec, failed=False)
    assert order == [NET, SHARP, OTHER, SHARP_OTHER, TOKENS, STEPS]


def test_what_is_timed_runs_alone():
    schedule = Schedule([TOKENS, STEPS, NET], nobody)
    assert schedule.begin() == NET
    assert schedule.begin() is None  # the net is under way
    schedule.end(NET, failed=False)
    assert schedule.begin() == TOKENS
    assert schedule.begin() is None
    schedule.end(TOKENS, failed=False)
    assert schedule.begin() == STEPS


def test_a_net_that_fails_takes_its_measurements_along_and_no_others():
    schedule = Schedule(ALL, nobody)
    assert schedule.begin() == NET
    schedule.end(NET, failed=True)
    assert schedule.lost == [TOKENS, SHARP]
    left = []
    while (spec := schedule.begin()) is not None:
        left.append(spec)
        schedule.end(spec, failed=spec == SHARP_OTHER)
    assert left == [OTHER, SHARP_OTHER, STEPS]


def test_runs_of_other_processes_come_last():
    schedule = Schedule([NET, OTHER], lambda spec: spec == NET)
    assert [schedule.begin(), schedule.begin()] == [OTHER, NET]
