"""The runner: nothing twice, nothing lost to a kill, measurements on the right weights."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from snt_core.common.errors import RunsFailed, UserError
from snt_core.data.facts import FACTS
from snt_core.paper import figure5, table4
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.paper.selection import reproduce, select
from snt_core.paper.standings import standings
from snt_core.runs import runner
from snt_core.runs.identity import record_name, run_id
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.pace import has_card
from snt_core.runs.plan import pending, planned_runs
from snt_core.runs.repeats import repeats
from snt_core.runs.store import Store
from snt_core.runs.verify import run_again
from snt_core.training import engine as engine_module
from snt_core.training.engine import detect
from snt_core.training.recipe import Recipe
from tests.records import record_of

SMOKE = PROFILES["smoke"]
NET = dataclasses.replace(
    training(SMOKE, "cifar100", "adam", 0),
    recipe=Recipe(epochs=1, batch_size=16, lr=1e-2),
)
SWEEP = OneShotSpec(parent=NET, sparsities=(0.5,))
SHARP = LambdaMaxSpec(parent=NET, n_samples=32, max_products=3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store with one small net and its two measurements, made by two processes."""
    store = Store(tmp_path_factory.mktemp("store"))
    seen = []
    records = runner.run_all(
        [NET, SWEEP, SHARP], store, profile="smoke", workers=2, report=lambda *a: seen.append(a)
    )
    return store, records, seen


def test_records_come_in_order_and_are_stored(finished):
    store, records, seen = finished
    assert [r.spec for r in records] == [NET, SWEEP, SHARP]
    assert [store.get(s) for s in (NET, SWEEP, SHARP)] == records
    assert {run_id(s) for s, share in seen if share == 1.0} == {run_id(r.spec) for r in records}


def test_records_say_where_they_come_from(finished):
    for record in finished[1]:
        facts = record.provenance
        assert facts["threads"] == 1
        assert facts["seed"] == 0
        assert facts["seconds"] > 0
        assert facts["started"].endswith("+00:00")
        assert {"commit", "dirty", "torch", "device", "dtype", "peak_memory_mb"} <= set(facts)
        assert facts["fused"] == (record.spec.kind == "train" and detect().fused)
    assert finished[1][1].n_samples == FACTS["few-digits"].test
    assert finished[1][2].n_samples == 32


def test_a_sweep_starts_at_the_dense_accuracy(finished):
    train, sweep, _ = finished[1]
    assert sweep.metrics["sweep"][0]["top1"] == train.metrics["test"]["top1"]


def test_nothing_is_run_twice(finished, monkeypatch):
    store, records, _ = finished
    monkeypatch.setattr(runner, "_perform", None)  # calling it would fail
    assert runner.run_all([NET, SWEEP, SHARP], store, profile="smoke") == records


def test_a_measurement_brings_its_training_along(tmp_path):
    assert pending([SWEEP, SHARP], Store(tmp_path)) == [NET, SWEEP, SHARP]


def test_weights_that_are_gone_are_trained_again_for_a_new_measurement_only(finished):
    store, _, _ = finished
    weights = store.weights_path(NET)
    content = weights.read_bytes()
    weights.unlink()
    other = OneShotSpec(parent=NET, sparsities=(0.25,))
    try:
        assert pending([NET, SWEEP], store) == []
        assert pending([other], store) == [NET, other]
    finally:
        weights.write_bytes(content)
    assert pending([other], store) == [other]


def test_verify_repeats_a_record(finished):
    store, records, _ = finished
    for record in records:
        assert run_again(record, store).text == "identical"
    kept = {one.record: one for one in repeats(store)}
    assert set(kept) == {record.name for record in records}
    assert all(one.same and one.changed == [] for one in kept.values())
    assert all(one.provenance["seconds"] > 0 for one in kept.values())


def test_verify_tells_a_difference(finished):
    store, records, _ = finished
    train = records[0]
    other = {"test": {**train.metrics["test"], "top1": 1.0}}
    result = run_again(dataclasses.replace(train, metrics=other), store)
    assert not result.same
    assert "top1 1 ->" in result.text
    assert "other data" not in result.text
    elsewhere = {**train.provenance, "data_digest": "0" * 16}
    result = run_again(dataclasses.replace(train, metrics=other, provenance=elsewhere), store)
    assert "(on other data: digest 0000000000000000, today " in result.text


