"""Every table, figure and claim of the paper has its runs, its chapter and its place."""

from __future__ import annotations

import pytest

from snt_core.book.chapters import chapters
from snt_core.paper import numbers
from snt_core.paper.claims import CASES
from snt_core.paper.experiments import ARTEFACTS, PTQ_DATA, QAT_DATA
from snt_core.paper.profiles import PROFILES
from snt_core.runs.spec import root, run_id

OF_THE_PAPER = {*(f"table{i}" for i in range(1, 5)), *(f"figure{i}" for i in range(1, 8))}


def test_four_tables_seven_figures_and_every_other_artefact_have_a_chapter():
    shown = {chapter.artefact for chapter in chapters()}
    assert shown >= OF_THE_PAPER
    assert set(ARTEFACTS) <= shown


def test_every_claim_is_judged_in_the_chapter_of_its_artefact():
    assert set(CASES) == set(numbers.claims())
    files = {chapter.artefact: chapter.file.read_text() for chapter in chapters()}
    for claim, case in CASES.items():
        assert f'present.verdict(\\"{claim}\\"' in files[case.artefact], claim


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("name", ARTEFACTS)
def test_seeds_are_told_apart_and_nothing_is_asked_for_twice(name, profile):
    one, two = (ARTEFACTS[name](profile, seeds) for seeds in ([0], [0, 1]))
    # a public checkpoint is one, whatever the seed
    expected = {run_id(s): 1 if root(s).model == "vit_b16" else 2 for s in one}
    assert len({run_id(s) for s in two}) == sum(expected.values())


def test_the_paper_s_bit_widths_are_run():
    paper_ = PROFILES["paper"]
    for model in PTQ_DATA:
        specs = ARTEFACTS["table3"](paper_, [0], backbone=model)
        bits = {(s.kind, s.weight_bits) for s in specs if hasattr(s, "weight_bits")}
        assert ("ptq", 4) in bits  # as the text says
        assert model == "resnet20" or ("static", 8) in bits  # as the table prints
    for model in QAT_DATA:
        specs = [s for s in ARTEFACTS["table3qat"](paper_, [0], backbone=model) if s.kind == "qat"]
        assert {(s.weight_bits, s.act_bits, s.edge_bits) for s in specs} == {(4, 4, 8)}


def test_imagenet_is_read_by_its_profile_alone():
    def data(profile: str) -> set[str]:
        made = (make(PROFILES[profile], [0]) for make in ARTEFACTS.values())
        return {root(spec).data for specs in made for spec in specs}

    assert data("smoke") == {"few-digits"}
    assert data("cifar") == data("paper") == {"cifar10", "cifar100"}
    assert data("imagenet") == {"cifar10", "cifar100", "imagenet"}
