"""Calls in processes: a killed one loses its own call, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from snt_core.common.errors import RunsFailed
from snt_core.common.workers import Killed, Workers


def nothing():
    pass


def answer_later(seconds, value):
    time.sleep(seconds)
    return value


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_error(error):
    raise error


def raise_odd():
    raise Odd(1, 2)  # cannot be unpickled


def test_each_call_has_its_own_fate():
    with Workers(2) as crew:
        crew.hand_out("killed", die)
        crew.hand_out("kept", answer_later, 0.5, 42)
        found = {}
        while len(found) < 2:
            found |= {answer.key: answer for answer in crew.answers()}
        assert isinstance(found["killed"].error, Killed)
        assert "SIGKILL" in str(found["killed"].error)
        assert found["kept"].value == 42
        crew.hand_out("failed", raise_error, RunsFailed(["one", "two"]))
        crew.hand_out("odd", raise_odd)
        while len(found) < 4:
            found |= {answer.key: answer for answer in crew.answers()}
    assert found["failed"].error.lines == ["one", "two"]
    assert "1 and 2" in str(found["odd"].error)


def test_an_error_in_the_block_ends_what_is_under_way_soon():
    started = time.monotonic()
    process = None

    def fail():
        nonlocal process
        with Workers(1) as crew:
            crew.hand_out("long", answer_later, 60, None)
            process = crew.busy[0].process
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert time.monotonic() - started < 10
    assert not process.is_alive()


ORPHANS = """
import sys, time
from snt_core.common.workers import Workers
if __name__ == "__main__":
    with Workers(2, preload=sys.argv[1:]) as crew:
        crew.hand_out(1, time.sleep, 60)
        print(crew.busy[0].process.pid, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("preload", [[], ["json"]], ids=["fresh", "forked"])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, preload):
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, str(script), *preload], stdout=subprocess.PIPE, text=True, env=env
    )
    worker = psutil.Process(int(parent.stdout.readline()))
    time.sleep(2)
    assert worker.is_running()
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([worker], timeout=5)[1] == []
