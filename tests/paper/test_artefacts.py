"""Every table, figure and claim of the paper has its runs, its chapter and its place."""

from __future__ import annotations

import pytest

from snt_core.book.chapters import chapters
from snt_core.common.files import PROJECT
from snt_core.data.facts import FACTS
from snt_core.paper import numbers, recipes, table3, table3qat
from snt_core.paper.artefacts import artefacts, claims
from snt_core.paper.profiles import PROFILES
from snt_core.runs.identity import run_id

OF_THE_PAPER = {*(f"table{i}" for i in range(1, 5)), *(f"figure{i}" for i in range(1, 8))}


def test_four_tables_seven_figures_and_every_other_artefact_have_a_chapter():
    shown = {chapter.artefact for chapter in chapters()}
    assert shown >= OF_THE_PAPER
    assert set(artefacts()) <= shown


def test_every_claim_is_judged_in_the_chapter_of_its_artefact():
    assert set(claims()) == set(numbers.claims())
    files = {chapter.artefact: chapter.file.read_text() for chapter in chapters()}
    for claim, (artefact, _) in claims().items():
        assert f'cards.verdict(\\"{claim}\\"' in files[artefact], claim


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("name", artefacts())
def test_seeds_are_told_apart_and_nothing_is_asked_for_twice(name, profile):
    one, two = (artefacts()[name].runs(profile, seeds) for seeds in ([0], [0, 1]))
    # a public checkpoint is one, whatever the seed
    expected = {run_id(s): 1 if s.net.model == "vit_b16" else 2 for s in one}
    assert len({run_id(s) for s in two}) == sum(expected.values())


def test_the_paper_s_bit_widths_are_run():
    paper_ = PROFILES["paper"]
    for model in table3.DATA:
        specs = table3.runs(paper_, [0], backbone=model)
        bits = {(s.kind, s.weight_bits) for s in specs if hasattr(s, "weight_bits")}
        assert ("ptq", 4) in bits  # as the text says
        assert model == "resnet20" or ("static", 8) in bits  # as the table prints
    for model in table3qat.DATA:
        specs = [s for s in table3qat.runs(paper_, [0], backbone=model) if s.kind == "qat"]
        assert {(s.weight_bits, s.act_bits, s.edge_bits) for s in specs} == {(4, 4, 8)}


def test_what_is_said_of_smoke_names_as_many_images_as_it_takes():
    facts = FACTS["few-digits"]
    count = facts.train + facts.test
    assert PROFILES["smoke"].says.startswith(f"{count} of scikit-learn's digits")
    assert recipes.DATASETS["few-digits"] == f"{count} of scikit-learn's digits"
    assert f"| `smoke` | {count} of scikit-learn's digits" in (PROJECT / "README.md").read_text()
    page = (PROJECT / "book" / "how_to_reexecute.md").read_text()
    assert f"| `smoke` | {count} digits" in page


def test_imagenet_is_read_by_its_profile_alone():
    def data(profile: str) -> set[str]:
        made = (m.runs(PROFILES[profile], [0]) for m in artefacts().values())
        return {spec.net.data for specs in made for spec in specs}

    assert data("smoke") == {"few-digits"}
    assert data("cifar") == data("paper") == {"cifar10", "cifar100"}
    assert data("imagenet") == {"cifar10", "cifar100", "imagenet"}
