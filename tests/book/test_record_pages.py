"""Pages of records: whole, linked, safe against whatever a record says; then in a browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from snt_core.book import cards, record_links
from snt_core.book.build import build
from snt_core.book.record_extension import RecordPages
from snt_core.book.record_page import Around, code, page
from snt_core.book.record_values import ROWS, shown, text
from snt_core.paper.profiles import can_judge
from snt_core.runs.record import Record
from snt_core.runs.repeats import keep
from snt_core.runs.store import Store
from tests.browsing import Reader
from tests.executions import fill, repetition
from tests.records import changed, result

HOSTILE = "</script></table><img src=x onerror=alert(1)>\"'&"


def test_whatever_a_record_says_stands_as_text():
    record = result("table4").records[0]
    facts = {**record.provenance, "device": HOSTILE, HOSTILE: HOSTILE, "commit": HOSTILE}
    metrics = {HOSTILE: HOSTILE, "list": [{HOSTILE: HOSTILE}], "long": HOSTILE * 9}
    odd = replace(record, metrics=metrics, provenance={**facts, "interrupted": [facts]})
    second = repetition(result=HOSTILE, provenance={"device": HOSTILE, "started": HOSTILE})
    around = Around(pages=[(HOSTILE, "../a.html")], repeats=[second], repository="https://x.y")
    html = page(odd, around)
    assert "<img" not in html
    assert html.count("</script>") == 1  # its own
    assert "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;" in html
    assert f"https://x.y/commit/{HOSTILE[:3]}" not in html


def test_a_commit_has_an_address_where_the_repository_has():
    facts = {"commit": "c" * 40, "dirty": True}
    assert code(facts, "").address == ""
    assert (
        code(facts, "https://github.com/a/b").address == f"https://github.com/a/b/commit/{'c' * 40}"
    )
    assert "/-/commit/" in code(facts, "https://gitlab.com/a/b").address
    assert code({"commit": None}, "https://github.com/a/b").address == ""
    assert code(facts, "").changed


def test_long_values_are_shortened_and_say_so():
    found = shown(
        {"a": {"b": 1.23456789, "c": [1, 2]}, "rows": [{"x": i} for i in range(ROWS + 3)]}
    )
    assert found.pairs == [("a.b", "1.23457"), ("a.c", "1, 2")]
    assert (found.grids[0].title, len(found.grids[0].rows), found.grids[0].more) == (
        "rows",
        ROWS,
        3,
    )
    assert text("A" * 1668).endswith("… (1,668 characters)")
    assert text(list(range(100))).endswith("… (100 values)")
    assert text([[0.0] * 15] * 15) == "15 lists of 15"
    assert text([[0.0], [0.0, 1.0]]) == "2 lists of 1 to 2"
    assert [text(v) for v in (None, True, [], {}, 7)] == ["-", "yes", "none", "{}", "7"]


def test_cells_that_name_a_record_lead_to_its_page():
    names = {"0" * 16: "train-" + "0" * 16, "train-" + "0" * 16: "train-" + "0" * 16}
    target = f'<a href="../records/train-{"0" * 16}.html">'
    for cell in ("train-" + "0" * 16, "0" * 16):
        body = record_links.with_links(f"<td>{cell}</td>", names, "book/intro")
        assert body == f"<td>{target}{cell}</a></td>"
    command = f"<td>snt verify {'0' * 16}</td>"
    assert target in record_links.with_links(command, names, "book/intro")
    assert 'href="records/' in record_links.with_links(command, names, "index")
    for other in (f"<td>train-{'1' * 16}</td>", f"<p>{'0' * 16}</p>", f"<td>{'0' * 15}</td>"):
        assert record_links.with_links(other, names, "book/intro") == other


@dataclass(frozen=True)
class Written:
    records: Sequence[Record]
    store: Store
    html: Path


@pytest.fixture
def written(tmp_path) -> Written:
    """The records of an artefact, one of them run again, and a page that uses them all."""
    store, html = Store(tmp_path / "store"), tmp_path / "html"
    records = fill(store)
    keep(repetition(record=records[0].name, result="as it was"), store)
    page = html / "book" / "a.html"
    page.parent.mkdir(parents=True)
    cells = "".join(f"<td>{record.name}</td>" for record in records)
    pages = RecordPages(lambda: store)
    page.write_text(record_links.with_links(cells, pages.names, "book/a"))
    pages.write(html, {"book/a": "Chapter A", "gone": "Gone"})
    return Written(records, store, html)


def test_each_record_has_its_page_and_its_json(written):
    for record in written.records:
        stored = written.store.record_path(record).read_bytes()
        assert (written.html / "records" / f"{record.name}.json").read_bytes() == stored
        html = (written.html / "records" / f"{record.name}.html").read_text()
        assert f'<a href="{record.name}.json"' in html
        assert '<a href="../book/a.html">Chapter A</a>' in html
        if record.spec.net is not record.spec:
            parent = json.loads(stored)["parents"][0]
            assert f'<a href="train-{parent}.html">' in html
    first = (written.html / "records" / f"{written.records[0].name}.html").read_text()
    assert "as it was" in first


def test_no_link_of_a_record_is_dead(written):
    for file in written.html.glob("records/*.html"):
        for target in re.findall(r'href="([^"#]+)"', file.read_text()):
            if not target.startswith(("http", "../_static", "../index")):
                assert (file.parent / target).is_file(), f"{file.name}: {target}"


def test_what_has_pages_of_its_own_accord():
    assert can_judge("cifar")
    assert not can_judge("smoke")
    assert not can_judge("of-another-day")


def test_smoke_has_pages_only_where_something_leads_there(tmp_path):
    store, html = Store(tmp_path / "store"), tmp_path / "html"
    records = fill(store, profile="smoke")
    RecordPages(lambda: store).write(html, {})
    assert list(html.glob("records/*")) == []
    measured = next(r for r in records if r.spec.net is not r.spec)
    html.joinpath("a.html").write_text(f'<a href="records/{measured.name}.html">')
    RecordPages(lambda: store).write(html, {"a": "A"})
    kinds = sorted(p.stem.partition("-")[0] for p in html.glob("records/*.html"))
    assert kinds == sorted([measured.spec.kind, "train"])  # and the net's own


def test_many_records_take_seconds(tmp_path):
    """Ten seconds of computing for 3,000, and so one for 300: others may use the machine too."""
    store, html = Store(tmp_path / "store"), tmp_path / "html"
    count = len(fill(store, seeds=range(300 // len(fill(store, seeds=[0])))))
    assert count > 290
    begun = time.process_time()
    RecordPages(lambda: store).write(html, {})
    assert time.process_time() - begun < 1
    assert len(list(html.glob("records/*.html"))) == count


FACTS = {
    "device": "a card",
    "started": "2026-11-25T10:00:00+00:00",
    "seconds": 1.0,
    "commit": "c" * 40,
    "dirty": True,
    "interrupted": [{"commit": "d" * 40, "dirty": False}],
}


def test_the_list_of_records_is_folded_and_says_how_many():
    made = changed(result("table4"), lambda spec: True, provenance=FACTS)
    html = cards.provenance(made, made).data
    assert html.startswith('<details class="records"><summary>')
    assert f"{len(made.records)} records" in html
    assert html.count("<tr") == len(made.records) + 1
    assert f"{'d' * 10}, {'c' * 10}+changes" in html
    names = {record.name: record.name for record in made.records}
    body = record_links.with_links(html, names, "book/a")
    assert record_links.linked(body, names) == [record.name for record in made.records]
    assert "Nothing was recorded" in cards.provenance(replace(made, records=[])).data


# in a built book ----------------------------------------------------------------------------


@pytest.fixture
def reader(browser) -> Iterator[Reader]:
    opened = Reader(browser, 1280, "light")
    yield opened
    opened.context.close()


@pytest.fixture
def chapter(small_project, make_chapter, tmp_path, monkeypatch) -> Path:
    """The page of a chapter that lists records, in a built book."""
    monkeypatch.setenv("SNT_STORE", str(tmp_path / "store"))
    fill(Store(tmp_path / "store"))
    make_chapter(
        "from snt_core.book import cards\nfrom snt_core.paper.selection import reproduce",
        'cards.provenance(reproduce("table4", store=store))',
        parameters='profile: str = "published"\nstore: str = ""',
        project=small_project,
    )
    return build(project=small_project).parent / "book" / "table9_small.html"


@pytest.mark.book
def test_a_reader_goes_from_a_chapter_to_a_record_and_back(chapter, reader):
    page = reader.open(chapter)
    fold = page.locator("details.records")
    assert fold.locator("summary").bounding_box()["height"] >= 44
    assert not fold.locator("table").is_visible()
    fold.locator("summary").press("Enter")
    name = fold.locator("tbody a").first.inner_text()
    fold.locator("tbody a").first.click()
    assert page.title() == f"Record {name}"
    page.get_by_role("link", name="table9_small").click()
    assert page.url.endswith("table9_small.html")
    assert reader.wrong == []


@pytest.mark.book
def test_printed_the_list_is_open(chapter, reader):
    page = reader.open(chapter)
    page.emulate_media(media="print")
    assert page.locator("details.records table").bounding_box()["height"] > 100
