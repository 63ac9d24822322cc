"""The quick part of the faults: each kind once, on real processes. `make torture` does the rest."""

import signal

import pytest

from tests.faults import disk, kills, signals


@pytest.mark.parametrize(
    ("number", "strike", "workers"),
    [(signal.SIGINT, signals.group, 2), (signal.SIGTERM, signals.one, 1)],
)
def test_a_signal_leaves_a_checkpoint_and_no_process(tmp_path, number, strike, workers):
    words = f"{signals.TRAINING} --workers {workers}"
    assert signals.stop(tmp_path / "place", words, number, strike, long=300) == []


def test_a_killed_worker_takes_its_own_run_alone(tmp_path):
    place = tmp_path / "place"
    wanted = kills.reference(tmp_path / "reference")
    row = kills.kill_workers(place, 1, wanted)
    assert (row.tries, row.lost, row.wrong, row.blocked) == (1, 0, 0, 0)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path):
    name, words = disk.PLACES["record of a training"]
    assert disk.refused(tmp_path / "place", name, words) == []
