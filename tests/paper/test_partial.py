"""Chapters show what is there: no record that is missing keeps the others from being shown."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from snt_core.book.cards import figures
from snt_core.book.chapters import Chapter, chapters
from snt_core.paper import selection
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES
from tests.records import result

SHOWN = [chapter for chapter in chapters() if chapter.artefact]
KINDS = (
    "lambda_max",
    "ptq",
    "static",
    "one_shot",
    "entropy",
    "surface",
    "density",
    "tokens",
    "qat",
)
LESS = {  # the book of smoke has all of them, and an empty store none: see `book/`
    "nets": lambda record: not record.spec.leaves_weights,
    "sam": lambda record: record.spec.net.approach == "sam",
    "arch and adam": lambda record: record.spec.net.approach in ("arch", "adam"),
    "a seed": lambda record: record.spec.net.seed == 1,
    **{kind: lambda record, kind=kind: record.spec.kind == kind for kind in KINDS},
    "a random half": lambda record: random.Random(record.id).random() < 0.5,
}


def lacks(chapter: Chapter) -> list[str]:
    """Return what the chapter may lack: of the kinds of runs, those that it has."""
    own = {spec.kind for spec in artefacts()[chapter.artefact].runs(PROFILES["cifar"], [0])}
    return [name for name in LESS if name in own or name not in KINDS]


CASES = [
    pytest.param(chapter, lacking, id=f"{chapter.name}-{lacking}")
    for chapter in SHOWN
    for lacking in lacks(chapter)
]


@pytest.mark.parametrize(("chapter", "lacking"), CASES)
def test_a_chapter_runs_on_part_of_its_records(chapter, lacking, monkeypatch, tmp_path):
    def reproduce(artefact, *, profile, seeds, store, **options):
        made = result(artefact, part=options)
        facts = {"device": "d", "started": "2026-01-01T00:00:00", "peak_memory_mb": 1}
        facts |= {"dtype": "fp32", "torch": "2", "commit": "c", "dirty": False, "seconds": 1.0}
        kept = [replace(r, provenance=facts) for r in made.records if not LESS[lacking](r)]
        return replace(made, records=kept)

    drawn: list[Figure] = []

    def saved(figure, kind, title):
        """Draw the wide and the narrow one: what files hold is tested in `book/test_figures.py`."""
        if figure not in drawn:  # the wide one is saved as three
            drawn.append(figure)
            figure.set_layout_engine("none")  # two thirds of the time to draw
            figure.draw_without_rendering()
        return b""

    monkeypatch.setattr(figures, "_saved", saved)
    monkeypatch.setattr(selection, "reproduce", reproduce)
    monkeypatch.setenv("SNT_STORE", str(tmp_path))
    names: dict[str, object] = {}
    for cell in json.loads(chapter.file.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
