"""What is asked of an artefact is checked by one function, for every way in which it is asked."""

from __future__ import annotations

import re

import pytest

from snt_core.book.chapters import chapters, parameters
from snt_core.common.errors import UserError
from snt_core.paper.artefacts import artefacts
from snt_core.paper.asked import checked, offered, options_of, requested
from snt_core.paper.profiles import PROFILES
from snt_core.paper.selection import reproduce, select
from snt_core.runs.store import Store
from tests.records import record_of

REAL = [chapter for chapter in chapters() if chapter.artefact]


@pytest.mark.parametrize("chapter", REAL, ids=lambda c: c.name)
def test_a_chapter_says_which_profiles_it_is_offered_at_and_declares_what_it_varies(chapter):
    declared = parameters(chapter)
    said = re.findall(r"\w+", declared["profile"].comment.replace("(the best with records)", ""))
    if "not used" not in declared["profile"].comment:
        assert tuple(said) == offered(chapter.artefact)
    own = {name: p.annotation for name, p in declared.items()}
    for name, annotation in options_of(chapter.artefact).items():
        assert own.get(name, annotation) == annotation


def ask(artefact="table4", profile="smoke", seeds=(), store="", **options):
    return checked(artefact, profile=profile, seeds=list(seeds), store=store, options=options)


def test_values_come_as_papermill_gives_them():
    given = {"profile": "smoke", "seeds": 1, "store": "", "options": {"weight_bits": 3.0}}
    assert checked("table4", **given) == ("smoke", [1], "", {"weight_bits": 3})
    assert ask("figure5", sparsities="0.5,0.6")[3] == {"sparsities": [0.5, 0.6]}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"artefact": "tabel4"}, "unknown artefact 'tabel4'; did you mean 'table4'"),
        ({"profile": "imagenet"}, r"unknown profile of table4 'imagenet'.*paper\)"),
        ({"profile": 3}, "unknown profile of table4 '3'"),
        ({"seeds": [0, 0]}, "seeds are 0, 0; name each seed once"),
        ({"seeds": [2**31 + 1]}, "a seed is 2147483649"),
        ({"weight_bit": 3}, "'weight_bit'; did you mean 'weight_bits'"),
        ({"weight_bits": 4.5}, "weight_bits, not '4.5'"),
        ({"weight_bits": 1}, "weight_bits is 1"),
        ({"artefact": "figure5", "method": "twoshot"}, "'twoshot'"),
        ({"artefact": "figure5", "sparsities": [0.5, 1]}, "a sparsity is 1"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, says):
    with pytest.raises(UserError, match=says):
        ask(**asked)


def test_a_seed_that_changes_nothing_is_refused_only_where_nothing_varies_with_it():
    with pytest.raises(UserError, match="nothing here varies"):
        ask("figure1", "imagenet", [0, 1])
    assert ask("figure1", "cifar", [0, 1])[1] == [0, 1]
    # its part with ViT-B is the same for all seeds, its other parts are not
    assert ask("proxy", "imagenet", [0, 1], backbone="vit")[1] == [0, 1]


def test_everything_can_be_requested_at_every_profile():
    for profile in PROFILES.values():
        specs = requested(profile, [], [])
        assert len(set(specs)) == len(specs) > 100
    first = requested(PROFILES["smoke"], ["table4"], [3])
    assert {spec.net.seed for spec in first} == {3}


# the first line -------------------------------------------------------------------------------


def filled(tmp_path, profile: str, seeds: list[int], share: float = 1.0) -> Store:
    """A store with the first part of the records of Table 4."""
    store = Store(tmp_path)
    specs = artefacts()["table4"].runs(PROFILES[profile], seeds)
    for spec in specs[: round(share * len(specs))]:
        store.put(record_of(spec, profile))
        if spec.leaves_weights:
            store.put_weights(spec, {})
    return store


def told(capsys, **asked) -> str:
    reproduce("table4", **asked)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_first_line_says_what_is_there_and_what_has_no_effect(tmp_path, capsys):
    store = str(filled(tmp_path, "cifar", [0], 0.5).folder)
    line = told(capsys, seeds="0,5", store=store)
    assert line.startswith("snt: table4: profile cifar, seeds 0: 6 of 12 records are there")
    assert "nothing is computed" in line
    assert "published leaves out what is missing" in line
    assert "seeds 5 have no records" in line


def test_the_first_line_says_what_is_computed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("snt_core.runs.runner.run_all", lambda specs, *_, **__: [])
    store = str(filled(tmp_path, "smoke", [0], 0.75).folder)
    line = told(capsys, store=store, profile="smoke", weight_bits=4)
    assert "table4, weight_bits 4: profile smoke, seeds 0: 9 of 12 records are there" in line
    assert "3 to be computed now (" in line


def test_published_shows_no_number_of_smoke(tmp_path, capsys):
    store = str(filled(tmp_path, "smoke", [0], 1.0).folder)
    line = told(capsys, store=store)
    assert "table4: profile cifar, seeds 0, 1, 2: 0 of 36 records are there" in line
    assert "nothing is computed" in line
    assert reproduce("table4", store=store).records == []


def test_nothing_is_compiled_before_all_is_checked(tmp_path, monkeypatch):
    """What stops a run is told although the engine, which compiles, would not even start."""

    def compiles(**_):
        raise AssertionError("kernels are compiled")

    monkeypatch.setattr("snt_core.runs.runner.detect", compiles)
    monkeypatch.setenv("SNT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SNT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    (tmp_path / "store").write_text("a file")
    for asked, says in (
        ({"store": str(tmp_path / "store")}, "is a file"),
        ({"profile": "cifar"}, "cifar100 is not in"),
    ):
        with pytest.raises(UserError, match=says):
            reproduce("table4", **{"profile": "smoke", "store": str(tmp_path / "s"), **asked})
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_published_needs_no_data_and_no_store_that_can_be_written(tmp_path, monkeypatch):
    store = filled(tmp_path, "cifar", [0], 0.5)

    def refuse(*_):
        raise AssertionError("looked for what only a run needs")

    monkeypatch.setattr("snt_core.runs.preflight.require_writable", refuse)
    assert len(reproduce("table4", store=str(store.folder)).records) == 6
    assert select("table4", "published", (), store).profile.name == "cifar"
