"""The quick part of the faults: each kind once, on real processes. `make torture` does the rest."""

import signal

import pytest

from tests.faults import disk, signals
from tests.faults.command import family, records, start, wait_until

FIGURE6 = "run --profile smoke --only figure6"  # three small nets and a measurement of each


@pytest.mark.parametrize(
    ("number", "strike", "workers"),
    [(signal.SIGINT, signals.group, 2), (signal.SIGTERM, signals.one, 1)],
)
def test_a_signal_leaves_a_checkpoint_and_no_process(tmp_path, number, strike, workers):
    words = f"{signals.TRAINING} --workers {workers}"
    assert signals.stop(tmp_path / "place", words, number, strike, long=300) == []


def test_a_killed_worker_takes_its_own_run_alone(tmp_path):
    process = start(f"{FIGURE6} --workers 2", tmp_path / "place", long=6, SNT_SAVE="0")
    runs = tmp_path / "place" / "store" / "runs"
    assert wait_until(lambda: len(list(runs.glob("*/checkpoint.pt"))) == 2)
    worker = next(one for one in family(process)[1:] if "spawn_main" in " ".join(one.cmdline()))
    worker.kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert [line[:9] for line in said.splitlines()] == ["snt: trai", "snt: not "], said
    assert "killed from outside" in said
    there = sorted(name.split("-")[0] for name in records(tmp_path / "place"))
    assert there == ["ptq", "ptq", "train", "train"]
    assert len(list(runs.glob("*/checkpoint.pt"))) == 1  # to go on from


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path):
    name, _ = disk.PLACES["record of a training"]
    assert disk.refused(tmp_path / "place", name, f"{FIGURE6} --workers 1") == []
