"""Tables of transformers, of the proxy, of the analyses and of the sensitivity runs."""

from dataclasses import replace

import numpy as np
import pytest

from snt_core.paper import (
    deviations,
    figure1,
    figure2,
    figure3,
    numbers,
    proxy,
    specification,
    table1,
    table2,
)
from snt_core.paper.evidence import frame as frame_of
from snt_core.paper.profiles import PROFILES
from snt_core.runs.record import Record
from tests.records import STEP, changed, result, without

# tokens -----------------------------------------------------------------------------------------


def vit(**columns) -> list[Record]:
    return result("table2", **columns).records


def settings(records: list[Record], method: str) -> list[float]:
    return next(list(r.spec.settings) for r in records if getattr(r.spec, "method", "") == method)


@pytest.mark.parametrize("method", ["prune", "merge"])
@pytest.mark.parametrize("which", [2, -1], ids=["third", "last"])
def test_at_a_setting_the_drop_is_exactly_its_own(method, which):
    records = vit(prune={"sam": 5}, merge={"sam": 5}, faster=0.25)
    setting = settings(records, method)[which]
    by = frame_of(records, "tokens")
    by = by[by.method == method].sort_values(["approach", "seed"])
    dense, own = by[by.setting.isna()], by[by.setting == setting]
    (speed,) = set(own.speedup)
    found = table2.at_speedup(records, method, speed)
    assert found["drop"].tolist() == pytest.approx(own["drop"].tolist())
    for loss, before, after in zip(found.loss, dense.correct, own.correct, strict=True):
        assert np.array_equal(loss, before.astype(float) - after)


@pytest.mark.parametrize("method", ["prune", "merge"])
@pytest.mark.parametrize("target", [1.1, 1.3, 1.49, 1.6])
def test_between_settings_the_drop_lies_on_a_line(method, target):
    """Losses in proportion to the speed-up are read in that proportion, image by image."""
    found = table2.at_speedup(vit(**{method: {"adam": 20, "sam": 5}}), method, target)
    slopes = found.approach.map({"adam": 20, "sam": 5})
    assert found["drop"].tolist() == pytest.approx((slopes * (target - 1)).tolist(), abs=STEP)
    assert [100 * loss.mean() for loss in found.loss] == pytest.approx(found["drop"].tolist())
    assert all(np.abs(loss).max() <= 1 for loss in found.loss)
    assert len(found) == 4


def test_all_nets_are_read_at_the_same_place():
    """One net was measured slower; the target is reached by the mean of both."""
    records = vit(faster={"adam": 0.2, "sam": 0.4})
    first, second, *_ = settings(records, "prune")
    found = table2.at_speedup(records, "prune", 1.45)
    assert set(found.settings) == {f"{first} to {second}"}  # means are 1.3, 1.6
    # half way: adam from 1.2 to 1.4, sam from 1.4 to 1.8, 10 points at twice the speed
    drops = found.groupby("approach")["drop"].mean()
    assert drops["adam"] == pytest.approx(3.0, abs=STEP)
    assert drops["sam"] == pytest.approx(6.0, abs=STEP)


def test_the_first_setting_is_reached_from_no_setting():
    records = vit()
    found = table2.at_speedup(records, "merge", 1.1)
    assert set(found.settings) == {f"none to {settings(records, 'merge')[0]}"}


def test_a_speed_out_of_reach_is_empty():
    records = vit(faster=0.1)
    for method in ("prune", "merge"):
        fastest = 1 + 0.1 * len(settings(records, method))
        assert len(table2.at_speedup(records, method, fastest - 0.01)) == 4
        assert table2.at_speedup(records, method, fastest + 0.01).empty
    assert table2.at_speedup([], "merge", 1.1).empty
    only = [r for r in records if getattr(r.spec, "method", "") != "merge"]
    assert table2.at_speedup(only, "merge", 1.1).empty


