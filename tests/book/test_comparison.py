"""The page of peers: every task was measured, and our own answers to them are right today."""

from __future__ import annotations

import json

import pytest

from benchmarks import capabilities, model_checks, models
from snt_core.book import comparison
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT

HOME = PROJECT / "benchmarks"
NUMBERS = ("Eigenvalue", "IgnoredLabels", "Regression", "Attention")
WORDS = ("Pruning", "BatchStatistics", "BrokenStep", "Tokens", "Architecture")


def ours(name: str) -> str:
    return vars(capabilities.TASKS[name])["snt_core"]()


@pytest.mark.parametrize("name", NUMBERS)
def test_our_number_is_the_right_one(name):
    right = float(vars(capabilities.TASKS[name])["right"]())
    assert float(ours(name).partition(",")[0]) == pytest.approx(right, rel=5e-3)


@pytest.mark.parametrize("name", WORDS)
def test_our_answer_is_the_right_one(name):
    right = vars(capabilities.TASKS[name])["right"]()
    assert ours(name).replace("50.0%", "50.0 %") == right


def test_an_error_is_an_answer_in_one_line():
    def fails() -> str:
        raise RuntimeError("a\nlong" + " word" * 50)

    said = capabilities.outcome(fails)
    assert said.startswith("RuntimeError: a long word")
    assert len(said) < 130
    assert capabilities.lines_of(capabilities.TASKS["Regression"].snt_core) == 2


def test_the_page_shows_every_task_with_its_command():
    shown = comparison.tasks(HOME)
    assert list(shown["NAME"]) == list(capabilities.TASKS)
    body = json.loads((HOME / "capabilities.json").read_text())
    today = [vars(task)["right"]() for task in capabilities.TASKS.values()]
    assert [row["right"] for row in body["rows"]] == today
    assert "-" in set(shown["here"])  # what only a peer can do is told too
    assert "snt_core 0" in comparison.versions(HOME)


def test_without_results_the_page_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"python -m benchmarks\.capabilities"):
        comparison.tasks(tmp_path)
    with pytest.raises(UserError, match=r"python -m benchmarks\.models"):
        comparison.nets(tmp_path)


def test_every_method_was_tried_on_every_net():
    shown = comparison.nets(HOME)
    assert list(shown["net"]) == list(models.NETS)
    assert list(shown.columns[1:]) == list(model_checks.CELLS)
    told = set(shown.drop(columns="net").to_numpy().ravel())
    assert told <= {"✓", "refused", "n/a"}
