"""Locks that come and go: one holder at a time, and nobody trips over a file that is gone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from snt_core.common.errors import UserError
from snt_core.common.locks import awaited_lock, held_lock, is_locked

TAKE = """
import os, sys, time
from pathlib import Path
from snt_core.common.locks import held_lock, is_locked
lock, inside = Path(sys.argv[1]), Path(sys.argv[2])
taken, end = 0, time.monotonic() + 1.5
while time.monotonic() < end:
    is_locked(lock)
    with held_lock(lock) as mine:
        if mine:
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if somebody is inside
            os.unlink(inside)
            taken += 1
assert taken
"""


def test_four_processes_take_turns(tmp_path):
    words = [str(tmp_path / "locks" / "a.lock"), str(tmp_path / "inside")]
    takers = [
        subprocess.Popen([sys.executable, "-c", TAKE, *words], stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [(t.wait(), t.stderr.read()) for t in takers] == [(0, "")] * 4


def test_a_lock_is_seen_and_its_file_goes(tmp_path):
    path = tmp_path / "a.lock"
    assert not is_locked(path)
    with held_lock(path) as mine:
        assert mine
        assert is_locked(path)
        with held_lock(path) as again:
            assert not again
    assert not is_locked(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lock", [held_lock, awaited_lock])
@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("other"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
        lambda path: os.mkfifo(path),
        lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    ],
    ids=["folder", "link", "link to nothing", "link to itself", "pipe", "socket"],
)
def test_what_is_no_plain_file_is_no_lock(tmp_path, lock, make):
    (tmp_path / "other").write_text("kept")
    path = tmp_path / "a.lock"
    make(path)
    with pytest.raises(UserError, match=r"a\.lock is a link, a folder or a pipe"), lock(path):
        pass
    assert not is_locked(path)
    assert (tmp_path / "other").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()


def test_what_a_file_says_is_kept_while_it_is_a_lock(tmp_path):
    path = Path(tmp_path / "a.lock")
    path.write_text("said")
    with awaited_lock(path):
        assert is_locked(path)
        assert path.read_text() == "said"
    assert not is_locked(path)
