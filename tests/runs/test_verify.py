"""What `snt verify` chooses, and how it says what it did."""

from __future__ import annotations

import pytest

from snt_core.common.errors import UserError
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs import verify
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.store import Store
from snt_core.runs.verify import Verification, chosen_records, summary
from tests.records import record_of

NET = training(PROFILES["smoke"], "cifar100", "adam", 0)
SHARP = LambdaMaxSpec(parent=NET, n_samples=8)


def store_with(folder, *specs) -> Store:
    store = Store(folder)
    for spec in specs:
        store.put(record_of(spec, "smoke"))
    return store


def test_a_sample_is_of_what_can_be_run_again(tmp_path):
    store = store_with(tmp_path, SHARP)
    with pytest.raises(UserError, match="none of the 1 records"):
        chosen_records(store, "", 3)
    store.put_weights(NET, {})
    assert [record.spec for record in chosen_records(store, "", 3)] == [SHARP]
    store_with(tmp_path, NET)
    assert {record.spec for record in chosen_records(store, "", 3)} == {NET, SHARP}
    assert len(chosen_records(store, "", 1)) == 1


def test_a_record_is_named_with_its_kind_or_without(tmp_path):
    store = store_with(tmp_path, NET, SHARP)
    (record,) = (r for r in store.records() if r.spec == SHARP)
    for name in (record.name, record.id, record.id[:8], record.name[:-12]):
        assert chosen_records(store, name, 0) == [record]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("train-", "'train-' is no name of a record"),
        ("-", "'-' is no name"),
        ("{id:.3}", "is no name of a record"),
        ("{id}0", "is no name of a record"),
        ("train-{id:.3}", "is no name of a record"),
        ("lambda_max-{id}x", "is no name of a record"),
        ("a-train-{id}", "is no name of a record"),
        ("{id}\n", "is no name of a record"),
        ("ptq-{id}", "no record 'ptq-"),
        ("trian-{id}", "did you mean 'train'"),
        ("ffffffffffffffff", "no record 'ffff"),
    ],
)
def test_what_names_no_record_is_refused(tmp_path, name, says):
    record = record_of(NET, "smoke")
    with pytest.raises(UserError, match=says):
        chosen_records(store_with(tmp_path, NET), name.format(id=record.id), 0)


def test_a_name_that_stands_for_several_is_refused(tmp_path, monkeypatch):
    store = store_with(tmp_path, NET, SHARP)
    first, second = store.records()
    monkeypatch.setattr(type(store), "records", lambda self: [first, second])
    monkeypatch.setattr(type(first), "id", "abcd000000000000")
    with pytest.raises(UserError, match=f"{first.name}, {second.name}; give more digits"):
        chosen_records(store, "abcd", 0)
    assert chosen_records(store, f"{first.spec.kind}-abcd", 0) == [first]


def test_what_cannot_be_run_again_stops_no_other(tmp_path, monkeypatch, capsys):
    store = store_with(tmp_path, NET, SHARP)
    found = {NET: UserError("no data"), SHARP: Verification(True, "identical")}

    def run_again(record, store):
        if isinstance(came := found[record.spec], UserError):
            raise came
        return came

    monkeypatch.setattr(verify, "run_again", run_again)
    told = []
    results, refused = verify.run_all_again(
        [record_of(NET, "smoke"), record_of(SHARP, "smoke")], store, told.append
    )
    assert (results, refused) == ([found[SHARP]], [found[NET]])
    assert "no data" in capsys.readouterr().err
    assert told[-1].endswith("identical")
    assert summary(results, 2, 1) == "1 record run again: 1 identical; 1 could not be run"
    assert "(3 were asked for" in summary(results, 3, 1)


def test_the_summary_counts_and_says_where_there_were_fewer():
    same, near, other = (
        Verification(True, "identical"),
        Verification(True, "close: a 1 -> 1.001"),
        Verification(False, "DIFFERS: a 1 -> 2"),
    )
    assert summary([same]) == "1 record run again: 1 identical"
    assert summary([same, near, other, other], 4) == (
        "4 records run again: 1 identical, 1 close, 2 different"
    )
    assert "(3 were asked for" in summary([same, same], 3)
