"""A record as a page of its own: what was asked, what was found, where, when, from what."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2  # Sphinx's own

from snt_core.book.policy import with_policy
from snt_core.book.record_values import Shown, shown, text
from snt_core.paper.recipes import BACKBONES, LABELS
from snt_core.runs.identity import run_id, to_dict
from snt_core.runs.kinds import spec_class
from snt_core.runs.record import Record
from snt_core.runs.repeats import Repeat

WORDS = {  # the keys of a record's provenance as a reader would say them, in the order of the page
    "started": "started (UTC)",
    "seconds": "seconds of work",
    "cpu_seconds": "seconds of the processor",
    "device": "device",
    "peak_memory_mb": "most memory (MB)",
    "threads": "threads",
    "ranks": "processes",
    "dtype": "number format",
    "fused": "one-pass kernels",
    "data_digest": "digest of the data",
    "resumed_at_step": "went on from step",
    "torch": "torch",
    "python": "Python",
    "snt_core": "snt_core",
    "platform": "system",
}
CODE = ("commit", "dirty")  # told together, with a link


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a record's page leads to.

    Attributes:
        pages: titles and addresses of the chapters that use it.
        parent: name of the record of the net that it measures; None where there is no such record.
        children: names of the records that measure it, with what each is.
        repeats: its second runs.
        repository: address of the repository; empty where it is not known.
    """

    pages: Sequence[tuple[str, str]] = ()
    parent: str | None = None
    children: Sequence[tuple[str, str]] = ()
    repeats: Sequence[Repeat] = ()
    repository: str = ""


@dataclass(frozen=True)
class Code:
    """The code of a run: its commit, where that is found, and whether the code differed from it."""

    commit: str
    address: str
    changed: bool


@dataclass(frozen=True)
class _View:
    """What the template reads."""

    name: str
    title: str
    about: str
    record: Record
    around: Around
    spec: Shown
    metrics: Shown
    facts: list[tuple[str, str]]
    sessions: list[tuple[list[str], Code]] = field(default_factory=list)


def page(record: Record, around: Around) -> str:
    """Return the HTML of a record's page. Whatever the record says stands in it as text."""
    facts, spec = record.provenance, to_dict(record.spec)
    parent = spec.pop("parent", None)
    if parent and around.parent is None:  # else its own page says it
        spec["parent"] = parent
    sessions = [*facts.get("interrupted", ()), facts]
    view = _View(
        name=record.name,
        title=f"{what(record)}: {net(record)}",
        about=_about(record.spec.kind),
        record=record,
        around=around,
        spec=shown(spec),
        metrics=shown(record.metrics),
        facts=_facts(facts),
        sessions=[(_session(one), code(one, around.repository)) for one in sessions],
    )
    parent_id = run_id(record.spec.net) if record.spec.net is not record.spec else ""
    html = _template().render(view=view, parent_id=parent_id, repeats=_repeats(around))
    return with_policy(html)


def what(record: Record) -> str:
    """Return the kind of run as words, such as `lambda max`."""
    return record.spec.kind.replace("_", " ")


def net(record: Record) -> str:
    """Return the net that a record is about, in the paper's names."""
    asked = record.spec.net
    model = BACKBONES.get(asked.model, asked.model)
    approach = LABELS.get(asked.approach, asked.approach)
    return f"{model}, {approach}, {asked.data}, seed {asked.seed}"


def code(facts: Mapping[str, Any], repository: str) -> Code:
    """Return the code that a process ran; its commit has an address where the repository has."""
    commit = str(facts.get("commit") or "")
    part = "-/commit" if repository.startswith("https://gitlab.com/") else "commit"
    address = f"{repository}/{part}/{commit}" if repository and commit.isalnum() else ""
    return Code(commit or "unknown", address, bool(facts.get("dirty")))


def _about(kind: str) -> str:
    """Return the first line of what the kind's module says of itself."""
    module = importlib.import_module(spec_class(kind).__module__)
    return (module.__doc__ or "").strip().splitlines()[0]


def _facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the provenance as pairs; a key that has no words here stands as it is."""
    left_out = (*CODE, "interrupted", "seed")  # a row of their own, and of the spec
    others = [key for key in facts if key not in WORDS and key not in left_out]
    known = [key for key in WORDS if key in facts]
    return [(WORDS.get(key, key), _fact(key, facts[key])) for key in [*known, *others]]


def _fact(key: str, value: Any) -> str:
    if key == "started" and value:
        return str(value)[:19].replace("T", " ")
    return text(value)


def _session(facts: Mapping[str, Any]) -> list[str]:
    return [_fact(key, facts.get(key)) for key in ("started", "device", "torch")]


def _repeats(around: Around) -> list[list[str]]:
    return [
        [
            _fact("started", repeat.started),
            text(repeat.provenance.get("device")),
            "yes" if repeat.same else "no",
            ", ".join(repeat.changed) or repeat.result,
        ]
        for repeat in around.repeats
    ]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("record_page.html")
