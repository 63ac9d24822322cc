"""A scheduler and four workers, real processes on loopback: what they make is what one makes."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import distributed
import pytest

from snt_core.common.errors import RunsFailed, UserError
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs import places, runner
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.parcels import unpack
from snt_core.runs.places import DaskPlace
from snt_core.runs.store import Store
from snt_core.training import fit as train
from snt_core.training.engine import detect
from snt_core.training.recipe import Recipe

NET = dataclasses.replace(
    training(PROFILES["smoke"], "cifar100", "adam", 0),
    recipe=Recipe(epochs=1, batch_size=16, lr=1e-2),
)
SHARP = LambdaMaxSpec(parent=NET, n_samples=32, max_products=3)
SWEEP = OneShotSpec(parent=NET, sparsities=(0.5,))
LONG = dataclasses.replace(NET, recipe=dataclasses.replace(NET.recipe, epochs=4000))
WORKERS = 4


@contextmanager
def cluster(place, *options):
    """Yield a scheduler's address and, by their names, a worker for each of the `options`."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{one.getsockname()[1]}"

    def start(what, *words):
        with (place / "log.txt").open("ab") as log:
            command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words]
            return subprocess.Popen(command, env=env, cwd=place, stdout=log, stderr=log)

    port, quiet = address.split(":")[-1], ("--no-dashboard",)
    processes = [start("scheduler", "--host", "127.0.0.1", "--port", port, *quiet)]
    workers = {}
    for turn, own in enumerate(options):
        name = f"worker{turn}"
        words = ("--no-nanny", *own, "--name", name, "--local-directory", str(place))
        workers[name] = start("worker", address, *words, *quiet)
    yield address, workers
    for process in [*workers.values(), *processes]:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """An address, and the workers' processes by their names."""
    with cluster(tmp_path_factory.mktemp("cluster"), *[("--nthreads", "1")] * WORKERS) as found:
        yield found


def run_on(scheduler, specs, store, report=runner.silent, apart=False):
    """The records of `specs`, made by the workers; `apart`: they do not see the store."""
    with DaskPlace(scheduler=scheduler[0]).crew(store, exact=True) as crew:
        crew.client.wait_for_workers(1, timeout=60)
        if apart:
            crew.marker.unlink()
        return runner.run_all(specs, store, profile="smoke", crew=crew, report=report)


def run_here(specs, store):
    return runner.run_all(specs, store, profile="smoke", engine=detect(exact=True))


@pytest.mark.slow
def test_what_workers_share_no_store_with_travels(scheduler, tmp_path):
    store, here = Store(tmp_path / "store"), Store(tmp_path / "here")
    specs = [NET, SHARP, SWEEP]
    records = run_on(scheduler, specs, store, apart=True)
    assert [r.metrics for r in records] == [r.metrics for r in run_here(specs, here)]
    assert store.weights_path(NET).read_bytes() == here.weights_path(NET).read_bytes()
    assert store.has_weights(NET)
    left = {path.parent.name for path in store.folder.rglob("*") if path.is_file()}
    assert left == {"smoke", "weights"}  # nothing of runs under way, nothing half written


def test_a_failure_is_told_and_its_trace_kept(scheduler, tmp_path, monkeypatch):

    store = Store(tmp_path)
    monkeypatch.setattr(runner, "_attempt", attempt_that_fails)
    with pytest.raises(RunsFailed, match="ZeroDivisionError"):
        run_on(scheduler, [NET], store, apart=True)
    assert "1 / 0" in (store.run_dir(NET) / "failure.txt").read_text()
    assert store.names() == set()


def attempt_that_fails(spec, store, engine, profile):
    from snt_core.runs.kinds.train import TrainSpec

    def fails(self, context):
        return 1 / 0

    whole, TrainSpec.perform = TrainSpec.perform, fails
    try:
        return attempt(spec, store, engine, profile)
    finally:
        TrainSpec.perform = whole


attempt = runner._attempt


