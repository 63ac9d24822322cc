"""A backbone, a kind of run and a chapter are added as the guide says, word by word."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from snt_core.book.chapters import chapters
from snt_core.book.new_chapter import create
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.data.facts import FACTS

GUIDE = (PROJECT / "book" / "how_to_edit.md").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project, without records, weights and environments."""
    for name in ("snt_core", "book", "data/paper", "_toc.yml", "_config.yml"):
        source, target = PROJECT / name, tmp_path / "project" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return tmp_path / "project"


def listings(heading: str, language: str = "python") -> list[str]:
    """The listings in one language under a heading of the guide."""
    section = GUIDE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


def add_line(file: Path, after: str, line: str) -> None:
    text = file.read_text()
    assert text.count(after) == 1
    file.write_text(text.replace(after, f"{after}{line}\n"))


def run(checkout: Path, *command: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(checkout), "SNT_STORE": str(checkout / "store")}
    env["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, *command],
        env=env,
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def code_cells(file: Path) -> list[dict]:
    return [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]


def snt(checkout: Path, *words: str) -> str:
    return run(checkout, "-c", "from snt_core.cli import main; main()", *words)


RUN = """
import dataclasses, json
from snt_core.paper.profiles import PROFILES
from snt_core.paper.recipes import training
from snt_core.runs.identity import to_dict
from snt_core.runs.kinds import from_dict, spec_class
from snt_core.runs.plan import planned_runs
from snt_core.runs.runner import run_all
from snt_core.runs.store import open_store
from snt_core.runs.verify import run_again

net = training(PROFILES["smoke"], "cifar10", "arch", 0)
net = dataclasses.replace(net, model="tiny", variant="snt")
spec = spec_class("rounded")(parent=net)
store = open_store()
assert [run.spec for run in planned_runs([spec], store)] == [net, spec]
assert from_dict("rounded", to_dict(spec)) == spec
(record,) = run_all([spec], store, profile="smoke")
(row,) = record.rows()
print(json.dumps([len(row["correct"]), run_again(record, store).text]))
"""


def test_a_backbone_and_a_kind_of_run(checkout):
    package = checkout / "snt_core"
    (backbone,), (kind,) = listings("Add a backbone"), listings("Measure something new")
    (package / "nets" / "tiny.py").write_text(backbone)
    add_line(package / "nets" / "__init__.py", "MODELS = {\n", '    "tiny": "tiny:tiny",')
    (package / "runs" / "kinds" / "rounded.py").write_text(kind)
    assert json.loads(run(checkout, "-c", RUN)) == [FACTS["few-digits"].test, "identical"]


def test_a_chapter_that_judges_a_claim(checkout):
    """`snt new-chapter` makes it; module, notebook, _toc.yml and claims.yml are all it takes."""
    assert "snt new-chapter figure8_depth\n" in GUIDE
    before = {p: p.read_bytes() for p in checkout.rglob("*") if p.is_file()}
    said = snt(checkout, "new-chapter", "figure8_depth")
    assert said.count("Written: ") == 3
    heading = "Add a figure or a table, with its chapter"
    (claim,), (entry,) = listings(heading), listings(heading, "yaml")
    module = checkout / "snt_core" / "paper" / "figure8.py"
    text = module.read_text()
    text = text[: text.index("# How assertions are tested")] + claim
    text = text.replace("import Iterable\n", "import Iterable, Sequence\n")
    text = text.replace("import Assertion, frame\n", "import Assertion, frame, of\n")
    record = "from snt_core.runs.record import Record\n"
    imports = ("effects import gap", "statistics import Interval")
    lines = "".join(f"from snt_core.paper.{one}\n" for one in imports)
    text = text.replace(record, f"{lines}{record}")
    module.write_text(text)
    claims = checkout / "data" / "paper" / "claims.yml"
    claims.write_text(claims.read_text() + entry)
    notebook = checkout / "book" / "figure8_depth.ipynb"
    body = json.loads(notebook.read_text())
    shown = {"cell_type": "code", "id": "figure8-verdict", "metadata": {"tags": []}, "outputs": []}
    body["cells"].insert(
        7, {**shown, "execution_count": None, "source": ['cards.verdict("depth", runs)']}
    )
    notebook.write_text(json.dumps(body))

    snt(checkout, "chapter", "figure8", "-p", "profile=smoke")
    executed = (checkout / "_build" / "chapters" / "figure8_depth.ipynb").read_text()
    assert "ARCH gains." in executed
    assert "Profile smoke gives no verdict" in executed
    # in the kernel that JupyterLab would start for it, without a parameter
    by_hand = checkout / "by_hand.ipynb"
    shutil.copy(notebook, by_hand)
    run(checkout, "-c", "from nbclient.cli import main; main()", "--inplace", str(by_hand))
    first = next(cell["outputs"] for cell in code_cells(by_hand) if cell["outputs"])[0]
    assert first["name"] == "stderr"
    assert "".join(first["text"]).startswith("snt: figure8: profile cifar, seeds 0, 1, 2: 0 of 6")
    assert "ARCH gains." in by_hand.read_text()
    by_hand.unlink()
    verdicts = json.loads(snt(checkout, "claims", "--json"))
    assert verdicts[-1]["id"] == "depth"
    assert verdicts[-1]["chapter"] == "figure8"
    assert [one["id"] for one in verdicts[-1]["assertions"]] == ["gain"]
    rows = json.loads(snt(checkout, "status", "--json"))
    assert [r["artefact"] for r in rows if r["profile"] == "smoke"][11:13] == ["figure7", "figure8"]
    changed = {str(p.relative_to(checkout)) for p, old in before.items() if p.read_bytes() != old}
    assert changed == {"_toc.yml", "data/paper/claims.yml"}


def test_a_new_chapter_has_its_own_names_and_stands_at_the_end_of_its_part(checkout):
    first = yaml.safe_load((checkout / "_toc.yml").read_text())["parts"][0]
    create("depth_of_nets", checkout)
    names = [chapter.name for chapter in chapters(checkout)]
    last = Path(first["chapters"][-1]["file"]).name
    assert names[names.index("depth_of_nets") - 1] == last
    text = (checkout / "book" / "depth_of_nets.ipynb").read_text()
    assert "(depth)=" in text
    assert '"name": "fig-depth"' in text
    assert "weight_bits" not in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Figure8", "no name for a chapter"),
        ("8th", "no name for a chapter"),
        ("figure8-depth", "no name for a chapter"),
        ("../figure8", "no name for a chapter"),
        ("", "no name for a chapter"),
        ("figure8_", "no name for a chapter"),
        ("table4_ablation", "exists"),
        ("table4_other", "exists"),
        ("evidence", "exists"),
        ("performance", "exists"),
        ("performance_two", "there is a chapter of performance"),
    ],
)
def test_a_name_that_is_no_good_or_taken_is_refused(checkout, name, says):
    before = sorted(checkout.rglob("*"))
    with pytest.raises(UserError, match=says):
        create(name, checkout)
    assert sorted(checkout.rglob("*")) == before
