"""Packages that only what leaves this one needs."""

from __future__ import annotations

import importlib
from types import ModuleType


def required(*names: str) -> list[ModuleType]:
    """Return these packages, imported.

    Raises:
        ImportError: one of them is missing; how to get it is told.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        missing = error.name or names[0]
        raise ImportError(f'{missing} is missing: pip install "snt-core[export]"') from error
