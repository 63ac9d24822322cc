"""The benchmarks' rows: what they say of ours and peers, and how the book reads them."""

from __future__ import annotations

import importlib
import json
import math

import pandas as pd
import pytest

from benchmarks import measure
from benchmarks.__main__ import AREAS
from snt_core.book import performance
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT

HOME = PROJECT / "benchmarks"
KEYS = {"work", "ours", "peer", "unit", "ratio", "runs", "machine", "commit"}


def row(**changes) -> measure.Row:
    return measure.Row(**{"work": "w", "ours": 2.0, "peer": 4.0, "unit": "s", "runs": 3, **changes})


def test_a_ratio_above_one_means_that_ours_is_better():
    assert row().ratio == 0.5
    assert row(less_is_better=True).ratio == 2.0
    assert row(peer=None).ratio is None


def test_contenders_take_turns_and_each_round_begins_with_another():
    order: list[str] = []
    names = ("a", "b", "c")
    seconds = measure.in_turn({n: lambda n=n: order.append(n) for n in names}, rounds=3)
    assert order == [*"cab", *"abc", *"bca", *"cab"]
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys(names, 3)


def test_quotients_are_of_the_same_round():
    seconds = {"slow": [2.0, 20.0, 4.0], "fast": [1.0, 10.0, 4.0]}
    assert measure.quotient(seconds, "slow", "fast") == 2.0
    assert measure.medians(seconds) == {"slow": 4.0, "fast": 4.0}


def test_rows_are_written_with_machine_and_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "limits", lambda: {"copy_gb_per_s": 9.0})
    written = json.loads(measure.write("steps", [row(also={"x": 1})], 0.5).read_text())
    assert set(written[0]) == KEYS | {"also", "limits", "others_before"}
    assert (written[0]["ratio"], written[0]["also"]) == (0.5, {"x": 1})
    measure.write("steps", [row(work="other")], 0.5)
    again = json.loads(measure.write("steps", [row(ours=8.0)], 0.5).read_text())
    assert [(found["work"], found["ours"]) for found in again] == [("other", 2.0), ("w", 8.0)]


def test_published_rows_are_whole_and_every_target_names_one():
    files = sorted(HOME.glob("results/*.json"))
    assert {file.stem for file in files} <= set(AREAS)
    targets = pd.read_csv(HOME / "targets.csv")
    for file in files:
        for found in json.loads(file.read_text()):
            assert set(found) >= KEYS
            assert found["work"] in set(targets.work)
            assert found["ours"] > 0
            if found["peer"] is not None:
                better = {found["ours"] / found["peer"], found["peer"] / found["ours"]}
                assert any(math.isclose(found["ratio"], value) for value in better)


@pytest.mark.parametrize("area", AREAS)
def test_an_area_is_a_module_with_rows(area):
    assert callable(importlib.import_module(f"benchmarks.{area}").rows)


def folder_of(tmp_path, rows: list[dict]):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "some.json").write_text(json.dumps(rows))
    (tmp_path / "targets.csv").write_text(
        "work,measure,sense,target\nfast,ratio,>=,3\nfast,memory,<=,10\nslow,ours,<=,2\nnone,ours,<=,1\n"
    )
    return tmp_path


ROWS = [
    {"work": "slow", "ours": 3.0, "peer": None, "ratio": None, "also": {}, "limits": {}},
    {
        "work": "fast",
        "ours": 8.0,
        "peer": 2.0,
        "ratio": 4.0,
        "also": {"memory": 10, "by": {"a": 1, "b": 2}},
        "limits": {"copy_gb_per_s": 9.0},
    },
]


def test_targets_are_met_missed_or_not_run(tmp_path):
    folder = folder_of(tmp_path, ROWS)
    rows = performance.benchmarks(folder)
    assert list(rows.work) == ["fast", "slow"]
    found = performance.against_targets(rows, folder)
    assert list(found.met) == ["yes", "yes", "no", "not run"]
    assert list(found.target) == [">= 3", "<= 10", "<= 2", "<= 1"]
    assert list(found.measured[:3]) == [4.0, 10.0, 3.0]


def test_what_was_measured_beside_is_a_row_each(tmp_path):
    found = performance.asides(performance.benchmarks(folder_of(tmp_path, ROWS)))
    assert found.to_dict("records") == [
        {"work": "fast", "what": "memory", "measured": 10},
        {"work": "fast", "what": "by, a", "measured": 1},
        {"work": "fast", "what": "by, b", "measured": 2},
    ]


def test_limits_and_figure_are_those_of_the_rows(tmp_path):
    rows = performance.benchmarks(folder_of(tmp_path, ROWS))
    assert performance.machine_limits(rows).measured.tolist() == [9.0]
    ax = performance.figure(rows).axes[0]
    assert [bar.get_x() + bar.get_width() for bar in ax.patches] == [4.0]


def test_no_results_is_said(tmp_path):
    with pytest.raises(UserError, match="make bench"):
        performance.benchmarks(tmp_path)
