"""Records that somebody else wrote, with a checksum that fits: one line each, the others read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snt_core.runs.inspection import checksum
from snt_core.runs.kinds import kinds, spec_class
from snt_core.runs.record import Record
from snt_core.runs.shapes import require
from snt_core.runs.store import Store
from tests.faults.flips import NET, OTHERS, SHARP
from tests.records import PROVENANCE as FACTS
from tests.records import record_of

GOOD = record_of(OTHERS[0], "smoke")
Body = dict[str, Any]


def written(body: Body) -> str:
    body.pop("checksum", None)
    return json.dumps({**body, "checksum": checksum(body)})


def changed(change: Callable[[Body], object]) -> str:
    body = json.loads(record_of(SHARP, "smoke").to_json())
    change(body)
    return written(body)


def metric(name: str, value: Any) -> Callable[[Body], object]:
    return lambda body: body["metrics"].update({name: value})


def fact(name: str, value: Any) -> Callable[[Body], object]:
    return lambda body: body["provenance"].update({name: value})


def entry(**values: Any) -> Callable[[Body], object]:
    return lambda body: body.update(values)


NOT_BELIEVED: list[tuple[Callable[[Body], object], str]] = [
    (entry(id="0" * 16), "its id or its parents"),
    (entry(parents=[]), "its id or its parents"),
    (entry(status="fine"), "record.status"),
    (entry(status=["done"]), "record.status"),
    (entry(profile="../.."), "record.profile"),
    (entry(profile="paper"), "its profile is paper"),
    (entry(profile=""), "record.profile"),
    (entry(n_samples=-1), "record.n_samples"),
    (entry(n_samples=True), "record.n_samples"),
    (entry(n_samples=10**400), "record.n_samples"),
    (entry(n_samples=8.0), "record.n_samples"),
    (entry(format=0), "record.format"),
    (entry(schema="1"), "record.schema"),
    (entry(spec=[]), "record.spec"),
    (entry(spec={}), "LambdaMaxSpec"),
    (entry(metrics=[]), "record.metrics"),
    (entry(metrics={}), "metrics must contain"),
    (metric("lambda_max", "12"), "metrics.lambda_max"),
    (metric("lambda_max", None), "metrics.lambda_max"),
    (metric("lambda_max", 10**400), "metrics.lambda_max"),
    (metric("residual", -0.1), "metrics.residual"),
    (metric("products", 1.5), "metrics.products"),
    (metric("converged", 1), "metrics.converged"),
    (metric("bn_mode", "other"), "metrics.bn_mode"),
    (lambda body: body["provenance"].pop("seconds"), "record.provenance"),
    (lambda body: body["provenance"].pop("dirty"), "record.provenance"),
    (fact("seconds", "1"), "record.provenance.seconds"),
    (fact("seconds", 1e300), "record.provenance.seconds"),
    (fact("weights_sha256", "x"), "weights_sha256"),
    (fact("cpu_seconds", "x"), "record.provenance.cpu_seconds"),
    (fact("cpu_seconds", None), "record.provenance.cpu_seconds"),
    (fact("cpu_seconds", 1e300), "record.provenance.cpu_seconds"),
    (fact("peak_memory_mb", "1"), "record.provenance.peak_memory_mb"),
    (fact("dirty", "no"), "record.provenance.dirty"),
    (fact("device", "\ud800"), "surrogate"),
    (fact("commit", "a\udfff"), "surrogate"),
    (fact("\ud800", 1), "surrogate"),
    (metric("note", ["\udc00"]), "surrogate"),
    (fact("started", "2026-99-99T99:99+00:00"), "record.provenance.started"),
    (fact("started", "2026-02-30T10:00:00+00:00"), "record.provenance.started"),
    (fact("started", "9999-12-31T23:59:59+00:00"), "record.provenance.started"),
    (fact("started", "2026-11-26T10:00:00"), "record.provenance.started"),
    (fact("interrupted", [{}]), "record.provenance.interrupted"),
    (fact("interrupted", [{**FACTS, "started": "today"}]), "record.provenance.interrupted"),
    (fact("interrupted", None), "record.provenance.interrupted"),
    (lambda body: body["spec"].update(n_samples=10**400), "n_samples is 1000"),
    (lambda body: body["spec"]["parent"].update(kind=["train"]), "TypeError"),
]


def lone(store: Store, path: Path, capsys, says: str) -> str:
    """The one line that is said when all is read: of `path`; the other record is there."""
    assert Store(store.folder).records() == [GOOD]
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert says in line
    assert len(line) < 1000
    return line


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path)
    store.put(GOOD)
    return store


@pytest.fixture
def path(store) -> Path:
    return store.record_path(record_of(SHARP, "smoke"))


@pytest.mark.parametrize(("change", "says"), NOT_BELIEVED)
def test_what_no_run_can_have_written_is_set_aside(store, path, capsys, change, says):
    path.write_text(changed(change))
    lone(store, path, capsys, says)
    assert not path.exists()
    assert (store.folder / "quarantine" / path.name).exists()
    assert store.get(SHARP) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (entry(format=3), "its format is 3"),
        (entry(schema=9), "its schema is 9"),
        (entry(kind="telepathy"), "telepathy"),
        (lambda body: body["spec"].update(surprise=1), "surprise"),
    ],
)
def test_what_a_later_version_wrote_stays(store, path, capsys, change, says):
    text = changed(change)
    path.write_text(text)
    lone(store, path, capsys, says)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"\0",
        b"\xff\xfe{}",
        b'{"a": 1, "a": 2}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"checksum": NaN}',
        b'{"n": 1}',
        b'{"checksum": "", "n": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: str(content[:16]),
)
def test_what_is_no_record_is_set_aside(store, path, capsys, content):
    path.write_bytes(content)
    lone(store, path, capsys, "is not used")
    assert not path.exists()


def test_a_key_that_stands_twice_is_refused(store, path, capsys):
    """The checksum would fit the last one alone, and another reader may take the first."""
    text = record_of(SHARP, "smoke").to_json()
    path.write_text(text.replace('"status"', '"status": "diverged",\n "status"', 1))
    lone(store, path, capsys, "twice")


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to(path.name),
    ],
    ids=["folder", "link to nothing", "pipe", "link to itself"],
)
def test_what_is_no_file_makes_room(store, path, capsys, make):
    make(path)
    lone(store, path, capsys, "is not used")
    store.put(record_of(SHARP, "smoke"))
    assert store.get(SHARP) is not None


def test_what_may_not_be_read_stays(store, path, capsys, monkeypatch):
    store.put(record_of(SHARP, "smoke"))
    read = Path.read_bytes

    def refuse(self):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    lone(store, path, capsys, "Permission denied")
    assert path.exists()


def test_earlier_findings_are_kept(store, path, capsys):
    for content in ("one", "two"):
        path.write_text(content)
        assert Store(store.folder).records() == [GOOD]
    kept = sorted((store.folder / "quarantine").iterdir())
    assert [one.read_text() for one in kept] == ["one", "two"]


def test_a_record_that_was_written_anew_meanwhile_is_not_set_aside(store, path, monkeypatch):
    """Two processes find the same damage; one is slow, and the other has made the record again."""
    path.write_text("damaged")
    parse = Record.from_json

    def slow(content):
        store.put(record_of(SHARP, "smoke"))
        return parse(content)

    monkeypatch.setattr(Record, "from_json", slow)
    assert Store(store.folder).get(SHARP) is None
    monkeypatch.undo()
    assert Store(store.folder).get(SHARP) == record_of(SHARP, "smoke")


def test_bits_that_are_too_few_for_their_images_are_refused(store, capsys):
    made = record_of(NET, "smoke")
    body = json.loads(made.to_json())
    body["metrics"]["test"]["n"] = 10**7
    path = store.record_path(made)
    path.write_text(written(body))
    lone(store, path, capsys, "bits stand for 10000000 images")


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_says_what_its_metrics_are(kind):
    with pytest.raises(ValueError, match="metrics must contain"):
        require("metrics", spec_class(kind).shape, {})
