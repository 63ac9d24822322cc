"""What `snt verify` keeps, and what is read of it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from snt_core.common.files import PROJECT
from snt_core.runs.inspection import sealed, whole
from snt_core.runs.repeats import Repeat, keep, repeats
from snt_core.runs.store import Store


def repeat(started: str = "2026-11-26T09:30:00+00:00", **changes) -> Repeat:
    facts = {"started": started, "device": "a card", "torch": "2.13.0", "commit": "0" * 40}
    facts["dirty"] = False
    found = {"record": "train-0123456789abcdef", "profile": "cifar", "same": True}
    return Repeat(
        **{
            **found,
            "result": "identical",
            "numbers": {"top1": (1.0, 1.5)},
            "provenance": facts,
            **changes,
        }
    )


def test_what_is_kept_is_read_again_by_time(tmp_path):
    store = Store(tmp_path)
    later, earlier = repeat("2026-11-27T00:00:00+00:00"), repeat(same=False, result="DIFFERS")
    files = [keep(one, store) for one in (later, earlier)]
    assert repeats(store) == [earlier, later]
    assert {file.parent for file in files} == {tmp_path / "verified" / "cifar"}
    assert len(set(files)) == 2


def test_the_command_names_the_record():
    assert repeat().command == "snt verify 0123456789abcdef"


def test_numbers_count_to_six_digits():
    numbers = {"a": (1.0, 1.0 + 1e-9), "b": (1.0, 1.001)}
    assert repeat(numbers=numbers).changed == ["b 1 -> 1.001"]


def test_nothing_kept_is_nothing_read(tmp_path):
    assert repeats(Store(tmp_path)) == []


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"record": "x"}', '{"numbers": {"a": 1}}', "no"]
)
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path, capsys, content):
    damaged = keep(repeat(record="train-ffffffffffffffff"), Store(tmp_path))
    keep(repeat(), Store(tmp_path))
    damaged.write_text(content)
    assert repeats(Store(tmp_path)) == [repeat()]
    (line,) = capsys.readouterr().err.splitlines()
    assert str(damaged) in line


def left_out(file: Path, content: str, says: str, capsys) -> None:
    """What is written into the file is not read, and one line says why."""
    file.write_text(content)
    assert repeats(Store(file.parents[2])) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line
    assert says in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda body: body["provenance"].pop("started"), "started"),
        (lambda body: body["provenance"].pop("dirty"), "dirty"),
        (lambda body: body["provenance"].pop("commit"), "commit"),
        (lambda body: body["provenance"].update(started="today"), "started"),
        (lambda body: body["provenance"].update(device="\ud800"), "surrogate"),
        (lambda body: body.update(profile="../.."), "profile"),
        (lambda body: body.update(profile="paper"), "its profile is paper"),
        (lambda body: body.update(record="train-ffffffffffffffff"), "belongs to train-ff"),
        (lambda body: body["numbers"].update(top1=[10**400, 1]), "numbers"),
        (lambda body: body["numbers"].update(top1=[1]), "numbers"),
    ],
)
def test_a_file_that_says_odd_things_is_left_out(tmp_path, capsys, change, says):
    file = keep(repeat(), Store(tmp_path))
    body = whole(file.read_text())
    change(body)
    left_out(file, sealed(body), says, capsys)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("1.5", "1.6", "does not match its checksum"),
        ("true", "false", "does not match its checksum"),
        ("a card", "a cart", "does not match its checksum"),
        ("1.5", "NaN", "not JSON compliant"),
        ("1.5", "Infinity", "not JSON compliant"),
        ('"checksum"', '"sum"', "no checksum"),
        ('"same"', '"same": true,\n "same"', "twice"),
    ],
)
def test_a_changed_byte_is_found(tmp_path, capsys, before, after, says):
    file = keep(repeat(), Store(tmp_path))
    text = file.read_text()
    assert before in text
    left_out(file, text.replace(before, after, 1), says, capsys)


def test_those_of_the_repository_are_whole(capsys):
    there = list((PROJECT / "data" / "verified").glob("*/*.json"))
    assert len(repeats(Store(PROJECT / "data"))) == len(there)
    assert not capsys.readouterr().err
