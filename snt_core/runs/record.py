"""One run that happened, as JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from snt_core.runs.identity import canonical, record_name, run_id, to_dict
from snt_core.runs.kinds import from_dict
from snt_core.runs.spec import Metrics, Row, Spec

FORMAT = 2  # since it a parent stands with its kind
READS = (1, 2)
ABOUT = ("id", "profile", "data", "model", "approach", "seed", "n_samples")  # of every row


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run that happened.

    `status` is "done" or "diverged"; `metrics` belong to the kind of run; `n_samples` is the
    number of images behind the metrics; `provenance` says where, when and how.
    """

    spec: Spec
    profile: str
    status: str
    metrics: Metrics
    n_samples: int
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return run_id(self.spec)

    @property
    def name(self) -> str:
        return record_name(self.spec)

    def rows(self, table: str = "rows") -> list[Row]:
        """Return the rows of one of the kind's tables, each with the columns that name its net."""
        net = self.spec.net
        named = (self.id, self.profile, net.data, net.model, net.approach, net.seed, self.n_samples)
        about = dict(zip(ABOUT, named, strict=True))
        return [about | row for row in getattr(self.spec, table)(self.metrics)]

    def to_json(self) -> str:
        body = {
            "format": FORMAT,
            "id": self.id,
            "kind": self.spec.kind,
            "schema": self.spec.schema,
            "profile": self.profile,
            "status": self.status,
            "spec": to_dict(self.spec),
            "metrics": self.metrics,
            "n_samples": self.n_samples,
            "provenance": self.provenance,
            "parents": [] if self.spec.net is self.spec else [run_id(self.spec.net)],
        }
        return json.dumps({**body, "checksum": _checksum(body)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Return the record that `to_json` wrote. Raises ValueError for anything else."""
        try:
            body = json.loads(text)
            checksum = body.pop("checksum")
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
            raise ValueError("it is not a whole record") from error
        if checksum != _checksum(body):
            raise ValueError("its content does not match its checksum")
        if body["format"] not in READS:
            raise ValueError(f"its format is {body['format']}, this version reads {READS}")
        spec = from_dict(body["kind"], body["spec"])
        keys = ("profile", "status", "metrics", "n_samples", "provenance")
        return cls(spec=spec, **{key: body[key] for key in keys})


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()
