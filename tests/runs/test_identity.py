"""Specs: identity, round trip, refusal of what makes no sense."""

import dataclasses
import json

import numpy as np
import pytest

from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.paper import table4
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.identity import run_id, to_dict
from snt_core.runs.kinds import from_dict, spec_class
from snt_core.runs.kinds.checkpoint import CheckpointSpec
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.kinds.ptq import PTQSpec
from snt_core.runs.kinds.static import StaticSpec
from snt_core.runs.kinds.tokens import TokenSpec
from snt_core.runs.record import Record
from snt_core.runs.store import Store
from snt_core.training.recipe import Recipe

NET = training(PROFILES["cifar"], "cifar100", "arch", 0)


# Ids name the committed records. Whoever changes one orphans them: bump the kind's schema instead.
NETS = {
    "adam": "fdc0d10dc3e8e900",
    "sam": "2f7b3f59bcda71db",
    "preact": "918dee1e51af4f92",
    "arch": "f0252a4e274574b0",
}
MEASURED = {
    "lambda_max": "4753bf346e69f896",
    "ptq": "1bdfefead499d42e",
    "one_shot": "89e5840ce154c2ae",
}


def test_golden_run_ids():
    cifar = PROFILES["cifar"]
    assert {a: run_id(training(cifar, "cifar100", a, 0)) for a in NETS} == NETS
    specs = [s for s in table4.runs(cifar, [0]) if s.net.approach == "adam"]
    specs.append(OneShotSpec(parent=training(cifar, "cifar100", "adam", 0)))
    found = {s.kind: run_id(s) for s in specs if s.kind != "train"}
    assert found == MEASURED


@pytest.mark.parametrize("artefact", artefacts())
def test_every_spec_survives_its_json(artefact):
    for spec in artefacts()[artefact].runs(PROFILES["smoke"], [0, 1]):
        assert from_dict(spec.kind, to_dict(spec)) == spec
        assert run_id(from_dict(spec.kind, to_dict(spec))) == run_id(spec)


def test_every_field_enters_the_id():
    ptq = PTQSpec(parent=NET, weight_bits=4, finetune=Recipe(epochs=1, lr=1e-4))
    changed = [
        dataclasses.replace(ptq, weight_bits=5),
        dataclasses.replace(ptq, per_channel=True),
        dataclasses.replace(ptq, curve_points=7),
        dataclasses.replace(ptq, seed=3),
        dataclasses.replace(ptq, finetune=dataclasses.replace(ptq.finetune, batch_size=64)),
        dataclasses.replace(ptq, parent=dataclasses.replace(NET, seed=9)),
    ]
    assert len({run_id(spec) for spec in [ptq, *changed]}) == len(changed) + 1


def test_options_that_came_later_enter_where_they_are_used():
    """So the records from before them keep their ids."""
    ptq = PTQSpec(parent=NET, weight_bits=4, finetune=Recipe(epochs=1, lr=1e-4))
    assert not {"clipping", "edge_bits"} & set(to_dict(ptq))
    assert "ema" not in to_dict(ptq)["finetune"]
    used = [
        dataclasses.replace(ptq, clipping="mse"),
        dataclasses.replace(ptq, edge_bits=8),
        dataclasses.replace(ptq, finetune=dataclasses.replace(ptq.finetune, ema=0.9)),
    ]
    assert len({run_id(spec) for spec in [ptq, *used]}) == 4
    assert all(from_dict("ptq", to_dict(spec)) == spec for spec in used)


