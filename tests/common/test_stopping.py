"""Signals: the first ends a process in order, a second or its patience at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from snt_core.common import stopping


@pytest.fixture(autouse=True)
def heard():
    """A hangup that is heard here and in the processes that are started, under `nohup` too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


START = """
import hashlib, time
from snt_core.common import stopping
with stopping.listening():
    try:
        print("ready", flush=True)
        {work}
    except stopping.Stopped:
        print("stopped", flush=True)
        {rest}
    stopping.leave(stopping.asked())
"""
LONG_OPERATOR = "hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)"  # no Python in it for minutes


def strike(work, rest, *signals):
    """Return exit code, seconds since the first signal, and what was printed."""
    code = START.format(work=work, rest=rest)
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    time.sleep(0.3)
    started = time.monotonic()
    for number in signals:
        child.send_signal(number)
        time.sleep(stopping.SAME + 0.3)
    out, err = child.communicate(timeout=60)
    return child.returncode, time.monotonic() - started, out, err


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_the_first_signal_ends_what_goes_on(number):
    code, seconds, out, err = strike("time.sleep(60)", "pass", number)
    assert (code, out, err) == (128 + number, "stopped\n", f"{stopping.SENTENCE}\n")
    assert seconds < 3


def test_a_second_one_ends_the_process_at_once():
    code, seconds, *_ = strike("time.sleep(60)", "time.sleep(60)", signal.SIGINT, signal.SIGINT)
    assert code == 130
    assert seconds < 3


def test_two_signals_at_one_wish_are_one():
    """`timeout` sends its signal to the process and to its group."""
    code = START.format(work="time.sleep(60)", rest="time.sleep(1); print('in order')")
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    for _ in range(2):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert child.communicate()[0] == "stopped\nin order\n"
    assert child.returncode == 143


def test_an_operator_that_takes_minutes_is_not_waited_for():
    code, seconds, _, err = strike(LONG_OPERATOR, "pass", signal.SIGTERM)
    assert code == 143
    assert seconds < stopping.PATIENCE + 2
    assert err == f"{stopping.SENTENCE}\n"


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_block_that_holds_signals_ends_when_it_looks(number):
    """As in a notebook's kernel, which has its own handlers and goes on afterwards."""
    before = signal.getsignal(number)
    turns = []

    def work():
        with stopping.held():
            for turn in range(5):
                turns.append(turn)
                if turn == 2:
                    os.kill(os.getpid(), number)
                if stopping.asked():
                    break

    for _ in range(2):
        turns.clear()
        with pytest.raises(stopping.Stopped) as told:
            work()
        assert told.value.number == number
        assert turns == [0, 1, 2]
        assert signal.getsignal(number) is before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopping.asked()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
