"""The exported book: whole, described, and checked by a script that needs Python alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from rocrate.rocrate import ROCrate

from snt_core.book.build import chapter_keys, keep_key
from snt_core.book.crate import export
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.runs.repeats import keep
from snt_core.runs.store import Store
from tests.executions import fill, repetition

FILES = ("CITATION.cff", "requirements.lock", "pyproject.toml", "README.md", "Makefile")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("SNT_STORE", str(tmp_path / "store"))
    store = Store(tmp_path / "store")
    records = fill(store, seeds=(0,))
    fill(store, seeds=(0,), profile="smoke")
    keep(repetition(record=records[0].name), store)
    return store


@pytest.fixture
def built(small_project: Path, store: Store) -> Path:
    """A project whose book was built, as far as an export can tell."""
    for name in FILES:
        shutil.copy(PROJECT / name, small_project)
    (small_project / "snt_core").mkdir()
    shutil.copy(PROJECT / "snt_core" / "cli.py", small_project / "snt_core")
    cache = small_project / "book" / "__pycache__" / "x.pyc"
    cache.parent.mkdir()
    cache.touch()
    html, executed = small_project / "_build" / "html", small_project / "_build/published/executed"
    for page in (html / "index.html", html / "book" / "certificate.html"):
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<p>a page</p>")
    executed.mkdir(parents=True)
    for chapter, key in chapter_keys({"profile": "published"}, small_project).items():
        shutil.copy(chapter.file, executed)
        keep_key(executed / f"{chapter.name}.ipynb", key)
    return small_project


@pytest.fixture
def crate(built: Path, store: Store, tmp_path: Path) -> Path:
    return export(tmp_path / "crate", project=built, store=store)


def verify(crate: Path) -> subprocess.CompletedProcess[str]:
    """The crate's own script, in a Python that sees no installed package (-S) and no path (-I)."""
    command = [sys.executable, "-I", "-S", str(crate / "verify.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_it_holds_book_notebooks_records_lock_and_certificate(crate):
    records = list(crate.glob("data/records/*/*.json"))
    assert {record.parent.name for record in records} == {"cifar"}
    assert len(records) == 12
    for name in (
        *FILES,
        "book/table9_small.ipynb",
        "executed/table9_small.ipynb",
        "html/index.html",
        "codecheck.yml",
        "ro-crate-preview.html",
    ):
        assert (crate / name).is_file(), name
    assert len(list(crate.glob("data/verified/cifar/*.json"))) == 1
    assert not list(crate.rglob("*.pyc"))
    assert not (crate / "_build").exists()


def test_the_certificate_names_files_that_are_there(crate):
    body = yaml.safe_load((crate / "codecheck.yml").read_text())
    assert body["manifest"]
    for entry in [*body["manifest"], {"file": body["report"]}]:
        assert (crate / entry["file"]).is_file()


def test_another_reader_of_ro_crates_understands_it(crate):
    read = ROCrate(crate)
    assert read.version == "1.2"
    assert read.name == "The SNT reproducibility book"
    assert {licence.id for licence in read.license} == {
        "https://creativecommons.org/licenses/by/4.0/",
        "https://spdx.org/licenses/MIT",
    }
    data = {entity.id: entity for entity in read.data_entities}
    assert {"html/", "book/", "requirements.lock", "codecheck.yml", "verify.py"} <= set(data)
    for name in data:
        assert (crate / name).exists(), name
    record = next(entity for name, entity in data.items() if name.startswith("data/records"))
    assert record["contentSize"] == str((crate / record.id).stat().st_size)
    actions = {action["name"]: action for action in read.get_by_type("CreateAction")}
    made = actions["snt run --profile cifar --only table4 --seeds 0"]
    assert {result.id for result in made["result"]} <= set(data)
    assert len(made["result"]) == 12
    assert made["instrument"].id == "snt_core/cli.py"
    assert {action.id for action in read.root_dataset["mentions"]} >= {made.id}
    (again,) = read.get_by_type("AssessAction")
    assert again["object"].id in data


def test_a_whole_crate_is_said_to_be_whole(crate):
    done = verify(crate)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files are whole" in done.stdout
    others = subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", "manifest-sha256.txt"],
        cwd=crate,
        check=False,
    )
    assert others.returncode == 0
    listed = len((crate / "manifest-sha256.txt").read_text().splitlines())
    assert listed == sum(path.is_file() for path in crate.rglob("*")) - 1


def test_each_damaged_or_missing_file_is_named(crate):
    record = next(crate.glob("data/records/*/*.json"))
    with record.open("r+b") as file:  # one byte, the size stays
        file.seek(10)
        byte = file.read(1)
        file.seek(10)
        file.write(bytes([byte[0] ^ 1]))
    (crate / "html" / "index.html").unlink()
    done = verify(crate)
    count = len((crate / "manifest-sha256.txt").read_text().splitlines())
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"damaged: {record.relative_to(crate).as_posix()}",
        "missing: html/index.html",
        f"2 of {count} files are not as they were exported",
    ]


