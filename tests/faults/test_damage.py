"""What is damaged is named, set aside and made again by the same command, in real runs."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch

from snt_core.runs import runner
from snt_core.runs.identity import run_id
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.plan import pending
from snt_core.runs.store import Store
from tests.runs.test_runner import NET, SHARP

MORE = LambdaMaxSpec(parent=NET, n_samples=16, max_products=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Store:
    store = Store(tmp_path_factory.mktemp("made"))
    runner.run_all([NET, SHARP], store, profile="smoke")
    return store


@pytest.fixture
def store(made, tmp_path) -> Store:
    """A copy of the store with one net and one measurement of it."""
    shutil.copytree(made.folder, tmp_path / "store")
    return Store(tmp_path / "store")


def flip(path, place=-1000):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def lines(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("snt: ")]


def rewritten(store, spec, **provenance):
    """The record of `spec` with other provenance; a key that is None is left out."""
    record = store.get(spec)
    facts = {**record.provenance, **provenance}
    facts = {key: value for key, value in facts.items() if value is not None}
    store.put(dataclasses.replace(record, provenance=facts))


def test_records_say_which_weights_they_left_or_measured(store):
    net, sharp = store.get(NET), store.get(SHARP)
    kept = store.weights_path(NET).with_suffix(".sha256").read_text()
    assert kept == f"{net.provenance['weights_sha256']}  {run_id(NET)}.safetensors\n"
    assert sharp.provenance["weights_sha256"] == net.provenance["weights_sha256"]


def test_damaged_weights_are_trained_anew_by_the_same_command(store, capsys):
    before = store.get(NET), store.get(SHARP), store.weights_path(NET).read_bytes()
    flip(store.weights_path(NET))
    (record,) = runner.run_all([MORE], Store(store.folder), profile="smoke")
    (line,) = lines(capsys)
    assert str(store.weights_path(NET)) in line
    assert record.spec == MORE
    assert [path.name for path in (store.folder / "quarantine").iterdir()] == [
        store.weights_path(NET).name
    ]
    # the same bits on the same machine, so that what was measured before still holds
    assert store.weights_path(NET).read_bytes() == before[2]
    assert store.get(NET).metrics == before[0].metrics
    assert store.get(SHARP) == before[1]


@pytest.mark.parametrize("noted", ["f" * 64, None], ids=["another", "none: it is older"])
def test_a_measurement_of_other_weights_is_missing_and_made_again(store, capsys, noted):
    rewritten(store, SHARP, weights_sha256=noted)
    assert store.get(SHARP) is None
    assert store.names() == {store.get(NET).name}
    assert pending([NET, SHARP], store) == [SHARP]
    assert any(run_id(SHARP) in line for line in lines(capsys))
    (record,) = runner.run_all([SHARP], Store(store.folder), profile="smoke")
    assert record.provenance["weights_sha256"] == store.get(NET).provenance["weights_sha256"]


def test_a_measurement_that_was_copied_beside_an_older_training_is_left_out(store, capsys):
    """Of a net that was trained before records had digests, and whose weights are elsewhere."""
    sharp = store.get(SHARP)
    rewritten(store, NET, weights_sha256=None)
    rewritten(store, SHARP, weights_sha256=None)  # as old as the training
    for file in store.folder.glob("weights/*"):
        file.unlink()
    assert Store(store.folder).get(SHARP) is not None
    store.put(sharp)
    assert Store(store.folder).get(SHARP) is None
    assert any(run_id(SHARP) in line for line in lines(capsys))


def test_a_net_that_comes_out_as_another_is_measured_anew_at_once(store, monkeypatch):
    """As on another machine: weights are lost, and the training finds others."""
    store.weights_path(NET).unlink()
    write = Store.put_weights

    def other(self, spec, state):
        write(self, spec, {name: x + 0.01 * x.is_floating_point() for name, x in state.items()})

    monkeypatch.setattr(Store, "put_weights", other)
    old = store.get(SHARP)
    records = runner.run_all([NET, SHARP, MORE], Store(store.folder), profile="cifar")
    digests = {record.provenance["weights_sha256"] for record in records}
    assert len(records) == 3
    assert digests == {store.get(NET).provenance["weights_sha256"]}
    assert old.provenance["weights_sha256"] not in digests
    assert records[0].profile == "smoke"  # it takes the place of the record that was there


def test_a_net_that_is_trained_again_and_diverges_has_no_measurements(store, capsys):
    net = store.get(NET)
    facts = {**net.provenance, "weights_sha256": None}
    store.put(dataclasses.replace(net, status="diverged", metrics={}, provenance=facts))
    again = Store(store.folder)
    assert again.get(NET).status == "diverged"
    assert again.get(SHARP) is None
    assert any(run_id(SHARP) in line and "diverged" in line for line in lines(capsys))
    assert pending([NET, SHARP], again) == [SHARP]
    (record,) = runner.run_all([SHARP], again, profile="smoke")
    assert record.status == "diverged"
    assert pending([NET, SHARP], Store(store.folder)) == []


def test_the_digest_of_older_weights_is_taken_once_and_said(store, capsys):
    rewritten(store, NET, weights_sha256=None)
    rewritten(store, SHARP, weights_sha256=None)
    beside = store.weights_path(NET).with_suffix(".sha256")
    kept = beside.read_text()
    beside.unlink()
    for _ in range(2):
        assert Store(store.folder).has_weights(NET)
    (line,) = lines(capsys)
    assert "first time" in line
    assert beside.read_text() == kept
    assert store.get(SHARP) is not None
    flip(store.weights_path(NET))
    assert not Store(store.folder).has_weights(NET)


def test_whole_weights_that_are_not_recorded_are_not_used_and_stay(store, capsys):
    """A training that another process is about to record, or that was killed before it was."""
    store.put_weights(NET, {"w": torch.zeros(3)})
    assert not store.has_weights(NET)
    assert store.weights_path(NET).exists()
    assert "of other weights" in lines(capsys)[0]


def test_a_damaged_state_is_set_aside_and_the_run_starts_anew(store, capsys):
    store.run_dir(NET).mkdir(parents=True)
    other = Store(store.folder.parent / "other")
    other.run_dir(NET).mkdir(parents=True)
    checkpoint = other.run_dir(NET) / "checkpoint.pt"
    checkpoint.write_bytes(b"sha256 of nothing")
    (record,) = runner.run_all([NET], other, profile="smoke")
    (line,) = lines(capsys)
    assert str(checkpoint) in line
    assert record.metrics == store.get(NET).metrics
    assert (other.folder / "quarantine" / "checkpoint.pt").exists()


def test_a_metric_that_is_not_finite_ends_as_diverged(store, monkeypatch):
    """It would stop the writing of the record, and so each later start."""
    found = dataclasses.replace(LambdaMaxSpec(parent=NET, n_samples=24), max_products=2)
    outcome = runner.Outcome(metrics={"lambda_max": float("nan")}, n_samples=24)
    monkeypatch.setattr(LambdaMaxSpec, "perform", lambda self, context: outcome)
    (record,) = runner.run_all([found], store, profile="smoke")
    assert (record.status, record.metrics) == ("diverged", {})
    assert pending([found], store) == []
