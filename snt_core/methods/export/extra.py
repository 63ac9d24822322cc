"""Packages of the extra ``export``, imported when they are first needed."""

from __future__ import annotations

import importlib
from types import ModuleType


def required(*names: str) -> list[ModuleType]:
    """Return these packages.

    Raises:
        ImportError: one of them is missing; how to get it is told.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise ImportError(
            f'{error.name or names[0]} is missing: pip install "snt-core[export]"'
        ) from error
