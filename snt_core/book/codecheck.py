"""`codecheck.yml`: the certificate for machines, as CODECHECK's configuration file (version 1.0).

Version 2.0 asks for a number that only its register assigns, after a check by somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snt_core.book.certificate import Execution, summary
from snt_core.runs.repeats import Repeat

SPECIFICATION = "https://codecheck.org.uk/spec/config/1.0/"
SELF_CHECK = "The authors of the workflow checked it themselves, by the commands listed here."


def configuration(
    *,
    manifest: Mapping[str, str],
    citation: Mapping[str, Any],
    executed: Sequence[Execution],
    repeated: Sequence[Repeat],
    report: str,
    repository: str,
) -> dict[str, Any]:
    """Return what the file says.

    Args:
        manifest: what each re-created file is, by its path beside the configuration.
        citation: the content of `CITATION.cff`.
        report: address or path of the certificate's page.
        repository: address of the code; left out where it is empty.
    """
    paper = citation["references"][0]
    moments = [one.ended for one in executed] + [repeat.started for repeat in repeated]
    body: dict[str, Any] = {
        "version": SPECIFICATION,
        "manifest": [{"file": file, "comment": says} for file, says in manifest.items()],
        "paper": {
            "title": paper["title"],
            "authors": [{"name": _name(author)} for author in paper["authors"]],
            "reference": paper["url"],
        },
        "codechecker": [{"name": _name(author)} for author in citation["authors"]],
        "report": report,
        "summary": f"{SELF_CHECK} {summary(executed, repeated)}",
    }
    if repository:
        body["repository"] = repository
    if moments:
        body["check_time"] = max(moments)[:19].replace("T", " ")
    # fields of our own stand under one node, as the specification asks
    body["snt"] = {
        "executions": [_execution(one) for one in executed],
        "verifications": [_verification(repeat) for repeat in repeated],
    }
    return body


def text(body: Mapping[str, Any]) -> str:
    """Return the configuration as YAML, with directive and document start."""
    import yaml

    return yaml.safe_dump(
        dict(body),
        version=(1, 1),
        explicit_start=True,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def _name(author: Mapping[str, str]) -> str:
    if "name" in author:
        return author["name"]
    return f"{author['given-names']} {author['family-names']}"


def _execution(one: Execution) -> dict[str, Any]:
    return {
        "what": one.label,
        "command": one.command,
        "runs": f"{len(one.records)} of {one.asked}",
        "from": one.started,
        "to": one.ended,
        "on": one.facts("device"),
        "commits": one.facts("commit"),
        "result": one.result,
    }


def _verification(repeat: Repeat) -> dict[str, Any]:
    return {
        "record": repeat.record,
        "command": repeat.command,
        "when": repeat.started,
        "on": repeat.provenance["device"],
        "agrees": repeat.same,
        "result": repeat.result,
    }
