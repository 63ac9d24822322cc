"""What an RO-Crate says of itself: `ro-crate-metadata.json` (RO-Crate 1.2) and its preview."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import snt_core
from snt_core.book.certificate import Execution
from snt_core.book.check_crate import CHECKSUMS, METADATA, digest
from snt_core.runs.repeats import Repeat

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

VERSION = "1.2"
PREVIEW = "ro-crate-preview.html"
LICENCES = {
    "CC-BY-4.0": ("https://creativecommons.org/licenses/by/4.0/", "Text and figures"),
    "MIT": ("https://spdx.org/licenses/MIT", "Code"),
}
COMMAND = "snt_core/cli.py"
FOLDERS = {
    "html/": "The built book; open html/index.html",
    "book/": "The book's pages as they are written: notebooks and Markdown",
    "snt_core/": "The code that trains, measures, judges and draws",
    "data/paper/": "The paper's own numbers and claims",
    "tests/": "The tests of the code and of the book",
    "benchmarks/": "Speed beside others' code",
}
FILES = {
    "README.md": ("text/markdown", "How to install and use it"),
    "requirements.lock": ("text/plain", "Every version that the project runs with"),
    "requirements-hashed.lock": ("text/plain", "The same with the checksums of the packages"),
    "environment.yml": ("application/yaml", "The environment for conda"),
    "pyproject.toml": ("application/toml", "The package and what it needs"),
    "codecheck.yml": ("application/yaml", "What was re-executed, as CODECHECK asks it"),
    "verify.py": ("text/x-python", f"Checks every file against {CHECKSUMS}"),
    "CITATION.cff": ("application/yaml", "How to cite"),
}


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the crate in `folder` holds; `notebooks` says what each executed one is, by path."""

    folder: Path
    citation: Mapping[str, Any]
    repository: str
    executed: Sequence[Execution]
    repeated: Sequence[Repeat]
    notebooks: Mapping[str, str]


def describe(contents: Contents) -> dict[str, str]:
    """Return the metadata file and a page for readers, as texts by their names."""
    from rocrate.rocrate import ROCrate

    crate = ROCrate(gen_preview=True, version=VERSION)
    _root(crate, contents)
    for name, says in FOLDERS.items():
        if (contents.folder / name).is_dir():
            crate.add_dataset(dest_path=name, properties={"name": name, "description": says})
    for name, (kind, says) in FILES.items():
        if (contents.folder / name).is_file():
            _file(crate, contents.folder, name, says, kind)
    for name, label in contents.notebooks.items():
        _file(crate, contents.folder, name, f"{label}, executed", "application/x-ipynb+json")
    records = {p.stem: p for p in sorted((contents.folder / "data").glob("records/*/*.json"))}
    for stem, path in records.items():
        name = path.relative_to(contents.folder).as_posix()
        _file(crate, contents.folder, name, f"What the run {stem} found", "application/json")
    _actions(crate, contents, records)
    crate.preview["name"] = "What is in this crate, for readers"
    preview = crate.preview.generate_html()
    body = json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False)
    return {METADATA: body + "\n", PREVIEW: preview}


def _root(crate: ROCrate, contents: Contents) -> None:
    citation, paper = contents.citation, contents.citation["references"][0]
    crate.name = citation["title"]
    crate.description = citation["abstract"]
    crate.datePublished = _now()
    root = crate.root_dataset
    root["version"] = citation["version"]
    root["license"] = [_licence(crate, name) for name in LICENCES]
    root["author"] = root["publisher"] = _entity(
        crate, "#authors", type="Organization", name=citation["authors"][0]["name"]
    )
    root["citation"] = _entity(
        crate,
        paper["url"],
        type="ScholarlyArticle",
        name=paper["title"],
        author=[f"{author['given-names']} {author['family-names']}" for author in paper["authors"]],
        datePublished=str(paper["year"]),
    )
    if contents.repository:
        root["isBasedOn"] = {"@id": contents.repository}


def _now() -> str:
    """Return the time, or the one that `SOURCE_DATE_EPOCH` sets for builds that can be repeated."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(given), UTC) if given else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")


def _licence(crate: ROCrate, name: str) -> ContextEntity:
    address, says = LICENCES[name]
    return _entity(crate, address, type="CreativeWork", name=name, description=says)


def _entity(crate: ROCrate, identifier: str, *, type: str, **facts: Any) -> ContextEntity:
    from rocrate.model.contextentity import ContextEntity

    return crate.add(ContextEntity(crate, identifier, properties={"@type": type, **facts}))


def _file(
    crate: ROCrate,
    folder: Path,
    name: str,
    says: str,
    kind: str,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Entity:
    path = folder / name
    facts = {
        "name": name,
        "description": says,
        "encodingFormat": kind,
        "contentSize": str(path.stat().st_size),
        "sha256": digest(path),
    }
    return crate.add_file(dest_path=name, properties={**facts, **more})


# what was done ------------------------------------------------------------------------------


def _command(crate: ROCrate, folder: Path) -> Entity:
    """The program behind every action: the file that the command `snt` starts."""
    python = _entity(
        crate,
        "#python",
        type="ComputerLanguage",
        name="Python",
        url="https://www.python.org",
        version=platform.python_version(),
    )
    more = {
        "@type": ["File", "SoftwareSourceCode"],
        "version": snt_core.__version__,
        "programmingLanguage": python,
    }
    return _file(crate, folder, COMMAND, "The command snt", "text/x-python", more)


def _actions(crate: ROCrate, contents: Contents, records: Mapping[str, Path]) -> None:
    """Add an action for each execution and for each record that was run a second time."""
    command = _command(crate, contents.folder)

    def record(name: str) -> dict[str, str] | None:
        path = records.get(name)
        return {"@id": path.relative_to(contents.folder).as_posix()} if path else None

    actions = []
    for one in contents.executed:
        facts: dict[str, Any] = {
            "@type": "CreateAction",
            "name": one.command,
            "description": _told(one),
            "agent": crate.publisher,
            "startTime": one.started,
            "endTime": one.ended,
            "result": [found for r in one.records if (found := record(r.name))],
        }
        actions.append(
            crate.add_action(command, f"#run-{one.profile}-{one.artefact}", properties=facts)
        )
    for repeat in contents.repeated:
        facts = {
            "@type": "AssessAction",
            "name": repeat.command,
            "description": repeat.result,
            "agent": crate.publisher,
            "startTime": repeat.started,
            "actionStatus": f"http://schema.org/{_status(repeat)}",
        }
        if found := record(repeat.record):
            facts["object"] = found
        actions.append(crate.add_action(command, f"#verify-{repeat.record}", properties=facts))
    crate.root_dataset["mentions"] = actions


def _told(one: Execution) -> str:
    return f"{one.label}: {len(one.records)} of {one.asked} runs. {one.result}".strip()


def _status(repeat: Repeat) -> str:
    return "CompletedActionStatus" if repeat.same else "FailedActionStatus"
