"""Writing: whole or not at all, the file named; what killed writers left is removed, no more."""

import errno
import os
import subprocess
import sys
import time

import pytest

from snt_core.common.files import atomic_write, restored, sweep

STUCK = """
import os, signal, sys
from pathlib import Path
from snt_core.common import files
def stop(handle):
    print("writing", flush=True)
    signal.pause()
os.fsync = stop
files.atomic_write(Path(sys.argv[1]), b"content")
"""


def test_a_killed_writers_file_is_removed_and_a_living_ones_is_not(tmp_path):
    path = tmp_path / "record.json"
    writer = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "writing\n"
    (temporary,) = tmp_path.iterdir()
    sweep(tmp_path)
    assert temporary.exists()
    writer.kill()
    writer.wait()
    (tmp_path / ".profile").touch()
    (tmp_path / ".config.yaml.backup01").touch()
    sweep(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {".profile", ".config.yaml.backup01"}


def test_a_full_disk_is_told_with_the_files_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as told:
        atomic_write(tmp_path / "a.json", b"content")
    assert told.value.filename == str(tmp_path / "a.json")
    assert told.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_writers_and_sweepers_do_not_disturb_each_other(tmp_path):
    code = (
        "import sys; from pathlib import Path; from snt_core.common.files import atomic_write\n"
        "for turn in range(300): atomic_write(Path(sys.argv[1]), str(turn).encode())"
    )
    path = tmp_path / "a.json"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    end = time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < end:
        sweep(tmp_path)
    assert [(writer.wait(), writer.stderr.read()) for writer in writers] == [(0, "")] * 2
    assert path.read_bytes() == b"299"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("name", ["a.json", "a b.json", "it's.json", "-x.json", "$(x).json"])
def test_a_restored_file_is_the_tracked_one(tmp_path, name):
    path = tmp_path / "of mine" / name
    path.parent.mkdir()
    path.write_text("whole")
    assert restored(path, "or ") == ""
    for words in (["init", "-q"], ["add", "--", str(path)]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    path.write_text("damaged")
    subprocess.run(restored(path, ""), shell=True, check=True, capture_output=True)
    assert path.read_text() == "whole"
