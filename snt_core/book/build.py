"""From chapters to HTML: execute what changed, check it, render it, swap it in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from snt_core.book.chapters import Chapter, chapters, require_valid
from snt_core.book.execution import execute_all, verify_executed
from snt_core.book.policy import with_policy
from snt_core.book.request import edition
from snt_core.common.documents import read_yaml
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT, atomic_write, require_writable, store_dir, sweep
from snt_core.common.locks import awaited_lock
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PUBLISHED


def build(
    edition: str = PUBLISHED,
    parameters: Mapping[str, Any] | None = None,
    workers: int = 1,
    *,
    project: Path = PROJECT,
    root: Path | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """Execute every chapter with `parameters` and render the book; returns its `index.html`.

    The published edition is at `<root>/html`, another at `<root>/<edition>/html` (`root` is
    `_build` if not given). A chapter whose inputs are unchanged is not executed again. A build
    that fails leaves the last good book in place. `notify` gets one line per step.

    Raises:
        UserError: a chapter failed, or Jupyter Book gave a warning; the log is named.
    """
    root = root or project / "_build"
    place = root / edition
    html = root / "html" if edition == PUBLISHED else place / "html"
    place.mkdir(parents=True, exist_ok=True)
    with awaited_lock(place / ".lock"):  # a second build of the edition waits
        sweep(place, place / "executed", html)
        _mend(html)
        executed = _execute_changed(project, place / "executed", parameters or {}, workers, notify)
        source = _stage(project, executed, place / "source")
        notify("rendering the pages")
        _swap(_render(source, place, notify), html)
    return html / "index.html"


# execution ----------------------------------------------------------------------------------


def require_buildable(project: Path = PROJECT) -> list[Chapter]:
    """Return the book's chapters, once all that a build reads first has been looked at.

    Raises:
        UserError: table of contents, configuration or a notebook is damaged, or `_build` cannot
            be written.
    """
    which = chapters(project)
    if not which:
        raise UserError(f"_toc.yml of {project} lists no notebook, so there is nothing to build")
    for chapter in which:
        require_valid(chapter.file)
    _configuration(project)
    require_writable("the output folder", project / "_build")
    return which


def _configuration(project: Path) -> dict[str, Any]:
    """Return `_config.yml` with execution switched off: papermill has done it."""
    file = project / "_config.yml"
    config = read_yaml(file)
    if not isinstance(config, dict) or not isinstance(config.setdefault("execute", {}), dict):
        raise UserError(f"{file} is no configuration; it needs entries such as 'title: TEXT'")
    config["execute"]["execute_notebooks"] = "off"
    return config


def _execute_changed(
    project: Path,
    executed: Path,
    parameters: Mapping[str, Any],
    workers: int,
    notify: Callable[[str], None],
) -> dict[Chapter, Path]:
    """Return every chapter's executed notebook; only those whose inputs changed are run."""
    which = require_buildable(project)
    keys, given = chapter_keys(parameters, project), _given(which, parameters)
    stale = [c for c in which if _stored_key(executed / f"{c.name}.ipynb") != keys[c]]
    for chapter in stale:
        if _is_altered(executed / f"{chapter.name}.ipynb"):
            notify(f"{chapter.name}: its executed notebook was altered since, and is not used")
    notify(f"{len(which)} chapters, {len(stale)} to execute")
    for chapter in stale:  # or a key would outlive the notebook that it vouches for
        (executed / f"{chapter.name}.key").unlink(missing_ok=True)
    own = {c.name: given[c] for c in stale}

    def keep(chapter: Chapter, file: Path) -> None:
        """Vouch for a chapter at once: what comes later may fail, or be killed."""
        verify_executed(file)
        keep_key(file, keys[chapter])

    if stale:
        execute_all(stale, executed, {}, workers, own=own, keep=keep, notify=notify)
    return {chapter: executed / f"{chapter.name}.ipynb" for chapter in which}


def _given(
    which: Iterable[Chapter], parameters: Mapping[str, Any]
) -> dict[Chapter, dict[str, Any]]:
    """Return what each chapter is executed with, at a profile that it is offered at."""
    given = {chapter: dict(parameters) for chapter in which}
    for chapter in given:
        if chapter.artefact in artefacts() and "profile" in parameters:
            given[chapter] |= edition(chapter, parameters["profile"])
    return given


def _shared_inputs(project: Path) -> str:
    """Return a digest of what every chapter may read: the code, the paper's numbers, the records.

    Records and their repetitions count by name, size and time: there are many, and they never
    change in place. Those of `smoke` do not count: a build may make them itself, and the code says
    all they depend on.
    """
    digest = hashlib.sha256()
    patterns = ("snt_core/**/*.py", "snt_core/**/*.cpp", "data/paper/*", "benchmarks/**/*.[cj]s*")
    code = [file for pattern in patterns for file in project.glob(pattern)]
    for file in sorted([*code, project / "requirements.lock"]):
        if file.is_file():
            digest.update(f"{file.relative_to(project)}\n".encode() + file.read_bytes())
    store = store_dir()
    for file in sorted([*store.glob("records/*/*.json"), *store.glob("verified/*/*.json")]):
        if file.parent.name != "smoke":
            about = file.stat()
            digest.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _key(chapter: Chapter, parameters: Mapping[str, Any], shared: str) -> str:
    given = json.dumps(dict(parameters), sort_keys=True)
    return hashlib.sha256(chapter.file.read_bytes() + f"{given}{shared}".encode()).hexdigest()


