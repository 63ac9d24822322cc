"""The explorer's tables against values read straight from records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snt_core.paper import explorer
from snt_core.paper.explorer import AFTER, BEFORE
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import lambda_max, sharpness
from snt_core.runs.record import Record
from tests.records import changed, result


def one(table, **columns):
    """The one row of a table that has these values."""
    for name, value in columns.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_a_point_is_a_compressed_net_beside_its_own_sharpness():
    qualities = {"top1": {"adam": 80.0, "sam": 78.0}, "before": 60.0, "after": 75.0}
    made = result("table4", (0,), lambda_max={"adam": 105.0, "sam": 15.0}, **qualities)
    points = explorer.points(made.records)
    for record in made.records:
        if record.spec.kind != "ptq":
            continue
        dense = next(r for r in made.records if r.spec == record.spec.net).metrics["test"]["top1"]
        for when, part in ((BEFORE, "before"), (AFTER, "after")):
            row = one(points, record=record.name, when=when)
            assert row.top1 == record.metrics[part]["top1"]
            assert row.lost == pytest.approx(dense - row.top1)
            assert row.compression == "W4"
    adam = points[points.approach == "ADAM"]
    assert set(adam.lambda_max) == {105.0}
    assert set(points[points.approach == "SAM"].lambda_max) == {15.0}
    assert adam.normalised.isna().all()


def test_nets_of_one_name_keep_their_own_sharpness():
    """The radius of SAM is no column of a net's name: such nets were mixed up by a join on it."""
    made = result("deviations", (0,), part={"about": "rho"}, lambda_max={("sam", 0.2): 7.0})
    points = explorer.points(made.records)
    wide = points[points.training.str.contains("rho 0.2")]
    assert len(wide)
    assert set(wide.lambda_max) == {7.0}
    assert 7.0 not in set(points[~points.training.str.contains("rho 0.2")].lambda_max)


def test_sharpness_is_the_profiles_own_and_converged():
    made = result("table4", (0,), lambda_max=40.0)
    net = made.records[0].spec.net
    usual = lambda_max(PROFILES["cifar"], net)
    facts = next(r for r in made.records if r.spec == usual)
    few = Record(
        spec=lambda_max(PROFILES["cifar"], net, n_samples=500),
        profile="cifar",
        status="done",
        metrics={**facts.metrics, "lambda_max": 1.0},
        n_samples=500,
    )
    mine = explorer.points([few, *made.records])
    assert 1.0 not in set(mine.lambda_max)
    lost = changed(made, lambda spec: spec == usual, metrics={**facts.metrics, "converged": False})
    others = explorer.points([few, *lost.records])
    assert 1.0 in set(others.lambda_max)  # the next best
    assert len(explorer.points(lost.records)) < len(mine)


def test_normalised_sharpness_stands_beside():
    made = result("table4", (0,), lambda_max=40.0)
    net = made.records[0].spec.net
    _, spec = sharpness(PROFILES["cifar"], net)
    found = {"normalised": 3.5, "converged": True}
    scaled = Record(spec=spec, profile="cifar", status="done", metrics=found, n_samples=9)
    points = explorer.points([*made.records, scaled])
    assert points.normalised.dropna().unique().tolist() == [3.5]


@pytest.mark.parametrize(
    ("artefact", "part", "name", "when"),
    [
        ("figure5", {"backbone": "resnet20", "method": "one-shot"}, "50% pruned at once", BEFORE),
        ("figure5", {"backbone": "resnet20", "method": "iterative"}, "50% pruned in rounds", AFTER),
        ("table3qat", {"backbone": "mixer_s"}, "W4/A4, QAT", AFTER),
    ],
)
def test_each_kind_of_compression_has_its_name(artefact, part, name, when):
    made = result(artefact, (0,), part=part)
    nets = {record.spec.net for record in made.records}
    metrics = {"lambda_max": 9.0, "converged": True}
    sharp = [
        Record(
            spec=lambda_max(PROFILES["cifar"], net),
            profile="cifar",
            status="done",
            metrics=metrics,
            n_samples=9,
        )
        for net in nets
    ]
    points = explorer.points([*made.records, *sharp])
    assert when in set(points[points.compression == name].when)


def test_smoke_and_what_diverged_are_no_points():
    assert explorer.points(result("table4", (0,), profile="smoke").records).empty
    made = changed(result("table4", (0,)), lambda spec: spec.kind == "ptq", status="diverged")
    assert explorer.points(made.records).empty


def test_a_curve_is_a_trainings_history():
    made = result("table4", (0,))
    first = next(r for r in made.records if r.spec.kind == "train")
    history = [
        {"epoch": float(e), "train_loss": 3.0 - e, "val_loss": 2.0, "val_top1": 10.0 * e}
        for e in (1, 2)
    ]
    told = replace(first, metrics={**first.metrics, "history": history})
    curves = explorer.curves([told, *made.records[1:]])
    assert set(curves.record) == {first.name}
    assert curves.epoch.tolist() == [1.0, 2.0]
    assert curves.train_loss.tolist() == [2.0, 1.0]
    assert curves.val_top1.tolist() == [10.0, 20.0]
    assert set(curves.test_top1) == {first.metrics["test"]["top1"]}


def test_without_records_the_tables_keep_their_columns_and_the_pictures_say_so():
    assert {"lambda_max", "lost"} <= set(explorer.points([]).columns)
    assert {"epoch", "val_top1"} <= set(explorer.curves([]).columns)
    assert explorer.figure(explorer.points([])).axes
    assert explorer.curves_figure(explorer.curves([])).axes


def test_the_picture_draws_every_point():
    points = explorer.points(result("table4", (0, 1)).records)
    drawn = sum(len(line.get_xdata()) for ax in explorer.figure(points).axes for line in ax.lines)
    assert drawn == len(points)