def test_table2_stands_beside_the_papers():
    columns = {"lost": {"sam": 8}, "before": {"sam": 79}, "prune": {"adam": 20}}
    ours = table2.table(vit(lambda_max={"adam": 700, "sam": 20}, **columns))
    rows = table2.beside_paper(ours).set_index("quantity")
    assert list(rows.index) == list(numbers.table2().index)
    assert rows["ADAM (paper)"].tolist() == numbers.table2().adam.tolist()
    expected = {
        "lambda_max": (700, 20),
        "converged_top1": (80, 80),
        "delta_top1_weight_pruning": (-5, -2),
        "delta_top1_token_pruning": (-3.6, -1.8),
        "delta_top1_token_merging": (-18, -18),
        "delta_top1_quantization": (-30, -1),
    }
    for quantity, values in expected.items():
        assert tuple(rows.loc[quantity, ["ADAM", "SAM"]]) == pytest.approx(values, abs=STEP)
    slow = table2.table(vit(faster=0.01))
    assert set(expected) - set(slow.quantity) == {
        "delta_top1_token_pruning",
        "delta_top1_token_merging",
    }


# the proxy --------------------------------------------------------------------------------------


def test_points_are_the_drops_of_every_compression():
    columns = {"before": {"adam": (40, 42)}, "after": {"adam": 75}, "lambda_max": {"adam": 9}}
    made = result("proxy", part={"backbone": "resnet20"}, lost={"adam": 10}, **columns)
    frame = proxy.table(made.records)
    own = frame[(frame.approach == "adam") & (frame.seed == 1)]
    bits = [f"W{b}/Afloat{c}" for b in (4, 8) for c in ("", ", per channel")]
    expected = {("cifar100", f"{name}, fine-tuned"): 5 for name in bits}
    expected |= {("cifar100", name): 38 for name in bits}
    expected |= {("cifar10", "50% pruned"): 2.5, ("cifar10", "70% pruned"): 4.9}
    drops = own.set_index(["data", "compression"])["drop"].to_dict()
    assert drops == pytest.approx(expected)
    assert set(own.lambda_max) == {9}
    assert len(own) == len(expected)
    # preact was trained for the ablation alone: its rows have the bits of that table
    preact = frame[(frame.approach == "preact") & (frame.seed == 0)]
    assert sorted(preact.compression) == ["W4/Afloat", "W4/Afloat, fine-tuned"]


def test_points_of_a_transformer_have_tokens_and_no_training_that_was_not():
    frame = proxy.table(vit(before={"sam": 75}, prune={"sam": 20}))
    own = frame[(frame.approach == "sam") & (frame.seed == 0)]
    assert own.set_index("compression")["drop"].to_dict() == pytest.approx(
        {"50% pruned": 5, "W8/A8": 5, "tokens pruned, 1.18x": 3.6, "tokens merged, 1.90x": 18}
    )
    slow = proxy.table(vit(faster=0.1))
    assert set(slow.compression) == {"50% pruned", "W8/A8", "tokens pruned, 1.18x"}


def test_points_leave_out_eigenvalues_that_did_not_converge():
    frame = proxy.table(vit(converged={"adam": (True, False)}))
    assert set(zip(frame.approach, frame.seed)) == {("adam", 0), ("sam", 0), ("sam", 1)}
    none = proxy.table(vit(converged=False))
    assert none.empty
    assert "compression" in none
    made = result("proxy", part={"backbone": "vit"})
    assert proxy.table(without(made, lambda s: s.kind == "lambda_max").records).empty
    assert proxy.table([]).empty


# analyses ---------------------------------------------------------------------------------------


def test_variants_of_one_approach_keep_their_own_numbers():
    """Three nets are called sam, seed 0: each row has the numbers of its own."""
    radii, lambdas = (0.05, 0.1, 0.2), (30.0, 20.0, 10.0)
    columns = {
        "lambda_max": {("sam", rho): x for rho, x in zip(radii, lambdas)},
        "after": {("sam", rho): 60 + x for rho, x in zip(radii, lambdas)},
    }
    made = result("deviations", part={"about": "rho"}, **columns)
    rows = deviations.table(made.records, "rho")
    assert len(rows) == 3 * 2
    found = set(zip(rows.setting, rows.lambda_max, rows.top1))
    assert found == {(f"rho {r:g}", x, 60 + x) for r, x in zip(radii, lambdas)}
    lost = changed(
        made,
        lambda s: s.kind == "ptq" and s.net.recipe.rho == 0.1,
        status="diverged",
        metrics={},
    )
    assert set(deviations.table(lost.records, "rho").setting) == {"rho 0.05", "rho 0.2"}


