"""Cards of a chapter: what they say where runs are missing, and how they tell what came out."""

import pandas as pd
import pytest

from snt_core.book import cards, certificate
from snt_core.paper import looks, specification
from tests.records import changed, result, without

SOMEWHERE = {"device": "a processor", "started": "2026-01-01T00:00:00+00:00"}


def test_nets_alone_are_no_run_of_what_measures_them():
    made = changed(result("table4"), lambda spec: True, provenance=SOMEWHERE)
    nets = without(made, lambda spec: not spec.leaves_weights)
    assert nets.records
    assert "Not run yet" in cards.badge(nets).data
    assert "Not run yet" not in cards.badge(made).data
    drawn = cards.figure(specification.figure, specification.table([]), nets).data
    assert "nothing was recorded" in drawn
    assert "download" not in drawn


def test_a_figure_that_is_absent_shows_why_in_a_notebook():
    assert looks.absent("no run yet").axes  # IPython shows a figure without axes as its repr


def test_several_assertions_are_told_one_by_one():
    made = result("table4", (0, 1, 2))
    told = cards.outcome("ablation", made).data
    assert told.count("<li>") == 4
    both = cards.outcomes(("ablation", made), ("ablation", made)).data
    assert both.count("What came out") == 1
    assert both.count("<strong>ablation: inconclusive.</strong>") == 2
    assert both.count("<li>") == 8


@pytest.mark.parametrize(
    ("artefact", "says"),
    [("table2", "too few runs to judge its claims"), ("deviations", "no claim is judged by it")],
)
def test_the_certificate_says_why_no_verdict_stands_on_runs(artefact, says):
    assert certificate._without_result(artefact) == says


def test_points_are_shown_to_a_hundredth_and_small_numbers_by_their_digits():
    frame = pd.DataFrame({"lost after": [1.21, -0.003333], "error": [0.000157, 12.5]})
    shown = cards.table(frame).data
    for text in ("1.21", ">0.00<", "0.000157", "12.50"):
        assert text in shown


def test_a_long_word_may_be_broken_and_many_columns_are_narrow():
    long, short = "timm.swin_tiny_patch4_window7_224", "<b> a_b"
    shown = cards.table(pd.DataFrame({"net": [long, short], **{str(i): [1, 2] for i in range(9)}}))
    assert "timm.<wbr>swin_<wbr>tiny_<wbr>patch4_<wbr>window7_<wbr>224<" in shown.data
    assert "&lt;b&gt; a_b<" in shown.data
    assert " narrow" not in shown.data
    wider = cards.table(pd.DataFrame({str(i): [1] for i in range(11)}))
    assert " narrow" in wider.data