def test_the_schema_enters_the_id_of_a_run_and_of_its_measurements(monkeypatch):
    child = PTQSpec(parent=NET, weight_bits=4, finetune=Recipe(epochs=1, lr=1e-4))
    before = run_id(NET), run_id(child)
    monkeypatch.setattr(type(NET), "schema", 99)
    assert run_id(NET) != before[0]
    assert run_id(child) != before[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": "cifar"}, "did you mean 'cifar10'"),
        ({"variant": "sntt"}, "did you mean 'snt'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_nonsense_is_refused_in_one_line(change, says):
    with pytest.raises(UserError, match=says) as error:
        dataclasses.replace(NET, **change)
    assert "\n" not in str(error.value)


def test_rho_belongs_to_sam():
    with pytest.raises(UserError, match="only sam"):
        Recipe(epochs=1, lr=1e-3, rho=0.1)


def test_unknown_fields_are_refused():
    values = to_dict(NET) | {"surprise": 1}
    with pytest.raises(UserError, match="surprise"):
        from_dict("train", values)


# equal specs, equal ids ---------------------------------------------------------------------------

QUANTIZED = PTQSpec(parent=NET, weight_bits=4, finetune=Recipe(epochs=1, lr=1e-4))


def with_recipe(**changes) -> PTQSpec:
    return dataclasses.replace(
        QUANTIZED, finetune=dataclasses.replace(QUANTIZED.finetune, **changes)
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (with_recipe(warmup_epochs=1), with_recipe(warmup_epochs=1.0)),
        (with_recipe(warmup_epochs=0), with_recipe(warmup_epochs=0.0)),
        (with_recipe(weight_decay=0), with_recipe(weight_decay=-0.0)),
        (with_recipe(weight_decay=1), with_recipe(weight_decay=np.float64(1))),
        (with_recipe(epochs=2), with_recipe(epochs=2.0)),
        (with_recipe(epochs=2), with_recipe(epochs=np.int64(2))),
        (with_recipe(lr=1), with_recipe(lr=1.0)),
        (with_recipe(adaptive=True), with_recipe(adaptive=np.True_)),
        (
            dataclasses.replace(QUANTIZED, weight_bits=8),
            dataclasses.replace(QUANTIZED, weight_bits=8.0),
        ),
        (
            OneShotSpec(parent=NET, sparsities=(1, 0)),
            OneShotSpec(parent=NET, sparsities=[1.0, 0.0]),
        ),
        (
            TokenSpec(parent=NET, method="merge", settings=(2, 4), batch_size=8, repeats=1),
            TokenSpec(parent=NET, method="merge", settings=(2.0, 4.0), batch_size=8.0, repeats=1),
        ),
        (
            StaticSpec(parent=NET, weight_bits=8, act_bits=8, n_calibration=32),
            StaticSpec(parent=NET, weight_bits=8.0, act_bits=8, n_calibration=np.int32(32)),
        ),
    ],
)
def test_equal_specs_have_equal_ids(one, other):
    assert one == other
    assert hash(one) == hash(other)
    assert run_id(one) == run_id(other)
    assert to_dict(one) == to_dict(other)
    assert from_dict(one.kind, json.loads(json.dumps(to_dict(other)))) == one


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: with_recipe(epochs=1.5), "epochs is 1.5; it must be a whole number"),
        (lambda: with_recipe(epochs=True), "epochs is True; it must be a whole number"),
        (lambda: with_recipe(epochs="2"), "epochs is '2'; it must be a whole number"),
        (lambda: with_recipe(lr="fast"), "lr is 'fast'; it must be a number"),
        (lambda: with_recipe(lr=float("nan")), "lr is nan; it must be a number"),
        (lambda: with_recipe(weight_decay=float("inf")), "weight_decay is inf"),
        (lambda: with_recipe(adaptive=1), "adaptive is 1; it must be true or false"),
        (lambda: with_recipe(augment=None), "augment is None; it must be text"),
        (lambda: with_recipe(warmup_epochs=-1), r"warmup_epochs is -1.0; it must lie in \[0, 1\]"),
        (lambda: OneShotSpec(parent=NET, sparsities=0.5), "sparsities is 0.5; it must be numbers"),
        (lambda: OneShotSpec(parent=NET, sparsities=("a",)), "must be numbers"),
        (lambda: OneShotSpec(parent=None), "parent is None"),
        (lambda: dataclasses.replace(QUANTIZED, finetune=None), "finetune is None"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_line(make, says):
    with pytest.raises(UserError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


# published records --------------------------------------------------------------------------------

RECORDS = sorted((PROJECT / "data" / "records").glob("*/*.json"))
PUBLISHED = [path for path in RECORDS if path.parent.name != "smoke"]


def test_every_published_record_is_found_under_its_id():
    store = Store(PROJECT / "data")
    assert len(PUBLISHED) >= 80
    for path in PUBLISHED:
        body = json.loads(path.read_text())
        if body["schema"] < spec_class(body["kind"]).schema:
            continue  # history
        record = Record.from_json(path.read_text())
        assert record.name == path.stem
        assert record.id == body["id"]
        assert store.get(record.spec) == record
        assert store.get(from_dict(body["kind"], to_dict(record.spec))) == record


def test_a_parent_is_stored_with_its_kind_and_read_without_it():
    values = to_dict(QUANTIZED)
    assert values["parent"]["kind"] == "train"
    del values["parent"]["kind"]  # as the first records
    assert from_dict("ptq", values) == QUANTIZED
    checkpoint = CheckpointSpec(model="vit_b16", source="a", revision="main", approach="sam")
    measured = OneShotSpec(parent=checkpoint)
    values = to_dict(measured)
    assert from_dict("one_shot", values) == measured
    del values["parent"]["kind"]
    assert from_dict("one_shot", values) == measured
