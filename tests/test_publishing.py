"""What publishes the book: workflows, the make targets they run, containers, hashes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from snt_core.common.files import PROJECT
from tests.test_setup import LOCK, PROJECT_TABLE, canonicalize_name, make

WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
}
JOBS = {
    f"{name}/{job}": about
    for name, workflow in WORKFLOWS.items()
    for job, about in workflow["jobs"].items()
}


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"].strip() for step in job["steps"] if "run" in step]


def triggers(name: str) -> dict[str, Any]:
    return WORKFLOWS[name][True]  # YAML 1.1 reads the key `on` as true


# workflows ----------------------------------------------------------------------------------


def test_every_change_is_tested_and_the_book_built():
    assert set(triggers("test")) == {"push", "pull_request"}
    run = {line for name, job in JOBS.items() if name.startswith("test/") for line in commands(job)}
    assert {"make lint", "make test", "make book"} <= run
    versions = WORKFLOWS["test"]["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    allowed = SpecifierSet(PROJECT_TABLE["requires-python"])
    assert versions == [v for v in ("3.10", "3.11", "3.12", "3.13", "3.14") if f"{v}.5" in allowed]


@pytest.mark.parametrize("name", JOBS)
def test_what_a_job_makes_is_a_target(name):
    """Every line that is a make command, tried without running it."""
    lines = [line for line in commands(JOBS[name]) if line.startswith("make ")]
    for line in lines:
        plain = re.sub(r"\$\{\{.*?\}\}|\$\w+", "x", line).replace('"', "")
        done = make("--dry-run", *plain.split()[1:])
        assert done.returncode == 0, done.stderr
    assert lines or name in {"gpu/last-edition", "publish/deploy"}


def test_the_gpu_runner_takes_up_runs_and_hands_over_in_this_order():
    assert set(triggers("gpu")) == {"schedule", "workflow_dispatch"}
    job = JOBS["gpu/run"]
    assert "self-hosted" in job["runs-on"]
    done = [line.split()[1] for line in commands(job)]
    assert done == ["restore", "records", "book", "store"]
    assert job["env"]["PROFILES"] == "${{ inputs.profiles || 'cifar paper' }}"
    checkout = next(step for step in job["steps"] if "checkout" in step.get("uses", ""))
    assert checkout["with"]["clean"] is False  # or what an earlier week began would be lost


def test_the_gpu_runner_may_not_write():
    assert WORKFLOWS["gpu"]["permissions"] == {"contents": "read"}
    assert "permissions" not in JOBS["gpu/run"]
    assert JOBS["gpu/propose"]["permissions"] == {"contents": "write", "pull-requests": "write"}


def test_an_edition_is_published_by_its_tag():
    assert triggers("publish") == {"push": {"tags": ["edition-*"]}}
    assert commands(JOBS["publish/edition"])[:2] == ["make book", "make crate"]
    assert JOBS["publish/deploy"]["needs"] == "site"
    assert JOBS["publish/site"]["needs"] == "edition"


def test_lint_checks_workflows_and_the_dockerfile():
    plan = make("--dry-run", "lint").stdout
    assert "actionlint" in plan
    assert "hadolint Dockerfile" in plan


def test_a_wrong_workflow_is_found(tmp_path):
    """The linter that `make lint` calls finds a runner that does not exist and an unquoted word."""
    wrong = (PROJECT / ".github/workflows/test.yml").read_text()
    file = tmp_path / "wrong.yml"
    file.write_text(wrong.replace("ubuntu-24.04", "ubuntu-0").replace("make lint", "echo $X"))
    binaries = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    command = ["actionlint", "-config-file", str(PROJECT / ".github/actionlint.yaml"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert '"ubuntu-0" is unknown' in done.stdout
    assert "SC2086" in done.stdout


# make targets -------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is installed, as far as make can tell; `snt` notes how it was called."""
    folder = tmp_path / "project"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, folder)
    snt = folder / ".venv" / "bin" / "snt"
    snt.write_text('#!/bin/sh\necho "$@" >> called\nsleep ${SLEEP:-0}\nexit ${CODE:-0}\n')
    snt.chmod(0o755)
    for name in (".installed", ".installed-dev"):
        (folder / ".venv" / name).touch()
    return folder


def test_records_are_made_profile_by_profile(project):
    done = make("records", "WORKERS=3", cwd=project)
    assert done.returncode == 0, done.stderr
    called = (project / "called").read_text().splitlines()
    assert called == [f"run --profile {profile} --workers 3" for profile in ("cifar", "paper")]


def test_records_end_when_the_time_is_over(project, monkeypatch):
    monkeypatch.setenv("SLEEP", "60")
    done = make("records", "MINUTES=1/30", cwd=project)  # shell arithmetic: 60 * 1/30 = 2 seconds
    assert done.returncode == 0, done.stderr
    assert len((project / "called").read_text().splitlines()) == 1
    assert "cifar goes on the next time" in done.stdout


def test_records_that_fail_stop_the_job(project, monkeypatch):
    monkeypatch.setenv("CODE", "3")
    assert make("records", cwd=project).returncode != 0
    assert len((project / "called").read_text().splitlines()) == 1


