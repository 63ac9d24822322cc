"""Tables from records: the numbers that a reader sees are the records'."""

import json
from dataclasses import replace

import numpy as np
import pytest

from snt_core.book import cards
from snt_core.paper import figure6, figure7, numbers, quantized
from snt_core.paper.artefacts import artefacts
from snt_core.paper.evidence import frame as frame_of
from snt_core.paper.profiles import PROFILES
from snt_core.paper.selection import Selection
from snt_core.runs.record import Record
from tests.paper.test_claims import FALLING, RISING
from tests.records import STEP, result


@pytest.fixture
def made() -> Selection:
    return result("table4", lambda_max=FALLING, after=RISING)


@pytest.mark.parametrize("artefact", artefacts())
def test_the_records_of_these_tests_are_such_as_runs_write(artefact):
    for record in result(artefact, (0,)).records:
        again = Record.from_json(record.to_json())
        assert again == record
        found = record.spec.headline(record.metrics)
        assert all(np.isfinite(list(found.values())))
        json.dumps(found, allow_nan=False)


# nets and quantized nets ------------------------------------------------------------------------


def test_headline_joins_the_numbers_of_each_net(made):
    rows = quantized.nets(made.records).set_index(["approach", "seed"])
    assert len(rows) == 8
    for (approach, _), row in rows.iterrows():
        assert row.top1 == pytest.approx(RISING[approach])
        assert row.lambda_max == FALLING[approach]
        assert row.correct.mean() * 100 == pytest.approx(RISING[approach])


def test_comparison_shows_paper_ours_and_their_difference(made):
    theirs = numbers.table3("PTQ", "ResNet-20")
    columns = {"lambda_max": "lambda_max", "top1": "top-1"}
    frame = quantized.comparison(quantized.nets(made.records), theirs, columns, ["adam", "sam"])
    rows = frame.set_index(["quantity", "approach"])
    assert rows.loc[("top-1", "sam"), "paper"] == 68.33
    assert rows.loc[("top-1", "sam"), "ours (mean)"] == pytest.approx(70.0)
    assert rows.loc[("top-1", "sam"), "ours - paper"] == pytest.approx(1.67)
    assert rows.loc[("lambda_max", "adam"), "ours (mean)"] == pytest.approx(105)
    assert set(rows["n seeds"]) == {2}
    low, high = map(float, rows.loc[("top-1", "adam"), "95 % interval"].split(" to "))
    assert low < 60 < high


def test_no_difference_is_shown_where_other_data_stand_in(made):
    smoke = replace(made, profile=PROFILES["smoke"])
    ours, theirs = quantized.nets(made.records), numbers.table4()
    frame = quantized.comparison(ours, theirs, {"top1": "top-1"}, ["adam"])
    assert "ours - paper" in cards.comparison(made, frame).data
    assert "ours - paper" not in cards.comparison(smoke, frame).data


def test_quantized_says_whether_there_was_training():
    part = {"backbone": "mixer_s"}
    mixer, vit = (result(a, part=p) for a, p in (("table3", part), ("table2", {})))
    rows = quantized.quantized([*mixer.records, *vit.records])
    assert set(map(tuple, rows[["model", "kind", "act_bits", "trained", "after"]].values)) == {
        ("mixer_s", "ptq", 0, True, 70.0),
        ("mixer_s", "static", 8, True, 70.0),
        ("vit_tiny", "static", 8, False, 50.0),
    }
    assert set(rows.before) == {50.0}


def test_quantization_summary_is_the_mean_over_seeds():
    made = result("table3", part={"backbone": "resnet20"}, after={"sam": (70.0, 72.0)})
    rows = quantized.summary(made.records).set_index("approach")
    assert rows.loc["sam", "after"].tolist() == pytest.approx([71.0] * 4)
    assert set(rows.float) == {80.0}
    assert set(zip(rows.weight_bits, rows.per_channel)) == {
        (bits, channel) for bits in (4, 8) for channel in (False, True)
    }


def test_tables_of_the_paper():
    assert numbers.table4().loc["arch", "lambda_max"] == 39.43
    assert numbers.table3("PTQ", "ResNet-20").loc["sam", "top1"] == 68.33
    assert len(numbers.claims()) == 22


def test_curves_hold_every_reading():
    frame = figure6.table(result("figure6", (0,), after=RISING).records)
    last = frame[frame.step == 100].set_index("approach").val_top1
    assert last.to_dict() == pytest.approx({a: RISING[a] for a in ("adam", "arch", "sam")}, abs=0.2)
    assert frame.groupby("approach").size().eq(21).all()


# pruning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "method"), [("one_shot", "one-shot"), ("imp", "iterative")])
def test_drops_are_from_the_dense_net(kind, method):
    part = {"backbone": "resnet20", "method": method}
    made = result("figure5", part=part, lost={"adam": 40, "sam": 20, "arch": (10, 30)})
    frame = frame_of(made.records, kind)
    assert len(frame) == 3 * 2 * 10
    assert frame[frame.sparsity == 0]["drop"].eq(0).all()
    lost = {("adam", 0): 40, ("adam", 1): 40, ("arch", 0): 10, ("arch", 1): 30}
    for row in frame[frame.approach != "sam"].itertuples():
        assert row.drop == pytest.approx(lost[row.approach, row.seed] * row.sparsity**2, abs=STEP)
        assert row.correct.mean() * 100 == pytest.approx(row.top1)
        assert row.augment == "crop-flip"


def test_half_sparsity_with_and_without_augmentation():
    columns = {"top1": {("adam", "none"): 70}, "lost": {"adam": 40, ("adam", "none"): 20}}
    rows = figure7.at_half(figure7.table(result("figure7", **columns).records))
    rows = rows[rows.approach == "adam"].set_index("augment")
    assert rows.loc["crop-flip"].tolist()[1:] == pytest.approx([80, 70, 10])
    assert rows.loc["none"].tolist()[1:] == pytest.approx([70, 65, 5])
