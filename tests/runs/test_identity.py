"""Specs: identity, round trip, refusal of what makes no sense."""

import dataclasses

import pytest

from snt_core.common.errors import UserError
from snt_core.paper.experiments import ARTEFACTS, table4
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.kinds import from_dict
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.kinds.ptq import PTQSpec
from snt_core.runs.spec import Recipe, root, run_id, to_dict

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
    specs = [s for s in table4(cifar, [0]) if root(s).approach == "adam"]
    specs.append(OneShotSpec(parent=training(cifar, "cifar100", "adam", 0)))
    found = {s.kind: run_id(s) for s in specs if s.kind != "train"}
    assert found == MEASURED


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_every_spec_survives_its_json(artefact):
    for spec in ARTEFACTS[artefact](PROFILES["smoke"], [0, 1]):
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