def test_variants_of_the_architecture():
    made = result("deviations", (0,), part={"about": "architecture"})
    assert set(deviations.table(made.records, "architecture").setting) == {
        "ResNet-20, ARCH",
        "ResNet-20, ARCH, no last activation",
        "Mixer-S, ARCH",
        "Mixer-S, ARCH, along channels",
    }


@pytest.mark.parametrize(
    ("about", "settings", "approaches"),
    [
        ("schedule", ["5 epochs", "15 epochs", "45 epochs"], {"adam", "sam", "arch"}),
        (
            "factorial",
            list(deviations.FACTORIAL.values()),
            {*deviations.FACTORIAL} - {"base", "snt"} | {"adam", "arch"},
        ),
        (
            "optimizer",
            [
                "SAM",
                "ADAM",
                "ARCH",
                "ARCH with SAM",
                "adaptive SAM",
                "ADAM, averaged weights",
                "SGD",
                "ARCH with SGD",
            ],
            {"sam", "adam", "arch", "arch+sam", "sgd", "arch+sgd"},
        ),
    ],
)
def test_each_setting_has_its_own_row(about, settings, approaches):
    made = result("deviations", (0,), part={"about": about})
    rows = deviations.table(made.records, about)
    assert list(dict.fromkeys(rows.setting)) == settings
    assert set(rows.approach) == approaches
    assert not rows.duplicated(["setting", "approach"]).any()
    drawn = deviations.figure(rows, {"top1": "W4"})
    assert [t.get_text() for t in drawn.axes[0].get_yticklabels()] == settings


def test_what_came_out_names_the_nets_in_order():
    good = {"lambda_max": {"adam": 105, "sam": 15, "arch": 60}, "after": {"sam": 72}}
    made = result("deviations", (0,), part={"about": "schedule"}, **good)
    first, *_ = deviations.outcome(deviations.table(made.records, "schedule"))
    assert first.startswith(
        "With 5 epochs, sharpness rises in the order SAM (15), ARCH (60), ADAM (105); W4 top-1 "
        "falls in the order SAM (72.00 %), "
    )
    rows = deviations.table(made.records, "schedule")
    lone = rows[(rows.setting != "45 epochs") | (rows.approach == "adam")]
    assert len(deviations.outcome(lone)) == 2
    made = result("deviations", (0,), part={"about": "rho"})
    (said,) = deviations.outcome(deviations.table(made.records, "rho"))
    assert said.startswith("Here sharpness rises in the order rho 0.05 (100)")
    assert deviations.outcome(deviations.table([], "rho")) == []


def test_settings_of_the_measurement():
    made = result("deviations", part={"about": "measurement"}, before={"sam": (60, 70)})
    settings = deviations.lambda_settings(made.records)
    assert settings.groupby("approach").setting.nunique().to_dict() == dict(
        zip(("adam", "arch", "sam"), (3, 3, 3))
    )
    assert "N = 500, eval mode" in set(settings.setting)
    table = deviations.observers(made.records).set_index("observer")
    assert sorted(table.index) == ["minmax", "mse", "percentile"]
    assert table.sam.tolist() == [65.0] * 3


def test_step_times_are_quotients_to_adams():
    made = result("table1", (0,), seconds={"adam": 0.5, "sam": 1.0, "snt": 0.6})
    ratios = table1.table(made.records).groupby("contender").ratio.agg(["min", "max", "size"])
    assert ratios.loc["adam"].tolist() == [1, 1, 3]
    assert ratios.loc["sam"].tolist() == [2, 2, 3]
    assert ratios.loc["snt"].tolist() == pytest.approx([1.2, 1.2, 3])


def test_components_of_a_transformer():
    made = result("figure1", ffn={"sam": 0.8})
    ranks = figure1.ranks(made.records).set_index(["approach", "part", "seed"])
    assert ranks.loc[("sam", "ffn", 0), "explained"] == pytest.approx(0.8)
    assert ranks.loc[("adam", "qkv", 1), "effective_rank"] == 110
    assert ranks.loc[("untrained", "ffn", 1), "explained"] == pytest.approx(0.3)
    assert len(ranks) == 3 * 2 * 2
    curve = figure1.table(made.records)
    one = curve[(curve.approach == "sam") & (curve.part == "ffn") & (curve.seed == 0)]
    assert one.components.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert one.explained.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_channels_and_codes_and_spectra():
    channels = figure2.table(result("figure2", ratio={"sam": 3.0}).records)
    assert channels.groupby("approach").ratio.first().to_dict() == {"adam": 5.0, "sam": 3.0}
    assert set(channels.block) == {"blocks.1"}
    records = result("figure3", (0,), weights={"arch": 3.5}, lambda_max={"sam": 7.0}).records
    codes = figure3.table(records).set_index(["approach", "part"]).entropy
    assert codes["arch", "weights"] == 3.5
    assert codes["arch", "activations"] == 2.0
    traces = figure3.traces(records).set_index("approach")
    assert traces.loc["sam", ["smallest", "largest"]].tolist() == [-1.0, 7.0]
    assert np.shape(frame_of(records, "surface").losses[0]) == (3, 3)


