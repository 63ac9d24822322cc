"""The files that install and name the project agree with each other."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_output
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import snt_core
from snt_core import entry
from snt_core.common.files import PROJECT

CONDA_NAMES = {"torch": "pytorch", "fastjsonschema": "python-fastjsonschema"}
PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
BOOK = [*PROJECT_TABLE["dependencies"], *PROJECT_TABLE["optional-dependencies"]["book"]]
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
    assert asked == dict(split(line) for line in BOOK)
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


def make(*arguments: str, cwd: Path = PROJECT, **extra: str) -> subprocess.CompletedProcess[str]:
    # a make that runs these tests hands its own flags and variables down
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")} | extra
    command = ["make", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize("target", ["book", "smoke", "test", "lab", "hooks", "clean"])
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


HOOKS = {
    hook["id"]: hook
    for repo in yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repo["hooks"]
    if repo["repo"] == "local"
}


def test_hooks_are_the_tools_of_the_environment_and_fetch_nothing():
    assert set(HOOKS) == {"ruff-check", "nbstripout"}
    for name, hook in HOOKS.items():
        assert hook["language"] == "system"
        assert hook["entry"].startswith(f".venv/bin/{name.split('-')[0]} ")
    lab = {Requirement(r).name for r in PROJECT_TABLE["optional-dependencies"]["lab"]}
    assert {"jupyterlab", "nbstripout", "pre-commit", "ruff"} == lab


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with the project's hooks and filter, and one chapter in it."""
    for name in ("Makefile", ".gitattributes", ".pre-commit-config.yaml"):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / ".venv").symlink_to(PROJECT / ".venv")
    git(tmp_path, "init", "--quiet")
    done = make("hooks", "-o", ".venv/.installed-lab", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shutil.copy(PROJECT / "book" / "table4_ablation.ipynb", tmp_path / "book")
    git(tmp_path, "add", ".gitattributes", "book")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    name = ("-c", "user.name=Editor", "-c", "user.email=editor@example.org")
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *name, *words], cwd=folder, capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def executed_and_saved(file: Path, edit: str) -> None:
    """What JupyterLab leaves of a chapter that was run from top to bottom and edited."""
    body = nbformat.read(file, as_version=nbformat.NO_CONVERT)
    for count, cell in enumerate((c for c in body.cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        cell.outputs = [new_output("stream", name="stdout", text="many numbers\n")]
        cell.metadata.execution = {"iopub.status.busy": "2026-01-01T00:00:00Z"}
        cell.metadata.setdefault("editable", True)
        cell.metadata.setdefault("slideshow", {"slide_type": ""})
    body.metadata.kernelspec.display_name = "Python 3 (ipykernel)"
    body.metadata.language_info = {"name": "python", "version": "3.12.1", "file_extension": ".py"}
    body.cells[0].source += edit
    nbformat.write(body, file)


def test_an_executed_chapter_differs_by_what_was_edited(repository):
    """Saved as it is, it does not differ; its commit changes the one cell, and keeps all ids."""
    chapter = repository / "book" / "table4_ablation.ipynb"
    git(repository, "commit", "--quiet", "-m", "Chapter")
    before = git(repository, "show", "HEAD:book/table4_ablation.ipynb")
    executed_and_saved(chapter, edit="")
    assert "many numbers" in chapter.read_text()
    assert git(repository, "diff") == ""
    executed_and_saved(chapter, edit=" And more.")
    changed = [line for line in git(repository, "diff").splitlines() if line[:1] in "+-"]
    assert len(changed) == 4  # the two names of the file, the line as it was and as it is
    git(repository, "commit", "--quiet", "-am", "More")
    after = git(repository, "show", "HEAD:book/table4_ablation.ipynb")
    assert [cell["id"] for cell in json.loads(after)["cells"]] == [
        cell["id"] for cell in json.loads(before)["cells"]
    ]
    assert "And more." in after
    assert "many numbers" not in after


def test_the_hook_cleans_what_the_filter_would(repository):
    strip = shlex.split(HOOKS["nbstripout"]["entry"])
    clean = git(repository, "config", "filter.nbstripout.clean").strip()
    assert shlex.split(clean) == strip
    assert "--keep-id" in strip


@pytest.mark.parametrize("file", sorted((PROJECT / "book").glob("*.ipynb")), ids=lambda f: f.stem)
def test_chapters_are_stored_as_jupyter_saves_them(file):
    """Or the first save would change what nobody edited."""
    body = nbformat.read(file, as_version=nbformat.NO_CONVERT)
    assert file.read_text() == nbformat.writes(body).rstrip("\n") + "\n"
    assert "language_info" not in body.metadata
    assert body.metadata.kernelspec.display_name == "Python 3 (ipykernel)"


def test_make_lab_runs_as_root_and_in_containers():
    recipe = make("--dry-run", "lab").stdout
    assert "--allow-root" in recipe
    assert "/.dockerenv" in recipe
    assert "pre-commit install" in recipe


def test_make_smoke_has_a_store_of_its_own():
    env = {"SNT_STORE": "/somebody/else"}
    recipe = make("--dry-run", "smoke", **env).stdout
    assert f"SNT_STORE={PROJECT}/_build/smoke/store" in recipe
    assert "/somebody/else" not in recipe
    assert "data/records" not in recipe


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


def test_what_the_security_policy_names_is_there_and_readers_are_led_to_it():
    policy = (PROJECT / "SECURITY.md").read_text()
    named = re.findall(r"`((?:data/\w+)|(?:[\w-]+\.lock)|(?:make \w+))`", policy)
    assert len(named) >= 4
    for name in named:
        target = name.removeprefix("make ")
        assert (
            make("--dry-run", target).returncode == 0
            if target != name
            else (PROJECT / name).exists()
        )
    for page in ("README.md", "book/how_to_reexecute.md"):
        assert "`SECURITY.md`" in (PROJECT / page).read_text()


def test_an_interrupt_while_the_command_is_imported_is_quiet(monkeypatch, capsys):
    class Interrupted:
        def find_spec(self, name, path=None, target=None):
            if name == "snt_core.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "snt_core.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")
