"""How long runs take is read off like runs on like machines."""

from __future__ import annotations

import time

import pytest

from snt_core.runs.pace import like, on_card, seconds_per_work
from snt_core.runs.provenance import RunClock
from snt_core.runs.record import Record
from snt_core.training.engine import detect
from tests.records import result

NET = result("table4").records[0].spec.net
WORK = NET.work()


def record(status="done", **facts) -> Record:
    return Record(
        spec=NET, profile="cifar", status=status, metrics={}, n_samples=1, provenance=facts
    )


CPU = record(device="AMD EPYC", seconds=300.0, cpu_seconds=100.0)
OLD = record(device="Intel(R) Xeon(R) Processor", seconds=200.0)
CARD = record(device="NVIDIA H100 80GB HBM3", seconds=7.0, cpu_seconds=5.0)
FAILED = record("diverged", device="AMD EPYC", seconds=1.0)


@pytest.mark.parametrize(
    ("records", "card", "seconds"),
    [
        ([CPU], False, 100),  # in which it had the core
        ([OLD], False, 200),  # all that an old record knows
        ([CPU, OLD], False, 150),
        ([CPU, CARD], False, 100),
        ([CARD, CPU], True, 7),
        ([CARD], False, 7),  # better than nothing
        ([CPU], True, 100),
        ([CPU, FAILED], False, 100),
    ],
)
def test_like_runs_on_like_machines_count(records, card, seconds):
    paces = seconds_per_work(records, card=card)
    assert paces == {like(NET): pytest.approx(seconds / WORK)}


def test_cards_are_told_from_processors():
    names = ["NVIDIA A100-SXM4-40GB", "AMD Instinct MI300X", "AMD EPYC", "Apple M2"]
    assert [on_card({"device": name}) for name in names] == [True, True, False, False]


def facts_after(work) -> dict:
    clock = RunClock(detect(device="cpu"))
    work()
    return clock.provenance(earlier=0.0, interrupted=[])


def test_a_record_knows_the_seconds_of_its_processor():
    def busy() -> None:
        until = time.process_time() + 1
        while time.process_time() < until:
            pass

    facts_after(busy)  # what is looked up once is not counted below
    assert 0.9 < facts_after(busy)["cpu_seconds"] < 2
    waited = facts_after(lambda: time.sleep(1))
    assert waited["seconds"] >= 1
    assert waited["cpu_seconds"] < 0.5


def test_earlier_processes_count_as_this_one_does():
    clock = RunClock(detect(device="cpu"))
    time.sleep(0.1)
    found = clock.provenance(earlier=1000.0, interrupted=[])
    assert found["seconds"] == pytest.approx(1000.1, abs=0.5)
    assert found["cpu_seconds"] < 0.8 * found["seconds"]