@pytest.mark.parametrize("content", ["", "no checksum\n", None])
def test_a_damaged_list_is_told_in_a_line(crate, content):
    file = crate / "manifest-sha256.txt"
    file.unlink() if content is None else file.write_text(content)
    done = verify(crate)
    assert done.returncode == 1
    assert done.stdout.startswith("the crate cannot be checked: ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_what_was_added_since_is_counted(crate):
    (crate / "note.txt").write_text("mine")
    done = verify(crate)
    assert done.returncode == 0
    assert "1 were added since" in done.stdout


def test_a_file_that_metadata_names_must_be_there(crate):
    file = crate / "manifest-sha256.txt"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.endswith("requirements.lock\n")))
    (crate / "requirements.lock").unlink()
    done = verify(crate)
    assert done.returncode == 1
    assert "described but missing: requirements.lock" in done.stdout


def test_equal_contents_are_equal_files(built, store, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    first, second = (
        export(tmp_path / name, project=built, store=store) for name in ("a.zip", "b.zip")
    )
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        archive.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / "snt-book"
    assert verify(folder).returncode == 0
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    root = next(entity for entity in graph if entity["@id"] == "./")
    assert root["datePublished"] == "2027-01-15T08:00:00+00:00"


def test_an_empty_folder_is_taken(built, store, tmp_path):
    (tmp_path / "empty").mkdir()
    assert verify(export(tmp_path / "empty", project=built, store=store)).returncode == 0


def test_the_command_refuses_in_a_line_and_writes_nothing(tmp_path):
    (tmp_path / "file").write_text("kept")
    run = "from snt_core.cli import main; main()"
    command = [sys.executable, "-c", run, "export", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_old_zip_is_replaced_and_nothing_else_is_left(built, store, tmp_path):
    place = tmp_path / "out"
    for _ in range(2):
        export(place / "book.zip", project=built, store=store)
    assert [path.name for path in place.iterdir()] == ["book.zip"]


def test_a_book_that_was_not_built_is_not_exported(small_project, store):
    shutil.copy(PROJECT / "CITATION.cff", small_project)
    with pytest.raises(UserError, match="run 'make book' first"):
        export(project=small_project, store=store)
    assert not (small_project / "_build").exists()


def test_a_book_that_is_older_than_its_records_is_not_exported(built, store, tmp_path):
    fill(store, artefact="table1", seeds=(0,))
    with pytest.raises(UserError, match=r"older than what it shows \(table9_small\)"):
        export(tmp_path / "crate", project=built, store=store)
    assert not (tmp_path / "crate").exists()


def test_a_folder_that_is_not_empty_is_not_overwritten(built, store, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(UserError, match="is not empty"):
        export(tmp_path / "mine", project=built, store=store)
    assert (tmp_path / "mine" / "file").read_text() == "kept"
