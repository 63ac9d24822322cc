"""What the page on determinism says, and that the published numbers bear it out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import determinism as measured
from snt_core.book import determinism
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.runs.repeats import keep
from snt_core.runs.store import Store
from tests.executions import fill, repetition

HOME = PROJECT / "benchmarks"
BODY = json.loads(measured.RESULT.read_text())
ROWS = {row["change"]: row for row in BODY["rows"]}


def net(*values: float) -> measured.Trained:
    return measured.Trained({"w": torch.tensor(values)}, torch.tensor([True, False]), 50.0)


def test_a_difference_is_found_to_the_last_bit():
    same = measured.compared("x", net(3.0, 4.0), net(3.0, 4.0))
    assert (same["bitwise"], same["largest"], same["relative"]) == (True, 0.0, 0.0)
    near = torch.nextafter(torch.tensor(4.0), torch.tensor(5.0)).item()
    assert not measured.compared("x", net(3.0, 4.0), net(3.0, near))["bitwise"]
    other = measured.compared("x", net(3.0, 4.0), net(3.0, 4.5))
    assert (other["largest"], other["relative"]) == (0.5, 0.1)
    wrong = replace(net(3.0, 4.0), correct=torch.tensor([False, False]))
    assert measured.compared("x", net(3.0, 4.0), wrong)["images_that_differ"] == 1


def test_every_change_was_measured():
    assert list(ROWS) == list(measured.CHANGES)
    assert BODY["steps"] > 30


def test_what_the_page_calls_bitwise_was_so():
    same = {name for name, row in ROWS.items() if row["bitwise"]}
    assert same >= {
        "the same again",
        "beside another training, as with --workers 2",
        "killed (SIGKILL) after 20 steps and resumed",
        measured.AGAINST_FAST,
    }
    assert not ROWS["another seed"]["bitwise"]
    shown = determinism.changes(HOME).set_index("what changes").weights
    assert set(shown[shown == determinism.BITWISE].index) == same
    assert f"{len(same)} left" in determinism.summary(HOME)


def test_without_the_file_the_command_is_named(tmp_path):
    with pytest.raises(UserError, match=r"python -m benchmarks\.determinism"):
        determinism.changes(tmp_path)


def test_second_runs_are_shown_with_both_devices(tmp_path):
    store = Store(tmp_path)
    first = fill(store, device="a card")[0]
    numbers = {"a": (100.0, 100.0), "b": (50.0, 49.0)}
    keep(repetition(record=first.name, numbers=numbers), store)
    row = determinism.across_devices(store).iloc[0]
    assert (row["first on"], row["again on"]) == ("a card", "a card")
    assert (row["numbers compared"], row["largest difference"]) == (2, "2 %")
    assert determinism.across_devices(Store(tmp_path / "none")).empty