def test_verify_tells_what_it_cannot_keep(finished, tmp_path, capsys):
    store, records, _ = finished
    shutil.copytree(store.folder, tmp_path / "store", ignore=shutil.ignore_patterns("verified"))
    (tmp_path / "store" / "verified").write_text("a file where a folder would be")
    assert run_again(records[0], Store(tmp_path / "store")).text == "identical"
    told = capsys.readouterr().err
    assert told.startswith("snt: what was found is told, and not kept (")
    assert told.count("\n") == 1


def test_the_plan_times_what_is_missing_by_what_was_timed(finished):
    store, records, _ = finished
    double = dataclasses.replace(NET, recipe=dataclasses.replace(NET.recipe, epochs=2))
    (step,) = planned_runs([NET, double], store)
    assert step.spec == double
    spent = "seconds" if has_card() else "cpu_seconds"
    assert step.seconds == pytest.approx(2 * records[0].provenance[spent], rel=0.01)


def test_a_diverged_training_is_a_record_and_so_are_its_measurements(tmp_path, monkeypatch):
    import torch

    from snt_core import nets

    build = nets.build

    def broken(*args):
        net = build(*args)
        net.head.weight.data.fill_(torch.nan)
        return net

    monkeypatch.setattr(nets, "build", broken)
    store = Store(tmp_path)
    records = runner.run_all([NET, SWEEP], store, profile="smoke")
    assert [r.status for r in records] == ["diverged", "diverged"]
    assert records[0].metrics["diverged_at"] > 0
    assert pending([NET, SWEEP], store) == []


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory.\nMore words."), OSError(5, "I/O")]
)
def test_a_failing_run_stops_no_other_and_is_told_in_a_line(tmp_path, monkeypatch, error):
    def fails(self, context):
        raise error

    store, other = Store(tmp_path), dataclasses.replace(NET, seed=1)
    monkeypatch.setattr(LambdaMaxSpec, "perform", fails)
    with pytest.raises(RunsFailed) as told:
        runner.run_all([SHARP, NET, SWEEP], store, profile="smoke")
    (line,) = told.value.lines
    assert record_name(SHARP) in line
    assert "\n" not in line
    assert store.names() == {record_name(NET), record_name(SWEEP)}
    if not isinstance(error, OSError):
        assert "fails" in (store.run_dir(SHARP) / "failure.txt").read_text()
    monkeypatch.setattr(TrainSpec, "perform", fails)
    lost = dataclasses.replace(SWEEP, parent=other)
    with pytest.raises(RunsFailed) as told:
        runner.run_all([other, lost], store, profile="smoke")
    assert len(told.value.lines) == 2
    assert "1 measurements" in told.value.lines[1]


def test_a_full_disk_stops_all_runs(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LambdaMaxSpec, "perform", full)
    store = Store(tmp_path)
    with pytest.raises(OSError, match="No space"):
        runner.run_all([SHARP, SWEEP], store, profile="smoke")
    assert store.names() == {record_name(NET)}


def long_net() -> TrainSpec:
    return dataclasses.replace(NET, recipe=Recipe(epochs=4, batch_size=16, lr=1e-2))


SCRIPT = """
import sys
from pathlib import Path
from snt_core.runs import runner
from snt_core.training import fit as train
from snt_core.runs.store import Store
from tests.runs.test_runner import long_net

train.CHECK_EVERY, train.SAVE_EVERY = 5, 0.0
if __name__ == "__main__":
    runner.run_all([long_net()], Store(Path(sys.argv[1])), profile="smoke")
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    """SIGKILL in the middle of an epoch, then again: the end is the uninterrupted one's."""
    store, spec = Store(tmp_path / "killed"), long_net()
    checkpoint = store.run_dir(spec) / "checkpoint.pt"
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(store.folder)])
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert checkpoint.exists()
    assert store.get(spec) is None
    assert not store.is_running(spec)

    (record,) = runner.run_all([spec], store, profile="smoke")
    assert record.provenance["resumed_at_step"] >= 5
    assert len(record.provenance["interrupted"]) == 1
    assert record.provenance["interrupted"][0]["started"] <= record.provenance["started"]
    assert not store.run_dir(spec).exists()
    (whole,) = runner.run_all([spec], Store(tmp_path / "whole"), profile="smoke")
    assert whole.provenance["resumed_at_step"] == 0
    assert whole.provenance["interrupted"] == []
    assert record.metrics == whole.metrics


