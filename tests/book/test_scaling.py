"""The reckoning of many GPUs: by hand where a hand can do it, by its bounds elsewhere."""

import dataclasses
import json

import pytest

from snt_core.book import scaling
from snt_core.common.errors import UserError
from snt_core.paper.asked import requested
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.kinds.step_time import StepTimeSpec
from snt_core.runs.store import Store, open_store

NETS = [training(PROFILES["smoke"], "cifar100", "adam", seed) for seed in range(3)]
SHARP = [LambdaMaxSpec(parent=net, n_samples=8) for net in NETS]
TIMED = StepTimeSpec(
    data="few-digits", val_size=24, model="resnet20", batch_size=8, rounds=2, fused=False
)


def grid(seconds, weights=None):
    return scaling.Grid(seconds, weights or {}, 0, ())


def test_wall_time_is_that_of_a_schedule_by_hand():
    small = grid({NETS[0]: 10, SHARP[0]: 4, NETS[1]: 6, TIMED: 5})
    assert small.work == 25
    assert small.critical_path == 10 + 4 + 5
    assert small.wall(1) == 25
    assert small.wall(2) == 10 + 4 + 5
    assert small.wall(64) == 19


def test_weights_travel_to_each_measurement_and_back_from_each_training():
    found = grid(dict.fromkeys([NETS[0], SHARP[0], NETS[1]], 1), {NETS[0]: 100, NETS[1]: 7})
    assert found.travels() == (100, 107)


def test_the_published_profile_lies_between_its_bounds():
    found = scaling.grid_of(requested(PROFILES["paper"], (), ()), open_store().records())
    walls = [found.wall(count) for count in scaling.GPUS]
    assert walls[0] == pytest.approx(found.work)
    assert walls == sorted(walls, reverse=True)
    for count, wall in zip(scaling.GPUS, walls):
        least = max(found.work / count, found.critical_path)
        assert least <= wall * (1 + 1e-9)
        assert wall <= found.work / count + found.critical_path * (1 + 1e-9)  # Graham's bound
    assert str(len(found.seconds)) in scaling.in_words(found)
    assert len(scaling.table(found)) == len(scaling.GPUS)


def test_a_run_takes_its_share_of_what_like_runs_took():
    records = [r for r in open_store().records() if r.spec.kind == "train"]
    cards = [r for r in records if str(r.provenance["device"]).startswith("NVIDIA")]
    (like, *_) = cards
    net = like.spec.net
    same = [r for r in cards if (r.spec.model, r.spec.variant) == (net.model, net.variant)]
    total = sum(r.provenance["seconds"] for r in same) / sum(r.spec.work() for r in same)
    double = dataclasses.replace(
        net, recipe=dataclasses.replace(net.recipe, epochs=2 * net.recipe.epochs)
    )
    found = scaling.grid_of([double], records)
    assert found.seconds[double] == pytest.approx(total * double.work())
    assert found.weights[double] == 4 * like.metrics["parameters"]


def test_a_store_without_a_gpu_is_timed_by_published_records(tmp_path):
    found = scaling.with_times(Store(tmp_path))
    assert [r.name for r in found] == [r.name for r in open_store().records()]
    assert "cifar" in {record.profile for record in found}


def test_without_a_gpu_that_is_said():
    with pytest.raises(UserError, match="no record was made on a GPU"):
        scaling.grid_of(NETS, [])


def test_what_was_measured_is_shown_in_order(tmp_path):
    def row(count):
        return {"also": {"workers": count, "grid": 9, "speed_up": count}, "ours": 8 / count,
                "machine": "m", "others_before": 0.0, "commit": "c"}  # fmt: skip

    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "scaling.json").write_text(json.dumps([row(2), row(1)]))
    found = scaling.measured(tmp_path)
    assert found["workers"].tolist() == [1, 2]
    assert found["seconds"].tolist() == [8.0, 4.0]
    assert "idle" in scaling.with_care(found)
    assert "1.5 cores" in scaling.with_care(found.assign(**{"others before (cores)": [0.1, 1.5]}))
    with pytest.raises(UserError, match="make bench ONLY=scaling"):
        scaling.measured(tmp_path / "nowhere")