def test_an_interrupt_stops_the_workers_with_a_checkpoint(scheduler, tmp_path):
    store = Store(tmp_path)

    def interrupt(spec, share):
        if 0 < share < 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(scheduler, [LONG], store, interrupt)
    assert not store.is_running(LONG)
    assert store.is_begun(LONG)
    assert run_on(scheduler, [NET], store)  # a worker is free for it


def eager_attempt(spec, store, engine, profile):
    """An attempt that writes a checkpoint every second step."""
    train.CHECK_EVERY, train.SAVE_EVERY = 2, 0.0
    return attempt(spec, store, engine, profile)


@pytest.mark.slow
def test_the_runs_of_killed_workers_go_on_elsewhere(scheduler, tmp_path, monkeypatch):
    store, killed = Store(tmp_path / "store"), []
    short = dataclasses.replace(NET.recipe, epochs=6)
    nets = [dataclasses.replace(NET, seed=seed, recipe=short) for seed in range(WORKERS)]
    monkeypatch.setattr(runner, "_attempt", eager_attempt)
    workers = scheduler[1]

    def kill(spec, share):
        if len(killed) < 2 and 0 < share < 1 and spec not in killed and store.is_begun(spec):
            client = distributed.default_client()
            known = client.scheduler_info(n_workers=-1)["workers"]
            for where, keys in client.processing().items():
                if any(key.startswith(f"train-{runner.record_name(spec)[6:]}") for key in keys):
                    workers[known[where]["name"]].kill()
                    killed.append(spec)

    specs = [*nets, dataclasses.replace(SHARP, parent=nets[0])]
    records = run_on(scheduler, specs, store, kill)
    assert len(killed) == 2
    for spec in killed:
        (record,) = [record for record in records if record.spec == spec]
        assert record.provenance["resumed_at_step"] > 0
        assert len(record.provenance["interrupted"]) == 1
    monkeypatch.undo()
    again = [spec for spec in specs if spec in (*killed, nets[0], specs[-1])]
    whole = run_here(again, Store(tmp_path / "here"))
    assert [r.metrics for r in records if r.spec in again] == [r.metrics for r in whole]


def lingers(spec, store, engine, profile):
    """An attempt that notes at which worker it is, from when and until when."""
    where, begun = os.getppid(), time.time()
    time.sleep(1)
    store.folder.joinpath(f"{spec.seed}.txt").write_text(f"{where} {begun} {time.time()}")


def test_a_quarter_of_a_card_is_a_run_s_and_others_take_none(tmp_path):
    """Half a card is declared, which takes two; a worker that declares none takes no run."""
    card = ("--nthreads", "4", "--resources", "GPU=0.5")
    with cluster(tmp_path, ("--nthreads", "2"), card) as (address, workers):
        with DaskPlace(scheduler=address).crew(Store(tmp_path / "store"), exact=True) as crew:
            crew.client.wait_for_workers(2, timeout=60)
            assert crew.free == 2
            for seed in range(4):  # more than fit: they wait
                crew.hand_out(dataclasses.replace(NET, seed=seed), lingers, "smoke")
            while crew.busy:
                assert not [answer.error for answer in crew.answers(60) if answer.error]
        told = [one.read_text().split() for one in (tmp_path / "store").glob("*.txt")]
        assert {int(where) for where, *_ in told} == {workers["worker1"].pid}
    times = [(float(begun), float(end)) for _, begun, end in told]
    assert len(times) == 4
    assert max(sum(b <= at < e for b, e in times) for at, _ in times) == 2


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "records/../../outside"])
def test_nothing_is_unpacked_outside_of_the_store(tmp_path, name):
    with pytest.raises(ValueError, match="none of a store"):
        unpack({name: b"x"}, Store(tmp_path / "store"))
    assert not (tmp_path / "outside").exists()


def test_a_scheduler_that_is_not_there_is_told(tmp_path, monkeypatch):

    monkeypatch.setattr(places, "PATIENCE", "1s")
    with (
        pytest.raises(UserError, match="no scheduler answers at"),
        DaskPlace(scheduler="tcp://127.0.0.1:9").crew(Store(tmp_path), exact=True),
    ):
        pass
