"""The files that install and name the project agree with each other."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import snt_core
from snt_core.common.files import PROJECT

CONDA_NAMES = {"torch": "pytorch"}
PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
LOCK = {
    canonicalize_name(line.split("==")[0]): line.split("==")[1]
    for line in (PROJECT / "requirements.lock").read_text().splitlines()
    if not line.startswith("#")
}


def split(requirement: str) -> tuple[str, str]:
    parsed = Requirement(requirement)
    return CONDA_NAMES.get(parsed.name, parsed.name), str(parsed.specifier)


def test_conda_environment_asks_for_what_pyproject_asks_for():
    conda = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    asked = dict(split(line) for line in conda + pip if isinstance(line, str) and line[0] != "-")
    assert asked.pop("pip") == ""
    assert asked.pop("python") == str(Requirement(f"x{PROJECT_TABLE['requires-python']}").specifier)
    assert asked == dict(split(line) for line in PROJECT_TABLE["dependencies"])
    assert "--editable ." in pip


def declared() -> list[Requirement]:
    extras = PROJECT_TABLE["optional-dependencies"].values()
    return [Requirement(r) for group in (PROJECT_TABLE["dependencies"], *extras) for r in group]


def closure(python: str) -> set[str]:
    """Names of all that would be installed for that Python on Linux, as far as is known here."""
    seen: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(r.name), e) for r in declared() for e in ("", *r.extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            asks = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        where = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
        for need in map(Requirement, asks):
            if need.marker is None or need.marker.evaluate(where):
                todo += [(canonicalize_name(need.name), e) for e in ("", *need.extras)]
    return {name for name, _ in seen}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_pins_everything_but_torchs_cuda(python):
    cuda = re.compile(r"^(nvidia-|cuda-|triton$)")
    names = {name for name in closure(python) if not cuda.match(name)} - {"snt-core", "pip"}
    assert names - set(LOCK) == set()
    assert not [name for name in LOCK if cuda.match(name)]


def test_lock_satisfies_the_declared_ranges():
    for requirement in declared():
        assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)])
    assert LOCK["torch"] == "2.13.0"


def make(*arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    # a make that runs these tests hands its own flags and variables down
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize("target", ["book", "smoke", "test", "lab", "clean"])
def test_make_has_the_target(target):
    assert make("--dry-run", target).returncode == 0


def test_make_says_that_no_python_fits(tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, tmp_path)
    result = make("book", "PYTHON=", cwd=tmp_path)
    assert result.returncode == 2
    assert "Python 3.11, 3.12 or 3.13 is needed" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_continuous_integration_runs_make_test():
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("make test")


def test_pre_commit_runs_the_locked_tools():
    repos = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    pinned = {hook["id"].split("-")[0]: repo["rev"] for repo in repos for hook in repo["hooks"]}
    assert pinned == {"ruff": f"v{LOCK['ruff']}", "nbstripout": LOCK["nbstripout"]}


def test_citation_is_whole():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == snt_core.__version__
    assert citation["authors"] == [{"name": "The SNT reproducibility book authors"}]
    assert [author["family-names"] for author in citation["references"][0]["authors"]] == [
        "Heo",
        "Azizi",
        "Fayyazi",
        "Nazemi",
        "Pedram",
    ]


def test_licences_cover_code_and_text():
    assert (PROJECT / "LICENSE").read_text().startswith("MIT License")
    assert "creativecommons.org/licenses/by/4.0" in (PROJECT / "LICENSE-text").read_text()
