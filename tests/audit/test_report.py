"""The report is one page that everybody can read, which loads nothing and runs no script."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from snt_core.audit import frames, placed, report
from snt_core.audit.placed import Place
from snt_core.paper import proxy
from snt_core.runs.store import Store
from tests import axe
from tests.browsing import OVERFLOW, Reader
from tests.records import result

SCRIPT = "<script>window.ran = 1</script>\"'><img src=x onerror='window.ran = 1'>"


@pytest.fixture(scope="module")
def hostile(done):
    """The audit of a net whose every name is an attack."""
    rows = [{**row, "layer": SCRIPT} if "layer" in row else row for row in done.found["outliers"]]
    touched = [{**row, "name": f"{SCRIPT}.weight"} for row in done.look.touched[:1]]
    layers = {SCRIPT: 1, **done.look.layers}
    look = replace(done.look, touched=touched + done.look.touched, layers=layers)
    return replace(
        done,
        facts={**done.facts, "net": SCRIPT},
        notes=(SCRIPT,),
        left_out={SCRIPT: SCRIPT},
        found={**done.found, "outliers": rows},
        look=look,
    )


def test_hostile_text_is_text(hostile):
    html = report.page(hostile, Place(pd.DataFrame({"model": [SCRIPT]})), [SCRIPT])
    soup = BeautifulSoup(html, "html.parser")
    assert not soup.find_all("script")
    assert not [img for img in soup.find_all("img") if not img["src"].startswith("data:")]
    assert not soup.find_all(lambda node: any(a.startswith("on") for a in node.attrs))
    assert soup.get_text().count(SCRIPT) >= 5


def test_the_policy_lets_nothing_but_its_style_and_its_figures(done):
    html = report.page(done, Place(pd.DataFrame(), "no"), [])
    policy = BeautifulSoup(html, "html.parser").find("meta", {"http-equiv": True})["content"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href|srcset)=["'](?!data:)""", html)


@pytest.mark.book
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_read_it(done, hostile, browser, tmp_path, width):
    """In the dark, in the light, on a phone; axe finds nothing, and no text becomes an element."""
    table = placed.beside(fake_book(tmp_path), "cifar10")
    for name, one in (("plain", done), ("hostile", hostile)):
        file = tmp_path / f"{name}.html"
        file.write_text(report.page(one, Place(table), ["Said."]), encoding="utf-8")
        for theme in ("dark", "light"):
            reader = Reader(browser, width, theme)
            page = reader.open(file)
            assert page.evaluate("window.ran") is None
            assert page.locator("figure img").count() == 3
            for image in page.locator("figure img").all():
                assert image.evaluate("img => img.naturalWidth") > 0
                assert len(image.get_attribute("alt").split()) > 5
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert ground == {"dark": "rgb(18, 18, 18)", "light": "rgb(255, 255, 255)"}[theme]
            assert page.evaluate(OVERFLOW) == []
            assert reader.wrong == []
            reader.context.close()
        # axe puts a script into the page, which the policy would refuse
        context = browser.new_context(viewport={"width": width, "height": 900}, bypass_csp=True)
        page = context.new_page()
        page.goto(file.as_uri())
        assert axe.violations(page, width, "dark" if width == 390 else "light") == []
        context.close()


def fake_book(folder) -> Store:
    store = Store(folder / "book")
    for record in result("figure5", (0, 1), profile="cifar").records:
        store.put(record)
    return store


def test_json_says_all_that_the_page_does(done):
    body = json.loads(report.as_json(done, Place(pd.DataFrame(), "why"), ["Said."]))
    assert body["findings"] == frames.findings(done)
    assert len(body["layers"]) == 4
    assert body["book"] == {"why": "why", "nets": [], "lambda_max": "", "evidence": ["Said."]}
    assert set(body["records"]) == set(body["measured"]) == set(done.found)
    assert body["coverage"]["share"] == pytest.approx(14288 / 14458)


