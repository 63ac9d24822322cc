"""One whole audit of the example, which the tests of this folder look at."""

from __future__ import annotations

import pytest

from snt_core.audit.auditing import Audit, audit, store_of
from snt_core.audit.preparing import Asked
from snt_core.runs.budget import budget_of
from snt_core.runs.store import Store


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    """Where the audit `done` lies."""
    return store_of(Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def done(store) -> Audit:
    return audit(Asked(target="example"), store, budget_of("10m"))
