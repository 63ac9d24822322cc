"""Tables from records: the numbers that a reader sees are the records'."""

import pytest

from snt_core import frames, paper, present
from snt_core.edition import Result
from snt_core.profiles import PROFILES
from tests.test_claims import FALLING, RISING, result


@pytest.fixture
def made() -> Result:
    return result("table4", (0, 1), RISING, FALLING)


def test_headline_joins_the_numbers_of_each_net(made):
    rows = frames.headline(made.records).set_index(["approach", "seed"])
    assert len(rows) == 8
    for (approach, seed), row in rows.iterrows():
        assert row.top1 == pytest.approx(RISING[approach])
        assert row.lambda_max == FALLING[approach] + seed
        assert row.correct.mean() * 100 == pytest.approx(RISING[approach])


def test_comparison_shows_paper_ours_and_their_difference(made):
    theirs = paper.table3("PTQ", "ResNet-20")
    columns = {"lambda_max": "lambda_max", "top1": "top-1"}
    frame = frames.comparison(frames.headline(made.records), theirs, columns, ["adam", "sam"])
    rows = frame.set_index(["quantity", "approach"])
    assert rows.loc[("top-1", "sam"), "paper"] == 68.33
    assert rows.loc[("top-1", "sam"), "ours (mean)"] == pytest.approx(70.0)
    assert rows.loc[("top-1", "sam"), "ours - paper"] == pytest.approx(1.67)
    assert rows.loc[("lambda_max", "adam"), "ours (mean)"] == pytest.approx(105.5)
    assert set(rows["n seeds"]) == {2}
    low, high = map(float, rows.loc[("top-1", "adam"), "95 % interval"].split(" to "))
    assert low < 60 < high


def test_no_difference_is_shown_where_other_data_stand_in(made):
    smoke = Result("table4", PROFILES["smoke"], (0,), made.records)
    ours, theirs = frames.headline(made.records), paper.table4()
    html = present.comparison(smoke, ours, theirs, {"top1": "top-1"}, ["adam"]).data
    assert "ours - paper" not in html


def test_tables_of_the_paper():
    assert paper.table4().loc["arch", "lambda_max"] == 39.43
    assert paper.table3("PTQ", "ResNet-20").loc["sam", "top1"] == 68.33
    assert len(paper.claims()) == 22