@pytest.mark.parametrize("approach", ["adam", "arch"])
def test_subsets_say_how_lambda_max_varies_with_the_images(approach):
    made = result("deviations", (0,), part={"about": "measurement"})
    values = iter([90.0, 95.0, 100.0, 105.0, 110.0] * 3)

    def on_a_subset(record: Record) -> bool:
        spec = record.spec
        full = spec.kind == "lambda_max" and spec.n_samples == PROFILES["cifar"].n_lambda
        return full and spec.bn_mode == "eval"

    records = [
        replace(r, metrics=r.metrics | {"lambda_max": next(values)}) if on_a_subset(r) else r
        for r in made.records
    ]
    rows = deviations.subsets(records).set_index("approach").loc[approach]
    assert (rows["subsets"], rows["mean"], rows["min"], rows["max"]) == (5, 100, 90, 110)
    assert rows["standard deviation (%)"] == pytest.approx(np.sqrt(250 / 4))
    alone = [r for r in records if getattr(r.spec, "part", 0) == 0]
    assert deviations.subsets(alone).empty
    # the other table of the measurement shows the first set alone
    assert len(deviations.lambda_settings(records)) == 9


def test_both_forms_of_pact_stand_side_by_side():
    made = result("deviations", (0, 1), part={"about": "pact"}, after={"arch": (60, 70)})
    rows = deviations.forms(made.records).set_index(["approach", "form"])
    assert rows.after["arch", "affine"] == rows.after["arch", "symmetric"] == pytest.approx(65)
    assert len(rows) == 6


# the specification curve -----------------------------------------------------------------------

COMBINATIONS = 2 * 2 * 2 * (1 + 3)  # rounding, range, edges, no fine-tuning or one of three rates


def test_each_combination_of_choices_is_one_point_a_curve():
    made = result(
        "specification", before={"adam": 40, "arch": 45, "sam": 38}, after={"adam": 70, "arch": 69}
    )
    rows = specification.table(made.records)
    assert len(rows) == 2 * COMBINATIONS
    assert rows.choices.nunique() == COMBINATIONS
    by = rows.groupby(["approach", rows.rate > 0])["mean"]
    assert by.mean()["arch", False] == pytest.approx(5, abs=STEP)
    assert by.mean()["sam", False] == pytest.approx(-2, abs=STEP)
    assert by.mean()["arch", True] == pytest.approx(-1, abs=STEP)
    assert by.count()["arch", False] == 8


def test_a_better_float_net_does_not_count_as_losing_less():
    made = result("specification", top1={"arch": 85}, before={"arch": 55}, after={"arch": 75})
    assert specification.table(made.records)["mean"].abs().max() <= STEP


def test_shares_count_what_lies_clear_of_zero():
    made = result("specification", before={"arch": 60}, after={"arch": 69.9})
    rows = specification.shares(specification.table(made.records))
    arch = rows[rows.approach == "ARCH"].set_index("combinations")
    assert arch.loc["not fine-tuned", "clearly less"] == arch.loc["not fine-tuned", "in all"] == 8
    assert arch.loc["fine-tuned", "loses less"] == 0
    assert arch.loc["all", "in all"] == COMBINATIONS
    said = specification.outcome(specification.table(made.records), PROFILES["cifar"])
    assert said[0].startswith(
        "Of 32 combinations of choices 32 were run for ARCH. It loses less than ADAM in 8 of them"
    )


def test_without_an_approach_its_curve_is_left_out():
    made = without(result("specification"), lambda spec: spec.net.approach == "sam")
    rows = specification.table(made.records)
    assert set(rows.approach) == {"arch"}
    assert len(specification.figure(rows).axes) == 2
    assert specification.table([]).empty
