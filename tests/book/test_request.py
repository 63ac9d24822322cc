"""What a chapter is given in the book of a profile, and which parameters it does not read."""

from __future__ import annotations

from snt_core.book.chapters import chapters, find
from snt_core.book.request import artefacts_named, edition, without_effect
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES


def test_where_nothing_is_imagenets_its_book_shows_the_same_runs_at_paper():
    imagenet = PROFILES["imagenet"]
    for chapter in chapters():
        given = edition(chapter, "imagenet")
        if chapter.artefact and given["profile"] != "imagenet":
            runs = artefacts()[chapter.artefact].runs
            shown = runs(PROFILES[given["profile"]], given["seeds"])
            assert shown == runs(imagenet, imagenet.seeds)
    assert edition(find("table4"), "imagenet") == {"profile": "paper", "seeds": [0]}
    assert edition(find("figure1"), "imagenet") == {"profile": "imagenet"}
    assert edition(find("table4"), "cifar") == {"profile": "cifar"}
    assert edition(find("intro"), "imagenet") == {"profile": "imagenet"}


def test_a_parameter_that_no_cell_reads_has_no_effect():
    assert without_effect(find("figure4"), ["profile", "seeds"]) == ["profile", "seeds"]
    assert without_effect(find("intro"), ["profile", "store"]) == ["profile"]
    assert without_effect(find("table4"), ["profile", "seeds", "weight_bits"]) == []


def test_artefacts_are_named_by_themselves_and_by_their_chapters():
    assert artefacts_named("table4_ablation, figure5,table4") == ["table4", "figure5"]
    assert artefacts_named("") == []
