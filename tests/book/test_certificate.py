"""The certificate says what the records and the repetitions say, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from snt_core.book import certificate, codecheck
from snt_core.common.files import PROJECT
from snt_core.paper.verdict import scoreboard
from snt_core.runs.repeats import keep
from snt_core.runs.store import Store
from tests.executions import DAY, FACTS, fill, repetition


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


def test_an_execution_is_what_the_records_of_an_artefact_say(store):
    records = fill(store)
    found = {one.artefact: one for one in certificate.executions(store, scoreboard(store))}
    one = found["table4"]
    assert (one.label, one.profile, one.asked) == ("Table 4", "cifar", 36)
    assert {record.name for record in one.records} == {record.name for record in records}
    assert one.command == "snt run --profile cifar --only table4 --seeds 0,1"
    assert one.started == "2026-11-25T00:00:00+00:00"
    assert one.ended == "2026-11-25T23:30:00+00:00"
    assert one.seconds == 1800 * len(records)
    assert one.facts("device") == ["a card"]
    assert one.result.startswith("ablation: ")


def test_all_seeds_need_no_option(store):
    fill(store, seeds=(0, 1, 2))
    one = next(o for o in certificate.executions(store, []) if o.artefact == "table4")
    assert one.command == "snt run --profile cifar --only table4"
    assert len(one.records) == one.asked


def test_an_interrupted_run_began_with_its_first_session(store):
    fill(store, interrupted=[{**FACTS, "started": "2026-11-20T00:00:00+00:00"}])
    one = next(o for o in certificate.executions(store, []) if o.artefact == "table4")
    assert one.started == "2026-11-20T00:00:00+00:00"


def test_smoke_is_no_execution(store):
    fill(store, seeds=(0,), profile="smoke")
    assert certificate.executions(store, []) == []
    assert "nothing was run" in certificate.summary([], [])


def test_the_summary_counts_each_record_once(store):
    records = fill(store)
    executed = certificate.executions(store, [])
    assert len(executed) > 1  # other artefacts read the same runs
    says = certificate.summary(executed, [repetition(), repetition(same=False)])
    hours = 0.5 * len(records)
    assert says.startswith(f"{len(records)} runs for {len(executed)} figures and tables")
    assert f"{hours:.1f} hours" in says
    assert "2 of these were run a second time" in says
    assert "1 agree, 1 do not" in says
    assert "None of them" in certificate.summary(executed, [])


def test_the_last_repetition_of_a_record_that_is_there_counts(store):
    record = fill(store)[0].name
    executed = certificate.executions(store, [])
    later = {**FACTS, "started": "2026-11-26T00:00:00+00:00"}
    last = repetition(record=record, provenance=later)
    for one in (last, repetition(record=record, same=False), repetition()):
        keep(one, store)
    assert certificate.repetitions(store, executed) == [last]
    assert certificate.repetitions(store, []) == []


def test_tables_have_a_row_each(store):
    fill(store)
    executed = certificate.executions(store, scoreboard(store))
    rows = certificate.executions_table(executed)
    assert list(rows.what) == [one.label for one in executed]
    (row,) = rows[rows.what == "Table 4"].to_dict("records")
    assert (row["runs"], row["when"], row["hours of work"]) == ("24 of 36", "2026-11-25", "12.0")
    lines = certificate.commands(executed).splitlines()
    assert [line.split("  # ")[1] for line in lines] == list(rows.what)
    assert [line.split("  # ")[0].rstrip() for line in lines] == [one.command for one in executed]
    assert not rows.isna().any().any()
    (row,) = certificate.repeats_table([repetition()]).to_dict("records")
    assert row["command"] == "snt verify 0123456789abcdef"
    assert (row["agrees"], row["when (UTC)"]) == ("yes", "2026-11-25 10:00")
    assert row["commit"] == "c" * 10
    changed = repetition(provenance={**FACTS, "started": DAY, "dirty": True, "commit": None})
    assert certificate.repeats_table([changed]).commit.tolist() == ["unknown+changes"]


@pytest.mark.parametrize(
    ("result", "numbers", "told"),
    [
        ("identical", {"top1": (1.0, 1.0)}, "identical"),
        ("close: ...", {"top1": (1.0, 1.0 + 1e-9)}, "headline numbers identical"),
        ("DIFFERS: ...", {"top1, a": (158.0, 58.0), "loss": (2.0, 2.0)}, "top1, a 158 -> 58"),
        ("close: ...", {"a": (1.0, 1.25), "b": (2.0, 2.5)}, "a 1 -> 1.25, b 2 -> 2.5"),
    ],
)
def test_a_repetition_tells_what_differs(result, numbers, told):
    found = certificate.repeats_table([repetition(result=result, numbers=numbers)])
    assert found.result.tolist() == [told]


@pytest.mark.parametrize(
    ("last", "told"),
    [("2026-11-22", "2026-11-22"), ("2026-11-25", "2026-11-22 to 25")]
    + [("2026-12-01", "2026-11-22 to 2026-12-01")],
)
def test_a_span_of_days_is_short(store, last, told):
    records = fill(store, seeds=(0,), started="2026-11-22T10:00:00+00:00")
    late = {**FACTS, "started": f"{last}T12:00:00+00:00", "seconds": 60.0}
    store.put(replace(records[0], provenance=late))
    rows = certificate.executions_table(certificate.executions(store, []))
    assert rows.when[list(rows.what).index("Table 4")] == told


def test_no_repetition_is_an_empty_table():
    assert certificate.repeats_table([]).empty
    assert certificate.commands([]) == ""


def test_codecheck_has_every_field_that_its_specification_demands(store):
    fill(store)
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    text = codecheck.text(
        codecheck.configuration(
            manifest={"executed/table4.ipynb": "Table 4"},
            citation=citation,
            executed=certificate.executions(store, []),
            repeated=[repetition(provenance={**FACTS, "started": "2026-11-26T09:30:00+00:00"})],
            report="html/book/certificate.html",
            repository="",
        )
    )
    assert text.startswith("%YAML 1.1\n---\n")
    body = yaml.safe_load(text)
    assert body["version"] == "https://codecheck.org.uk/spec/config/1.0/"
    assert body["manifest"] == [{"file": "executed/table4.ipynb", "comment": "Table 4"}]
    assert body["paper"]["authors"][0] == {"name": "Jung Hwan Heo"}
    assert body["codechecker"] == [{"name": citation["authors"][0]["name"]}]
    assert body["report"] == "html/book/certificate.html"
    assert body["check_time"] == "2026-11-26 09:30:00"
    assert "checked it themselves" in body["summary"]
    assert not {"repository", "certificate"} & set(body)  # neither was ever assigned
    commands = [one["command"] for one in body["snt"]["executions"]]
    assert "snt run --profile cifar --only table4 --seeds 0,1" in commands
    assert body["snt"]["verifications"][0]["agrees"] is True
