"""The identity of a run: frozen values, hashed whole.

Every field of a spec, defaults included, enters `run_id`, so that a changed default can never
reuse a stale result. An option that came after the first records (`checks.LATER`) enters where
it is not at its default; such a default never changes. How a run is carried out (device, dtype,
threads) is not part of it: that is provenance and stands in the record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snt_core.runs.spec import Spec


def canonical(value: Any) -> str:
    """Return `value` as JSON with one spelling: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def record_name(spec: Spec) -> str:
    """Return `<kind>-<id>`, as the file of the run's record is called."""
    return f"{spec.kind}-{run_id(spec)}"


def run_id(spec: Spec) -> str:
    """Return 16 hex digits of the SHA-256 of kind, schema and every field.

    A parent counts by its own id, so that a schema which rises makes its measurements new too.
    """
    parent = "" if spec.net is spec else run_id(spec.net)
    return _hashed(spec, spec.schema, parent)


@cache  # a chapter asks for the same ids thousands of times
def _hashed(spec: Spec, schema: int, parent: str) -> str:
    fields = to_dict(spec)
    if parent:
        fields["parent"] = parent
    text = canonical({"kind": spec.kind, "schema": schema, **fields})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_dict(spec: Spec) -> dict[str, Any]:
    """Return the spec's fields as plain JSON values; a parent stands whole, with its kind."""
    return _spelt_fields(spec)


def _spelt_fields(value: Any) -> dict[str, Any]:
    return {
        f.name: spelt(getattr(value, f.name), f)
        for f in dataclasses.fields(value)
        if not (f.metadata.get("later") and getattr(value, f.name) == f.default)
    }


def spelt(value: Any, field: dataclasses.Field[Any]) -> Any:
    """Return the one spelling of a field's value in records and ids."""
    if field.name == "parent":
        return {"kind": value.kind, **to_dict(value)}
    if dataclasses.is_dataclass(value):  # a recipe
        return _spelt_fields(value)
    if isinstance(value, tuple):
        return list(value)
    if field.metadata.get("spelt") == "integer where whole" and value and value == int(value):
        return int(value)
    return value