def fill(folder: Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


STORED = {
    "records/cifar/train-1.json": "one",
    "weights/1.safetensors": "weights",
    "verified/cifar/train-1-0.json": "again",
}


def test_a_store_comes_back_and_overwrites_nothing(project):
    fill(project / "data", **STORED, **{"records/smoke/train-2.json": "x", "runs/3/lock": ""})
    assert make("store", cwd=project).returncode == 0
    fill(project / "other", **{"records/cifar/train-1.json": "mine"})
    done = make("restore", "STORE=other", cwd=project)
    assert done.returncode == 0, done.stderr
    there = {p.relative_to(project / "other").as_posix() for p in project.glob("other/**/*.*")}
    assert there == set(STORED)
    assert (project / "other/records/cifar/train-1.json").read_text() == "mine"
    assert (project / "other/weights/1.safetensors").read_text() == "weights"


def test_a_damaged_store_is_not_restored(project):
    fill(project / "data", **STORED)
    make("store", cwd=project)
    packed = project / "_build" / "snt-store.tar"
    packed.write_bytes(packed.read_bytes().replace(b"weights\0", b"damaged\0"))
    done = make("restore", "STORE=other", cwd=project)
    assert done.returncode != 0
    assert "weights/1.safetensors: FAILED" in done.stdout
    assert list((project / "other").iterdir()) == []


def test_a_store_that_is_not_there_is_told(project):
    done = make("restore", "FROM=nowhere.tar", cwd=project)
    assert done.returncode == 2
    assert "no file 'nowhere.tar'" in done.stderr
    assert not (project / "data").exists()


def git(project: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", *who, *words], cwd=project, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_new_records_are_one_commit_on_a_branch(project, monkeypatch):
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    fill(project / "data", **STORED)
    git(project, "init", "--initial-branch", "main")
    git(project, "add", "data")
    git(project, "commit", "--message", "first")
    first = git(project, "rev-parse", "HEAD")
    done = make("propose", "BRANCH=records/none", cwd=project)
    assert done.stdout.strip() == "No new records."
    assert git(project, "rev-parse", "HEAD") == first
    fill(project / "data", **{"records/paper/train-9.json": "new", "verified/cifar/x.json": "new"})
    assert make("propose", "BRANCH=records/some", cwd=project).returncode == 0
    assert git(project, "branch", "--show-current") == "records/some"
    assert git(project, "log", "--format=%s", "main..") == "Records: 2 new from the GPU runner"
    assert "Makefile" not in git(project, "show", "--stat", "HEAD")


def test_a_python_that_is_not_here_is_told(project):
    done = make("pythons", "VERSIONS=9.8 9.9", cwd=project)
    assert done.returncode == 2
    assert "Python 9.8: none here" in done.stdout
    assert "none of Python 9.8 9.9 is here" in done.stderr


# containers ---------------------------------------------------------------------------------

DOCKERFILE = (PROJECT / "Dockerfile").read_text()


def test_the_image_has_a_python_that_is_promised_and_a_device_to_choose():
    version = re.search(r"^FROM python:(\d+\.\d+)-", DOCKERFILE, re.MULTILINE)[1]
    assert f"{version}.5" in SpecifierSet(PROJECT_TABLE["requires-python"])
    assert "ARG DEVICE=cpu\n" in DOCKERFILE
    assert "download.pytorch.org/whl/$DEVICE" in DOCKERFILE
    assert "--build-arg DEVICE=cu130" in make("--dry-run", "image", "DEVICE=cu130").stdout


def test_the_image_installs_what_pyproject_asks_for():
    code = re.search(r'python -c "(.*?)" >', DOCKERFILE, re.DOTALL)[1].replace("\\\n", "")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    extras = PROJECT_TABLE["optional-dependencies"]
    asked = [*PROJECT_TABLE["dependencies"], *extras["book"], *extras["lab"]]
    assert done.stdout.splitlines() == asked


def test_the_image_leaves_out_no_file_that_it_needs():
    for line in re.findall(r"^COPY (?!--)(.*) \./$", DOCKERFILE, re.MULTILINE):
        assert all((PROJECT / name).exists() for name in line.split())
    ignored = (PROJECT / ".dockerignore").read_text().split()
    tracked = {path.relative_to(PROJECT).parts[0] for path in PROJECT.glob("*")}
    assert not {"snt_core", "book", "data", ".git", "pyproject.toml"} & set(ignored)
    assert not {"data/records", "data/weights"} & set(ignored)  # what a reader measures anew
    assert {".venv", "_build", "data/cache"} <= set(ignored)
    assert "Makefile" in tracked


def test_the_dev_container_is_the_same_image():
    folder = PROJECT / ".devcontainer"
    about = json.loads((folder / "devcontainer.json").read_text())
    assert (folder / about["build"]["dockerfile"]).resolve() == PROJECT / "Dockerfile"
    assert set(about["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    assert f"ARG NB_USER={about['remoteUser']}\n" in DOCKERFILE
    target = about["postCreateCommand"].split()[1]
    assert make("--dry-run", target).returncode == 0


# hashes -------------------------------------------------------------------------------------


def hashed() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of every package in the hashed lock."""
    text = re.sub(r"\\\n", " ", (PROJECT / "requirements-hashed.lock").read_text())
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    found = {}
    for words in lines:
        name, version = words[0].split("==")
        found[canonicalize_name(name)] = version, [w for w in words if w.startswith("--hash=")]
    return found


def test_every_package_has_a_hash_and_the_version_of_the_lock():
    found = hashed()
    for name, (version, sums) in found.items():
        assert sums, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", value) for value in sums), name
        assert version == LOCK.get(name, version), f"{name}: run 'make lock'"


def test_hashes_cover_the_lock():
    """What the lock has besides is asked for by no package on Linux any more, or by pip itself."""
    assert set(LOCK) - set(hashed()) == set()
