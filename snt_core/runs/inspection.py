"""What the text of a record must be before any of it is believed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from snt_core.common.checks import declared_fields
from snt_core.runs.identity import canonical
from snt_core.runs.kinds import kinds, spec_class
from snt_core.runs.shapes import (
    ANY,
    MOMENT,
    TEXT,
    TRUTH,
    Shape,
    count,
    fields,
    many,
    nothing_or,
    number,
    require,
    text,
)

FORMAT = 2  # since it a parent stands with its kind
READS = (1, 2)
PROFILE = text("[a-z][a-z0-9_]{0,39}")  # a folder's name and nothing else
DIGEST = text("[0-9a-f]{64}")
ID = text("[0-9a-f]{16}")
TEN_YEARS = 10 * 366 * 86400.0
SESSION: Any = {  # of every process that had a part in a run
    "started": MOMENT,
    "device": TEXT,
    "torch": TEXT,
    "commit": nothing_or(TEXT),
    "dirty": nothing_or(TRUTH),
}
PROVENANCE = fields(
    {  # what came later, and what nothing but a page shows
        "snt_core": TEXT,
        "python": TEXT,
        "platform": TEXT,
        "interrupted": many(fields(**SESSION)),
        "weights_sha256": nothing_or(DIGEST),
        "threads": count(1),
        "ranks": count(1),
        "resumed_at_step": count(),
        "data_digest": nothing_or(TEXT),
        "cpu_seconds": number(0, 1000 * TEN_YEARS),  # of all cores
        "peak_memory_mb": number(0),
    },
    **SESSION,
    seconds=number(0, TEN_YEARS),
    dtype=text("fp32|bf16"),
    fused=TRUTH,
)
BODY = fields(
    id=ID,
    profile=PROFILE,
    status=text("done|diverged"),
    spec=fields(),
    metrics=fields(),
    n_samples=count(),
    provenance=PROVENANCE,
    parents=many(ID),
)


class Superseded(Exception):
    """A record written under an older schema of its kind: history, and no error."""


class Newer(Exception):
    """An error: a sound record of a later version of this package. The message says of which."""


def checksum(body: dict[str, Any]) -> str:
    """Return the SHA-256 of a record's other entries."""
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def inspected(content: str) -> dict[str, Any]:
    """Return the entries of a record, whole and of the types and ranges that they must have.

    Raises:
        Superseded: its kind has a newer schema.
        Newer: this version cannot know what it says.
        ValueError: anything else is wrong.
    """
    body = whole(content)
    _require_known(body)
    require("record", BODY, body)
    if body["status"] == "done":
        require("metrics", spec_class(body["kind"]).shape, body["metrics"])
    return body


def sealed(body: dict[str, Any]) -> str:
    """Return the JSON text that `whole` reads: the entries and, last, their checksum."""
    return json.dumps({**body, "checksum": checksum(body)}, indent=1) + "\n"


def whole(content: str) -> dict[str, Any]:
    """Return the JSON object whose checksum is right, without it.

    Raises ValueError where it is none, or where a text in it cannot be written anywhere.
    """
    try:
        body = json.loads(content, object_pairs_hook=_once)
        told = body.pop("checksum", None)
        if told is None:
            raise ValueError("it has no checksum")
        right = told == checksum(body)
        json.dumps(body, ensure_ascii=False).encode()
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError("it is not a whole record") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not a whole record: {error}") from error
    except UnicodeEncodeError as error:
        raise ValueError("a text in it holds half a character (a lone surrogate)") from error
    if not right:
        raise ValueError("its content does not match its checksum")
    return dict(body)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object as a dict. JSON lets a key stand twice, and then readers differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in it")
    return found


_KNOWN: Shape = fields(format=count(1), kind=TEXT, schema=count(1), spec=ANY)


def _require_known(body: dict[str, Any]) -> None:
    """Raise Newer or Superseded unless this version reads the format and the kind."""
    require("record", _KNOWN, body)
    if body["format"] not in READS:
        raise Newer(f"its format is {body['format']}, this version reads {READS}")
    if body["kind"] not in kinds():
        raise Newer(f"its kind of run is {body['kind']!a}, which this version does not know")
    cls = spec_class(body["kind"])
    if body["schema"] < cls.schema:
        raise Superseded
    if body["schema"] > cls.schema:
        raise Newer(f"its schema is {body['schema']}, this version has {cls.schema}")
    if isinstance(body["spec"], dict) and (more := set(body["spec"]) - set(declared_fields(cls))):
        raise Newer(f"this version does not know what {sorted(more)!a} of its spec means")
