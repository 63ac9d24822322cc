"""A backbone, a kind of run and a chapter are each one file and one line, as the guide says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snt_core.common.files import PROJECT

GUIDE = (PROJECT / "book" / "how_to_edit.md").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project, without records, weights and environments."""
    for name in ("snt_core", "book", "data/paper", "_toc.yml", "_config.yml"):
        source, target = PROJECT / name, tmp_path / "project" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return tmp_path / "project"


def listing(heading: str) -> str:
    """The Python listing under a heading of the guide."""
    section = GUIDE.split(f"## {heading}\n")[1]
    return re.search(r"```python\n(.*?)```", section, re.S)[1]


def add_line(file: Path, after: str, line: str) -> None:
    text = file.read_text()
    assert text.count(after) == 1
    file.write_text(text.replace(after, f"{after}{line}\n"))


def python(checkout: Path, code: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(checkout), "SNT_STORE": str(checkout / "store")}
    env["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=env, cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


RUN = """
import dataclasses, json
from snt_core.paper.recipes import training
from snt_core.runs.plan import steps
from snt_core.paper.profiles import PROFILES
from snt_core.runs.runner import run_all
from snt_core.runs.kinds import from_dict, spec_class
from snt_core.runs.spec import to_dict
from snt_core.runs.store import open_store
from snt_core.runs.verify import run_again

net = training(PROFILES["smoke"], "cifar10", "arch", 0)
net = dataclasses.replace(net, model="tiny", variant="snt")
spec = spec_class("round")(parent=net)
store = open_store()
assert [step.spec for step in steps([spec], store)] == [net, spec]
assert from_dict("round", to_dict(spec)) == spec
(record,) = run_all([spec], store, profile="smoke")
print(json.dumps([record.metrics["test"]["n"], run_again(record, store).text]))
"""


def test_a_backbone_and_a_kind_of_run(checkout):
    package = checkout / "snt_core"
    (package / "models" / "tiny.py").write_text(listing("Add a backbone"))
    add_line(package / "models" / "__init__.py", "MODELS = {\n", '    "tiny": "tiny:tiny",')
    (package / "runs" / "round.py").write_text(listing("Add a compression, or another kind of run"))
    add_line(package / "runs" / "__init__.py", "KINDS = {\n", '    "round": "round:RoundSpec",')
    assert json.loads(python(checkout, RUN)) == [120, "identical"]


def test_a_chapter(checkout):
    shutil.copy(checkout / "book" / "figure4_blocks.ipynb", checkout / "book" / "mine_blocks.ipynb")
    add_line(
        checkout / "_toc.yml",
        "      - file: book/figure4_blocks\n",
        "      - file: book/mine_blocks",
    )
    found = python(
        checkout,
        "from snt_core.book.chapters import chapters, execute, find, verify_executed\n"
        "from pathlib import Path\n"
        "done = execute(find('mine'), Path('out/mine.ipynb'), {'profile': 'smoke'})\n"
        "verify_executed(done)\n"
        "print([c.short for c in chapters()].index('mine'))",
    )
    assert int(found) > 0
