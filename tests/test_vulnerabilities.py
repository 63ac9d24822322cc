"""`make vulnerabilities` tells a database that knows no holes from one that does not answer."""

from __future__ import annotations

import sys

import pytest

from tests import vulnerabilities
from tests.test_publishing import JOBS, commands, triggers

# stands for pip-audit: what it prints about the old release, and its exit code for the lock
STAND_IN = """
import json, sys
if "json" in sys.argv:
    print({said!r})
else:
    sys.exit({code})
"""
KNOWS = '{"dependencies": [{"name": "jinja2", "vulns": [{"id": "GHSA-hj2j-77xm-mc5v"}]}]}'
# what pip-audit 2.10 says where a registry has no JSON interface
SKIPS = '{"dependencies": [{"name": "jinja2", "skip_reason": "Dependency not found on PyPI"}]}'


@pytest.mark.parametrize(
    ("said", "code", "ends", "says"),
    [(KNOWS, 0, 0, ""), (KNOWS, 1, 1, ""), (SKIPS, 1, 0, "No database"), ("", 1, 0, "No database")],
    ids=["clean", "found", "skipped", "unreachable"],
)
def test_what_is_found_is_an_error_and_no_answer_is_told(
    monkeypatch, capsys, said, code, ends, says
):
    stand_in = (sys.executable, "-c", STAND_IN.format(said=said, code=code))
    monkeypatch.setattr(vulnerabilities, "PIP_AUDIT", stand_in)
    assert vulnerabilities.main() == ends
    out = capsys.readouterr().out
    assert out.startswith(says)
    assert len(out.splitlines()) == bool(says)


def test_the_lock_is_looked_up_weekly_and_when_it_changes():
    assert set(triggers("vulnerabilities")) == {"schedule", "push", "pull_request"}
    assert triggers("vulnerabilities")["push"]["paths"] == [vulnerabilities.LOCK.name]
    assert commands(JOBS["vulnerabilities/vulnerabilities"]) == ["make vulnerabilities"]
