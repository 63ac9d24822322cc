"""The book as a research object: an RO-Crate that can be read, checked and built again.

The crate has the project's own layout, so that `make book` works in it, and besides:

    html/                   the built book
    executed/               its notebooks with their outputs
    codecheck.yml           what was re-executed, for machines
    ro-crate-metadata.json  what everything is
    manifest-sha256.txt     a checksum of every file
    verify.py               checks them; needs Python alone
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from snt_core.book import check_crate, codecheck
from snt_core.book.build import stale_chapters
from snt_core.book.certificate import executions, repetitions
from snt_core.book.chapters import Chapter, chapters
from snt_core.book.crate_metadata import Contents, describe
from snt_core.common.documents import read_yaml
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.paper.profiles import PUBLISHED
from snt_core.paper.verdict import scoreboard
from snt_core.runs.store import Store, open_store

CERTIFICATE = "certificate"  # the chapter that shows what `codecheck.yml` says
TREES = (".ci", ".devcontainer", ".github", "benchmarks", "book", "data/paper", "snt_core", "tests")
TOP = ("*.cff", "*.lock", "*.md", "*.toml", "*.yml", "*.yaml", "Dockerfile", "LICENSE*", "Makefile")
DOTTED = (".dockerignore", ".gitignore", ".pre-commit-config.yaml")
LEFT_OUT = ("__pycache__", ".ipynb_checkpoints")
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in a zip, so that equal crates are equal files


def export(
    output: Path | None = None, *, project: Path = PROJECT, store: Store | None = None
) -> Path:
    """Pack the published edition as an RO-Crate and return where it is.

    Args:
        output: a folder that is new or empty, or a file that ends in `.zip`;
            `_build/snt-book.zip` of the project if not given.

    Raises:
        UserError: the book is not built, is older than what it shows, or `output` is taken.
    """
    output = output or project / "_build" / "snt-book.zip"
    store = store or open_store()
    _check_output(output)
    store.names()  # sets aside what no longer is a record, before any is copied
    _check_built(project)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".crate") as place:
        folder = Path(place) / "crate"
        _gather(project, store, folder)
        _describe(project, store, folder)
        if output.suffix == ".zip":
            packed = Path(place) / output.name
            _zip(folder, packed)
            packed.replace(output)
        else:
            folder.replace(output)
    return output


def _check_output(output: Path) -> None:
    if output.suffix == ".zip":
        if output.is_dir():
            raise UserError(f"{output} is a folder; name a file that ends in .zip")
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(
            f"{output} is not empty; name a new folder, or a file that ends in .zip, with --output"
        )


def _check_built(project: Path) -> None:
    if not (_html(project) / "index.html").exists():
        raise UserError(f"there is no built book in {_html(project)}; run 'make book' first")
    if stale := stale_chapters(_executed(project), {"profile": PUBLISHED}, project):
        raise UserError(
            f"the built book is older than what it shows ({', '.join(c.name for c in stale)}); "
            f"run 'make book' first"
        )


def _html(project: Path) -> Path:
    return project / "_build" / "html"


def _executed(project: Path) -> Path:
    return project / "_build" / PUBLISHED / "executed"


# gathering ----------------------------------------------------------------------------------


def _gather(project: Path, store: Store, folder: Path) -> None:
    """Copy everything but what describes it."""
    for file in _sources(project):
        _copy(file, folder / file.relative_to(project))
    for kind in ("records", "verified"):
        for file in sorted(store.folder.glob(f"{kind}/*/*.json")):
            if file.parent.name != "smoke":  # proves nothing, and anyone makes it in minutes
                _copy(file, folder / "data" / file.relative_to(store.folder))
    for chapter in chapters(project):
        _copy(_executed(project) / f"{chapter.name}.ipynb", folder / _notebook(chapter))
    shutil.copytree(_html(project), folder / "html")
    _copy(Path(check_crate.__file__), folder / "verify.py")


def _sources(project: Path) -> Iterator[Path]:
    for pattern in (*TOP, *DOTTED):
        yield from (file for file in sorted(project.glob(pattern)) if file.is_file())
    for tree in TREES:
        for file in sorted((project / tree).rglob("*")):
            if file.is_file() and not set(LEFT_OUT) & set(file.relative_to(project).parts):
                yield file


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _notebook(chapter: Chapter) -> str:
    """Return where the executed chapter lies in the crate."""
    return f"executed/{chapter.name}.ipynb"


# describing ---------------------------------------------------------------------------------


def _describe(project: Path, store: Store, folder: Path) -> None:
    """Write the certificate, the metadata and, last, the checksums of all that is there."""
    citation = read_yaml(project / "CITATION.cff")
    repository = read_yaml(project / "_config.yml")["repository"]["url"]
    executed = executions(store, scoreboard(store))
    repeated = repetitions(store, executed)
    manifest = {_notebook(c): c.label for c in chapters(project)}
    body = codecheck.configuration(
        manifest=manifest,
        citation=citation,
        executed=executed,
        repeated=repeated,
        report=f"html/book/{CERTIFICATE}.html",
        repository=repository,
    )
    (folder / "codecheck.yml").write_text(codecheck.text(body), encoding="utf-8")
    contents = Contents(
        folder=folder,
        citation=citation,
        repository=repository,
        executed=executed,
        repeated=repeated,
        notebooks=manifest,
    )
    for name, content in describe(contents).items():
        (folder / name).write_text(content, encoding="utf-8")
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    sums = "".join(f"{check_crate.digest(folder / name)}  {name}\n" for name in files)
    (folder / check_crate.CHECKSUMS).write_text(sums, encoding="utf-8")


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(f"snt-book/{file.relative_to(folder).as_posix()}", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (file.stat().st_mode & 0o777) << 16
            archive.writestr(entry, file.read_bytes())