def keep_key(executed: Path, key: str) -> None:
    """Note beside an executed notebook what it was made of, and the SHA-256 of what it holds."""
    digest = hashlib.sha256(executed.read_bytes()).hexdigest()
    atomic_write(executed.with_suffix(".key"), f"{key} {digest}\n".encode())


def _noted(executed: Path) -> tuple[str, str]:
    """Return what `keep_key` noted: the key, the digest; empty where it noted nothing."""
    try:
        key, digest = executed.with_suffix(".key").read_text(errors="replace").split()
    except (FileNotFoundError, ValueError):
        return "", ""
    return key, digest


def _is_altered(executed: Path) -> bool:
    """Whether a notebook is there and not as its execution left it."""
    _, digest = _noted(executed)
    there = bool(digest) and executed.is_file()
    return there and hashlib.sha256(executed.read_bytes()).hexdigest() != digest


def _stored_key(executed: Path) -> str | None:
    """Return what an executed notebook was made of; None if it is missing or was altered."""
    key, _ = _noted(executed)
    return key if key and executed.is_file() and not _is_altered(executed) else None


def chapter_keys(parameters: Mapping[str, Any], project: Path = PROJECT) -> dict[Chapter, str]:
    """Return a digest of all that each chapter shows, executed with `parameters`."""
    given, shared = _given(chapters(project), parameters), _shared_inputs(project)
    return {chapter: _key(chapter, given[chapter], shared) for chapter in given}


def stale_chapters(
    executed: Path, parameters: Mapping[str, Any], project: Path = PROJECT
) -> list[Chapter]:
    """Return the chapters whose notebook in `executed` is missing, or older than what it shows."""
    keys = chapter_keys(parameters, project)
    return [c for c, key in keys.items() if _stored_key(executed / f"{c.name}.ipynb") != key]


# rendering ----------------------------------------------------------------------------------


def _stage(project: Path, executed: Mapping[Chapter, Path], source: Path) -> Path:
    """Copy the book's sources, with the executed chapters in them and execution switched off."""
    import yaml

    config = _configuration(project)
    shutil.rmtree(source, ignore_errors=True)
    leave = shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints")
    shutil.copytree(project / "book", source / "book", ignore=leave)
    shutil.copy(project / "_toc.yml", source)
    (source / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for chapter, file in executed.items():
        verify_executed(file)
        shutil.copy(file, source / chapter.file.relative_to(project))
    return source


def _render(source: Path, place: Path, notify: Callable[[str], None]) -> Path:
    """Return the folder of HTML that Jupyter Book makes of `source`; a warning is an error."""
    output, log = place / "sphinx", place / "build.log"
    shutil.rmtree(output, ignore_errors=True)
    # The renderer ends with this process: an orphan would write into what the next build renders.
    # Its trees of documents are no garbage, and to look through them again and again takes long.
    run_main = (
        "import gc; gc.set_threshold(50_000, 20, 20); "
        f"from snt_core.common.stopping import end_with; end_with({os.getpid()}); "
        f"from jupyter_book.cli.main import main; main()"
    )
    options = ["--path-output", str(output), "--all", "-n", "-W", "--keep-going"]
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            [sys.executable, "-c", run_main, "build", str(source), *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1"},
            check=False,
        ).returncode
    html = output / "_build" / "html"
    if code or not (html / "index.html").exists():
        complaints = _complaints(log.read_text(encoding="utf-8", errors="replace"))
        for line in complaints[-10:]:
            notify(line)
        raise UserError(f"the book did not build: {complaints[0]} (log: {log})")
    front = html / "index.html"  # Jupyter Book writes it when Sphinx, and our extensions, are done
    front.write_text(with_policy(front.read_text(encoding="utf-8")), encoding="utf-8")
    return html


def _complaints(log: str) -> list[str]:
    """Return a build log's warnings and errors; its last line if there is none."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log.splitlines()]
    said = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL|Error):", line)]
    return said or [next((line for line in reversed(lines) if line), "no output")]


def _swap(new: Path, target: Path) -> None:
    """Put the folder `new` where `target` is; killed in between, `_mend` puts the old one back."""
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _mend(target: Path) -> None:
    """Put back the book that a build was killed while replacing."""
    if not target.exists() and _old(target).exists():
        _old(target).rename(target)


def _old(target: Path) -> Path:
    return target.with_name(f"{target.name}.old")
