"""The card of a figure: two drawings, what it rests on, files that say where they come from."""

from __future__ import annotations

import base64
import re
from io import BytesIO, StringIO

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from snt_core.book import cards
from snt_core.book.cards.figures import with_records
from snt_core.book.cards.summary import facts
from snt_core.paper import figure3, figure4, looks, table4
from tests.records import changed, result, without

SOMEWHERE = {"device": "a processor", "started": "2026-01-01T00:00:00+00:00"}


@pytest.fixture(scope="module")
def made():
    return result("table4", (0, 1))


def files(html: str) -> dict[str, bytes]:
    """Return the files that a card holds, by the names under which they are saved."""
    found = re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', html)
    return {name: base64.b64decode(content) for name, content in found}


def drawings(html: str) -> list[str]:
    found = re.findall(r'src(?:set)?="data:image/svg\+xml;base64,([^"]+)"', html)
    return [base64.b64decode(content).decode() for content in found]


def test_a_figure_can_be_read_without_its_page(made):
    html = cards.figure(table4.figure, table4.table(made.records), made).data
    about = facts(made)
    assert about == "ResNet-20 on CIFAR-100; profile cifar, seeds 0, 1"
    narrow, wide = drawings(html)
    for svg in (narrow, wide, files(html)["table4.svg"].decode()):
        assert about in svg
    width = [float(re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)[1]) for svg in (narrow, wide)]
    assert width[0] <= 72 * looks.NARROW * 1.05 < width[1]
    alt = re.search(r'alt="([^"]+)"', html)[1]
    assert "in the paper ADAM 105.62" in alt
    assert alt.endswith(about)
    assert "snt_core/paper/table4.py" in html
    assert Image.open(BytesIO(files(html)["table4.png"])).format == "PNG"
    assert "proves that the code runs" not in wide


def test_the_same_numbers_give_the_same_files(made):
    table = table4.table(made.records)
    assert cards.figure(table4.figure, table, made).data == (
        cards.figure(table4.figure, table, made).data
    )


def test_smoke_is_marked_inside_every_drawing():
    smoke = result("table4", (0,), profile="smoke")
    html = cards.figure(table4.figure, table4.table(smoke.records), smoke).data
    for svg in [*drawings(html), files(html)["table4.svg"].decode()]:
        assert "shows no finding" in svg


def test_each_row_names_its_profile_and_its_records(made):
    html = cards.figure(table4.figure, table4.table(made.records), made).data
    rows = pd.read_csv(StringIO(files(html)["table4.csv"].decode()))
    assert len(rows) == 8
    for row in rows.itertuples():
        assert row.profile == "cifar"
        own = [r.name for r in made.records if r.spec.net.approach == row.approach]
        net = [r.name for r in made.records if r.spec.net.seed == row.seed and r.name in own]
        assert row.records.split() == net


def test_rows_of_means_name_the_records_of_all_seeds_and_vectors_are_left_out(made):
    means = pd.DataFrame({"approach": ["adam"], "curve": [[1.0, 2.0]], "top1": [50.0]})
    row = with_records(means, made).iloc[0]
    assert "curve" not in row
    own = [r.name for r in made.records if r.spec.net.approach == "adam"]
    assert row.records.split() == own


def test_seeds_that_one_approach_lacks_are_told(made):
    lacking = without(made, lambda spec: spec.net.approach == "sam" and spec.net.seed == 1)
    assert facts(lacking).endswith("seeds 0, 1 (SAM 0)")
    two = without(lacking, lambda spec: spec.net.approach == "arch" and spec.net.seed == 0)
    assert facts(two).endswith("seeds 0, 1 (SAM 0; ARCH 1)")
    dated = changed(two, lambda spec: True, provenance=SOMEWHERE)
    badges = re.findall(r'<span class="badge">(.*?)</span>', cards.badge(dated).data)
    assert badges[:3] == ["profile cifar", "ResNet-20 on CIFAR-100", "2 seeds (0, 1)"]


def test_panels_stand_below_one_another_on_a_phone():
    side_by_side, _ = looks.panels(2, width=9, height=3)
    with looks.narrow():
        stacked, axes = looks.panels(2, width=9, height=3)
    assert side_by_side.get_size_inches().tolist() == [9, 3]
    assert stacked.get_figwidth() == looks.NARROW
    assert axes[0].get_position().y0 > axes[1].get_position().y1
    assert looks.canvas(9, 3).get_figwidth() == 9  # as before


@pytest.mark.parametrize("limits", [(20, 90), (0.3, 4000), (12, 14)])
def test_logarithmic_axes_carry_few_plain_numbers(limits):
    figure, (ax,) = looks.panels(1)
    ax.plot(limits, limits)
    looks.plain_log(ax.yaxis)
    looks.plain_symlog(ax.xaxis, 1)
    figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        shown = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        assert 2 <= len(shown) <= 9
        for tick in shown:
            assert float(tick.label1.get_text()) == pytest.approx(tick.get_loc(), rel=1e-4)
        assert not axis.get_minorticklocs().size


def test_a_loss_beyond_all_bounds_does_not_stretch_the_scale():
    row = {"alphas": [-1.0, 0.0, 1.0], "betas": [-1.0, 0.0, 1.0], "approach": "adam"}
    losses = [[9.0, 1e12, 9.0], [2.0, 0.5, 2.0], [9.0, 3.0, 9.0]]
    surfaces = pd.DataFrame([{**row, "losses": losses, "middle": 0.5}])
    drawn = figure3.surface_figure(surfaces)
    bar = drawn.axes[-1]
    assert bar.get_ylim()[1] == pytest.approx(figure3.MOST, rel=0.01)
    assert "0.5" in drawn.get_label()


def test_what_is_drawn_from_the_code_has_no_records_and_says_so_by_silence():
    from snt_core.nets import build

    block = build("resnet20", "base", 10, 0).stages[0]
    html = cards.figure(figure4.figure, {"ADAM": block}).data
    assert "conv 3x3" in re.search(r'alt="([^"]+)"', html)[1]
    assert set(files(html)) == {"figure4.svg", "figure4.png"}


def test_figures_are_tied_to_no_window():
    assert isinstance(looks.panels(2)[0], Figure)
