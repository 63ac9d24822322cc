"""Numbers that a caller gives, checked before any work: what is none is refused in a line."""

from __future__ import annotations

import operator
from typing import Any


def require_whole(**given: Any) -> None:
    """Raise ValueError unless each argument is a whole number, as of Python or NumPy."""
    for name, value in given.items():
        try:
            if isinstance(value, bool):
                raise TypeError
            operator.index(value)
        except (TypeError, RuntimeError) as error:  # torch raises either
            said = " ".join(repr(value).split())
            raise ValueError(f"{name} is {said}; it must be a whole number") from error


def require_number(**given: Any) -> None:
    """Raise ValueError unless each argument is a number, as of Python, NumPy or torch."""
    for name, value in given.items():
        try:
            if isinstance(value, bool | str | bytes):
                raise TypeError
            float(value)
        except (TypeError, ValueError, RuntimeError) as error:  # torch raises each of them
            said = " ".join(repr(value).split())
            raise ValueError(f"{name} is {said}; it must be a number") from error
