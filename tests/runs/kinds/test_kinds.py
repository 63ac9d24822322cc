"""Every kind of run, on tiny nets: what its record holds, and that it repeats."""

from __future__ import annotations

import dataclasses
import os
import signal
from statistics import median

import pytest

from snt_core.common.workers import Killed
from snt_core.data.facts import FACTS
from snt_core.nets import MODELS
from snt_core.paper import figure5, table1, table3qat
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs import runner
from snt_core.runs.kinds import kinds, spec_class
from snt_core.runs.kinds.channels import ChannelsSpec
from snt_core.runs.kinds.density import DensitySpec
from snt_core.runs.kinds.entropy import EntropySpec
from snt_core.runs.kinds.imp import IMPSpec
from snt_core.runs.kinds.pca import PCASpec
from snt_core.runs.kinds.static import StaticSpec
from snt_core.runs.kinds.surface import SurfaceSpec
from snt_core.runs.kinds.tokens import TokenSpec
from snt_core.runs.store import Store
from snt_core.training import step_time
from snt_core.training.engine import detect
from snt_core.training.fit import Diverged
from snt_core.training.recipe import Recipe

SMOKE = PROFILES["smoke"]
SHORT = Recipe(epochs=1, batch_size=32, lr=1e-2)
NET = dataclasses.replace(training(SMOKE, "cifar10", "arch", 0), val_size=56, recipe=SHORT)
VIT = dataclasses.replace(training(SMOKE, "imagenet", "adam", 0, "vit"), val_size=40, recipe=SHORT)
IMP = IMPSpec(parent=NET, sparsities=(0.3, 0.6, 0.9), finetune=SHORT)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def metrics(spec, store: Store) -> dict:
    (record,) = runner.run_all([spec], store, profile="smoke")
    assert record.status == "done"
    assert all(isinstance(v, float) for v in record.spec.headline(record.metrics).values())
    return record.metrics


def test_every_kind_names_itself_and_has_a_golden_shape():
    for kind in kinds():
        assert spec_class(kind).kind == kind


def test_iterative_pruning_has_a_row_per_round(store):
    rows = metrics(IMP, store)["sweep"]
    assert [row["sparsity"] for row in rows] == [0.0, 0.3, 0.6, 0.9]
    assert rows[0]["n"] == FACTS["few-digits"].test


def test_iterative_pruning_goes_on_after_a_kill(store, tmp_path, monkeypatch):
    """Dead in the third round, again from the start of that round: the same rows."""
    from snt_core.methods.compress import prune

    whole = metrics(IMP, store)
    killed = Store(tmp_path)
    runner.run_all([NET], killed, profile="smoke")
    update, calls = prune._mask, []

    def dies(model, level):
        calls.append(level)
        if level > 0.7:
            raise KeyboardInterrupt
        update(model, level)

    monkeypatch.setattr(prune, "_mask", dies)
    with pytest.raises(KeyboardInterrupt):
        runner.run_all([IMP], killed, profile="smoke")
    before = len(calls)
    monkeypatch.setattr(
        prune, "_mask", lambda model, level: (calls.append(level), update(model, level))
    )
    (record,) = runner.run_all([IMP], killed, profile="smoke")
    assert record.metrics == whole
    assert min(calls[before:]) > 0.6  # the first two rounds were not repeated
    assert record.provenance["resumed_at_step"] > 0
    assert len(record.provenance["interrupted"]) == 1
    assert not killed.run_dir(IMP).exists()


def test_a_round_that_diverges_is_a_record(store, tmp_path, monkeypatch):
    from snt_core.training import fit as train

    def fit(*args, **kwargs):
        raise Diverged(3)

    place = Store(tmp_path)
    runner.run_all([NET], place, profile="smoke")
    monkeypatch.setattr(train, "fit", fit)
    (record,) = runner.run_all([IMP], place, profile="smoke")
    assert record.status == "diverged"
    assert [row["sparsity"] for row in record.metrics["sweep"]] == [0.0]


def test_static_quantization_without_training_has_only_a_before(store):
    spec = StaticSpec(parent=NET, weight_bits=8, act_bits=8, n_calibration=32)
    found = metrics(spec, store)
    assert set(found) == {"before"}
    again = dataclasses.replace(spec, finetune=SHORT)
    found = metrics(again, store)
    assert next(point["step"] for point in found["curve"]) == 0
    assert found["after"]["n"] == FACTS["few-digits"].test


def test_qat_trains_from_the_float_net(store):
    (spec,) = [
        s
        for s in table3qat.runs(SMOKE, [0], backbone="mobilenet_v1")
        if s.kind == "qat" and s.net.approach == "adam"
    ]
    found = metrics(dataclasses.replace(spec, parent=NET, finetune=SHORT), store)
    assert {"before", "after", "curve"} <= set(found)


def test_entropy_surface_and_density(store):
    entropy = metrics(EntropySpec(parent=NET, n_samples=16), store)
    for part in entropy.values():
        assert 0 < part["mean"] <= 4
        assert sum(part["histogram"]) == pytest.approx(1)
    surface = metrics(SurfaceSpec(parent=NET, n_samples=16, points=3), store)
    assert [len(row) for row in surface["losses"]] == [3, 3, 3]
    density = metrics(DensitySpec(parent=NET, n_samples=16, probes=2, steps=3), store)
    assert [sum(row) for row in density["weights"]] == pytest.approx([1, 1])


def test_transformer_analyses(store):
    pca = metrics(PCASpec(parent=VIT), store)
    assert set(pca) == {"trained", "untrained"}
    assert all(part["mean"][-1] == pytest.approx(1) for part in pca["trained"].values())
    assert len(pca["untrained"]["ffn"]["at_share"]) == 12
    channels = metrics(ChannelsSpec(parent=VIT, n_samples=8), store)
    assert len(channels["ratios"]) == 12
    assert len(channels["low"]) == 192


@pytest.mark.parametrize(("method", "settings"), [("merge", (0, 4)), ("prune", (1.0, 0.5))])
def test_tokens_start_at_the_plain_net(store, method, settings):
    spec = TokenSpec(parent=VIT, method=method, settings=settings, batch_size=4, repeats=1)
    plain, mild, strong = metrics(spec, store)["sweep"]
    assert plain["setting"] is None
    assert mild["correct"] == plain["correct"]  # r = 0 and keep ratio 1 change nothing
    assert min(mild["speedup"], strong["speedup"]) > 0


def test_steps_are_timed_in_turn(store):
    (spec,) = table1.runs(SMOKE, [0], backbone="resnet20")
    found = metrics(dataclasses.replace(spec, rounds=4, batch_size=32), store)["steps"]
    assert set(found) == {"adam", "sam", "snt"}  # not compiled: eager alone
    assert all(len(c["seconds"]) == 4 for c in found.values())
    assert all(c["median"] == pytest.approx(median(c["seconds"]), abs=1e-6) for c in found.values())
    assert all(min(c["memory_mb"]) >= 0 for c in found.values())
    assert all(len(c["memory_mb"]) == 2 for c in found.values())  # no more than half the rounds


def is_killed(*told):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_that_measures_memory_ends_the_timing(monkeypatch):
    monkeypatch.setattr(step_time, "_growth", is_killed)
    with pytest.raises(Killed, match="SIGKILL"):
        step_time._memory("adam", None, FACTS["few-digits"], detect(exact=True), False)


def test_figures_of_pruning_share_their_nets():
    nets = {s for m in ("one-shot", "iterative") for s in figure5.runs(SMOKE, [0], method=m)}
    assert len([s for s in nets if s.kind == "train"]) == 6
    assert all(s.net.model in MODELS for s in nets)
