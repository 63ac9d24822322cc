"""Records and weights: whole or not at all, checked on the way in."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs import store as stores
from snt_core.runs.identity import run_id
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.reading import read_record
from snt_core.runs.record import Record
from snt_core.runs.store import Store, open_store
from tests.records import PROVENANCE

NET = training(PROFILES["smoke"], "cifar100", "adam", 0)
GOOD = {"residual": 0.001, "products": 9, "converged": True, "bn_mode": "eval"}
RECORD = Record(
    spec=LambdaMaxSpec(parent=NET, n_samples=8),
    profile="smoke",
    status="done",
    metrics={**GOOD, "lambda_max": 0.1 + 0.2},
    n_samples=8,
    provenance=PROVENANCE,
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_round_trip(store):
    path = store.put(RECORD)
    assert path.parent == store.folder / "records" / "smoke"
    assert store.get(RECORD.spec) == RECORD
    assert store.records() == [RECORD]
    assert store.names() == {RECORD.name}
    assert json.loads(path.read_text())["parents"] == [run_id(NET)]


def test_a_process_reads_a_record_once_and_again_when_it_changes(store, monkeypatch):
    read = []
    monkeypatch.setattr(
        stores, "read_record", lambda path, folder: read.append(path) or read_record(path, folder)
    )
    path = store.put(RECORD)
    for place in (str(store.folder), f"{store.folder}/../{store.folder.name}"):
        assert open_store(place).records() == [RECORD]
    assert open_store(str(store.folder)).get(RECORD.spec) == RECORD
    assert read == [path]
    other = dataclasses.replace(RECORD, provenance={**RECORD.provenance, "seconds": 2.0})
    store.put(other)
    assert open_store(str(store.folder)).records() == [other]
    assert pickle.loads(pickle.dumps(open_store(str(store.folder))))._known == {}


def test_nothing_there_is_none(store):
    assert store.get(RECORD.spec) is None


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: text.replace("0.3", "0.2"), "checksum"),
        (lambda text: text[: len(text) // 2], "not a whole record"),
        (lambda text: "[]", "not a whole record"),
        (lambda text: "", "not a whole record"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_set_aside_and_named(store, spoil, says, capsys):
    path = store.put(RECORD)
    path.write_text(spoil(path.read_text()))
    assert store.get(RECORD.spec) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert str(path) in line
    assert not path.exists()
    assert (store.folder / "quarantine" / path.name).exists()
    assert store.get(RECORD.spec) is None


def test_a_record_under_another_name_is_set_aside(store, capsys):
    path = store.put(RECORD)
    path.rename(path.with_name("lambda_max-0123456789abcdef.json"))
    assert store.records() == []
    assert "belongs to" in capsys.readouterr().err


def test_a_record_of_an_older_schema_is_history(store, monkeypatch):
    store.put(RECORD)
    monkeypatch.setattr(LambdaMaxSpec, "schema", LambdaMaxSpec.schema + 1)
    assert store.get(RECORD.spec) is None
    assert store.records() == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_round_trip_and_know_their_run(store, capsys):
    state = {"w": torch.randn(3, 2), "n": torch.tensor(7)}
    store.put_weights(NET, state)
    found = store.get_weights(NET)
    assert all(torch.equal(state[k], found[k]) for k in state)
    other = training(PROFILES["smoke"], "cifar100", "adam", 1)
    store.weights_path(NET).rename(store.weights_path(other))
    with pytest.raises(UserError, match="start again"):
        store.get_weights(other)
    assert f"belongs to run {run_id(NET)}" in capsys.readouterr().err


def test_a_run_has_one_owner_and_death_frees_it(store):
    code = (
        "import sys, time; from pathlib import Path; from snt_core.runs.store import Store;"
        "from tests.runs.test_store import NET\n"
        "with Store(Path(sys.argv[1])).lock(NET) as mine: print(mine, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(store.folder)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline().strip() == "True"
    assert store.is_running(NET)
    with store.lock(NET) as mine:
        assert not mine
    other.kill()
    other.wait()
    assert not store.is_running(NET)
    with store.lock(NET) as mine:
        assert mine


def test_parallel_writers_do_not_mix(store):
    code = (
        "import sys; from pathlib import Path; from snt_core.runs.store import Store;"
        "from tests.runs.test_store import RECORD\n"
        "for _ in range(50): Store(Path(sys.argv[1])).put(RECORD)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(store.folder)]) for _ in range(2)]
    while any(w.poll() is None for w in writers):
        assert store.get(RECORD.spec) in (None, RECORD)
    assert [w.returncode for w in writers] == [0, 0]
    assert store.get(RECORD.spec) == RECORD


def test_a_run_does_not_leave_its_store_through_a_link(store, tmp_path, capsys):
    outside = tmp_path.parent / f"{tmp_path.name} outside"
    outside.mkdir()
    (outside / "checkpoint.pt").write_text("another's")
    (outside / "progress.json").write_text("another's")
    folder = store.run_dir(NET)
    folder.parent.mkdir()
    folder.symlink_to(outside)
    store.require_begun(NET)
    store.begin_session(NET, {})
    assert str(folder) in capsys.readouterr().err
    (folder / "progress.json").symlink_to(outside / "progress.json")
    store.put_progress(NET, 1, 2)
    assert store.progress(NET) == 0.0
    assert {file.name: file.read_text() for file in outside.iterdir()} == {
        "checkpoint.pt": "another's",
        "progress.json": "another's",
    }


def test_a_quarantine_that_is_a_link_takes_nothing(store, tmp_path, capsys):
    outside = tmp_path.parent / f"{tmp_path.name} outside"
    outside.mkdir()
    (store.folder / "quarantine").symlink_to(outside)
    path = store.put(RECORD)
    path.write_text("damaged")
    assert store.get(RECORD.spec) is None
    assert "quarantine is a link" in capsys.readouterr().err
    assert path.exists()
    assert list(outside.iterdir()) == []


NO_FILES = [
    lambda path: os.mkfifo(path),
    lambda path: path.mkdir(),
    lambda path: path.symlink_to("nowhere"),
]


@pytest.fixture(params=NO_FILES, ids=["pipe", "folder", "link to nothing"])
def no_file(request):
    """Puts something into a path that is no file, and in whose place one can be written."""

    def put(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        request.param(path)

    return put


@pytest.mark.parametrize("name", ["weights", "digest"])
def test_what_is_no_file_of_weights_makes_room(store, no_file, name, capsys):
    state = {"a": torch.ones(2)}
    store.put_weights(NET, state)
    path = store.weights_path(NET)
    place = path if name == "weights" else path.with_suffix(".sha256")
    no_file(place)
    assert store.has_weights(NET) == (name == "digest")
    assert str(place) in capsys.readouterr().err
    store.put_weights(NET, state)
    assert store.has_weights(NET)
    no_file(path)
    with pytest.raises(UserError, match="missing, or were damaged"):
        store.get_weights(NET)


@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint-1.safetensors", "sessions.json"])
def test_what_is_no_file_of_a_run_under_way_makes_room(store, no_file, name, capsys):
    place = store.run_dir(NET) / name
    no_file(place)
    store.require_begun(NET)
    assert store.begin_session(NET, {"a": 1}) == []
    assert str(place) in capsys.readouterr().err
    assert name == "sessions.json" or not os.path.lexists(place)
    assert os.path.lexists(store.folder / "quarantine" / name)


def test_progress_that_is_no_file_is_none(store, no_file):
    no_file(store.run_dir(NET) / "progress.json")
    store.put_progress(NET, 1, 2)
    assert store.progress(NET) == 0.0
