"""One run that happened, as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snt_core.runs.identity import record_name, run_id, to_dict
from snt_core.runs.inspection import FORMAT, inspected, sealed
from snt_core.runs.kinds import from_dict
from snt_core.runs.spec import Metrics, Row, Spec

ABOUT = ("id", "profile", "data", "model", "approach", "seed", "n_samples")  # of every row


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run that happened.

    `status` is "done" or "diverged"; `metrics` belong to the kind of run; `n_samples` is the
    number of images behind the metrics; `provenance` says where, when and how.

    `provenance["weights_sha256"]` is the digest of the file of weights that a training left, or
    that a measurement read; the first records lack it. It stands there, not among the metrics,
    since it says with what a run happened: the same run on another machine leaves other bits.
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

    @property
    def parents(self) -> list[str]:
        """The id of the net that was measured, if the run is a measurement."""
        return [] if self.spec.net is self.spec else [run_id(self.spec.net)]

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
            "parents": self.parents,
        }
        return sealed(body)

    @classmethod
    def from_json(cls, content: str) -> Record:
        """Return the record that `to_json` wrote, when all that it says has been looked at.

        Raises:
            Superseded, Newer: it is of another version (see `inspection`).
            ValueError: it is damaged, or no run can have written it; the message says why.
        """
        body = inspected(content)
        keys = ("profile", "status", "metrics", "n_samples", "provenance")
        try:
            spec = from_dict(body["kind"], body["spec"])
            found = cls(spec=spec, **{key: body[key] for key in keys})
            if found.status == "done":  # what tables and `snt verify` will ask of it
                found.rows()
                spec.headline(found.metrics)
        except Exception as error:  # whatever odd values lead to
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if (body["id"], body["parents"]) != (found.id, found.parents):
            raise ValueError(f"its id or its parents are not those of its spec, {found.id}")
        return found