def test_workers_die_with_their_parent(tmp_path):
    """An orphan would go on training and keep its run locked."""
    store, spec = Store(tmp_path), long_net()
    parallel = SCRIPT.replace("[long_net()]", "[long_net(), long_net_two()]").replace(
        'profile="smoke"', 'profile="smoke", workers=2'
    )
    parallel = parallel.replace("import long_net", "import long_net, long_net_two")
    path = tmp_path / "script.py"
    path.write_text(parallel)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, str(path), str(store.folder)], env=env)
    deadline = time.monotonic() + 120
    while not store.is_running(spec) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert store.is_running(spec)
    child.kill()
    child.wait()
    while store.is_running(spec) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not store.is_running(spec)
    assert store.get(spec) is None


def long_net_two() -> TrainSpec:
    return dataclasses.replace(long_net(), recipe=Recipe(epochs=200, batch_size=16, lr=1e-2))


def test_published_prefers_what_is_complete_and_never_takes_smoke(tmp_path, monkeypatch):
    store = Store(tmp_path)
    assert select("table4", "published", (), store).profile.name == "cifar"
    complete = {f"{s.kind}-{run_id(s)}" for s in table4.runs(PROFILES["cifar"], [1])}
    monkeypatch.setattr(Store, "names", lambda self: complete)
    chosen = select("table4", "published", (), store)
    assert (chosen.profile.name, chosen.seeds) == ("cifar", (1,))
    assert select("table4", "published", (0,), store).seeds == (0,)
    # One seed at full scale does not push aside three that are complete.
    cifar, paper = PROFILES["cifar"], PROFILES["paper"]
    complete |= {f"{s.kind}-{run_id(s)}" for s in table4.runs(cifar, cifar.seeds)}
    complete |= {f"{s.kind}-{run_id(s)}" for s in table4.runs(paper, [0])}
    assert select("table4", "published", (), store).profile.name == "cifar"
    complete |= {f"{s.kind}-{run_id(s)}" for s in table4.runs(paper, paper.seeds)}
    assert select("table4", "published", (), store).profile.name == "paper"


def test_reproduce_refuses_nonsense_before_any_work(tmp_path):
    for wrong in ({"artefact": "table9"}, {"profile": "smok"}, {"seeds": ["a"]}):
        with pytest.raises(UserError):
            reproduce(**{"artefact": "table4", "store": str(tmp_path), **wrong})
    assert list(tmp_path.iterdir()) == []


def test_standings_count_every_run(tmp_path):
    store = Store(tmp_path)
    net, sweep, *others = figure5.runs(SMOKE, SMOKE.seeds)
    for spec in (net, sweep):
        store.put(record_of(spec, "smoke"))
    with store.lock(others[0]) as mine:
        rows = {(r.artefact, r.profile): r for r in standings(store)}
    assert mine
    row = rows["figure5", "smoke"]
    assert (row.done, row.running, row.missing) == (2, 1, len(others) - 1)


def test_the_engine_is_not_part_of_a_runs_identity():
    assert "dtype" not in {f.name for f in dataclasses.fields(TrainSpec)}
    assert detect(exact=True).dtype == "fp32"
    assert not detect(exact=True).fused


RANKS = """
import sys
from pathlib import Path

from snt_core.runs import runner
from snt_core.training import ranks
from snt_core.training.engine import Engine
from snt_core.runs.store import Store
from tests.runs.test_runner import NET, SWEEP

folder = Path(sys.argv[1])
exact = Engine(device="cpu", dtype="fp32", fused=False)
with ranks.joined():
    records = runner.run_all([NET, SWEEP], Store(folder), profile="smoke", engine=exact)
    name = "main" if ranks.is_main() else "other"
    (folder / name).write_text("".join(record.to_json() for record in records[:1]))
"""


def test_under_torchrun_all_ranks_share_a_run_and_one_writes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(RANKS)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(script), str(tmp_path)],
        env={**env, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    store = Store(tmp_path)
    train, sweep = store.get(NET), store.get(SWEEP)
    assert train.provenance["ranks"] == 2
    assert sweep.metrics["sweep"][0]["top1"] == train.metrics["test"]["top1"]
    assert (tmp_path / "main").read_text() == train.to_json()
    assert (tmp_path / "other").exists()
    assert not store.run_dir(NET).exists()


def test_a_busy_machine_is_noticed_and_an_idle_one_is_not(monkeypatch):
    monkeypatch.setattr(engine_module.os, "cpu_count", lambda: 2)
    for others, said in ((0.9, None), (1.6, "1.6 of 2 cores")):
        monkeypatch.setattr(engine_module, "busy_cores", lambda others=others: others)
        assert engine_module.busy() == said


def test_busy_cores_counts_the_work_of_others():
    spin = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        assert engine_module.busy_cores() > 0.3
    finally:
        spin.kill()
        spin.wait()