def test_sentences_are_those_of_the_numbers(done):
    told = " ".join(frames.findings(done))
    base = done.found["float"][0]["top1"]
    assert f"accuracy is {base:.1f} %" in told
    worst = frames.layers(done).iloc[0]
    assert f"minds 4 bits most is {worst.layer}" in told
    few = replace(done, found={})
    assert frames.findings(few) == ["Nothing was measured yet: the budget was too short."]
    assert "was audited" in report.page(few, Place(pd.DataFrame(), "no"), [])


# beside the book's nets -----------------------------------------------------------------------

CIFAR = "airplane automobile bird cat deer dog frog horse ship truck"


def named(done, *classes, outputs=10, **changes):
    return replace(done, classes=classes, outputs=outputs, **changes)


def test_only_the_same_classes_are_comparable(done, tmp_path):
    book = fake_book(tmp_path)
    same = placed.placed(named(done, *CIFAR.split()), book)
    assert not same.why
    for other in (
        named(done),
        named(done, *CIFAR.split(), outputs=12),
        named(done, *CIFAR.split()[:9], "zebra"),
        named(done, *CIFAR.split(), labelled=False),
        named(done, *CIFAR.split(), facts={**done.facts, "weights": "random"}),
    ):
        assert placed.placed(other, book).why.startswith("Not comparable")
    assert "no record" in placed.placed(named(done, *CIFAR.split()), Store(tmp_path / "none")).why


@pytest.mark.parametrize("spelt", [lambda name: name, lambda name: name.replace("_", " ")])
def test_cifar_100_is_known_by_its_folders(done, spelt):
    names = [spelt(name) for name in placed.CLASSES["cifar100"]]
    assert len(names) == len(set(names)) == 100
    assert placed.data_set_of(named(done, *names, outputs=100)) == "cifar100"
    assert placed.data_set_of(named(done, *names, outputs=10)) is None


def test_lambda_max_stands_beside_the_books_in_one_number_format_only(done, tmp_path):
    book = fake_book(tmp_path)
    for record in result("table1", (0, 1), profile="cifar").records:
        book.put(record)
    same = named(done, *CIFAR.split())
    own = placed.placed(same, book).table.iloc[0]
    assert own.approach == "yours"
    found = done.found["lambda_max normalised=False"][0]
    if found["converged"]:
        assert own["lambda_max"] == found["value"]
    half = replace(same, facts={**done.facts, "number format": "bfloat16"})
    there = placed.placed(half, book)
    assert "lambda_max" not in there.table.iloc[0].dropna()
    assert "not comparable: this net computes in bfloat16" in there.curvature
    open_ = {**done.found, "lambda_max normalised=False": [{**found, "converged": False}]}
    there = placed.placed(replace(same, found=open_), book)
    assert "did not settle" in there.curvature


def test_the_evidence_is_of_the_books_nets_and_never_of_smoke():
    """The sharper ones lose more here, so that the correlation is positive."""
    quality = {"lambda_max": {"adam": 100.0, "sam": 10.0}, "lost": {"adam": 20.0, "sam": 10.0}}
    part = {"backbone": "resnet20"}

    def told(profile):
        made = result("proxy", range(4), profile=profile, part=part, **quality)
        return made.records, placed.correlation(made.records)

    assert told("smoke")[1] == []
    records, (line,) = told("cifar")
    nets = proxy.table(records)[["data", "approach", "seed"]].drop_duplicates()
    assert f"Over the book's {len(nets)} nets" in line
    value, low, high = map(float, re.findall(r"[+-]\d\.\d\d", line))
    assert 0 < low <= value <= high
    assert "not how much one loses" in line


def test_the_books_nets_stand_with_what_they_lost(tmp_path):
    table = placed.beside(fake_book(tmp_path), "cifar10")
    assert table["top-1 (%)"].tolist() == pytest.approx([80.0] * len(table))
    # half of 20 points at sparsity 1 to the square (see tests.records)
    assert table["50 % pruned lost (points)"].dropna().tolist() == pytest.approx(
        [5.0] * len(table), abs=0.1
    )


def test_without_records_the_evidence_says_nothing_that_is_not_there(tmp_path):
    assert placed.evidence(Store(tmp_path)) == []
