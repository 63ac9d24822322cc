"""Errors that a user's model or loss raises, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

KINDS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError)


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Turn what a user's code raises within it into a ValueError that begins with `what`.

    A ValueError is a line already. Memory that runs out is no fault of the code.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except KINDS as error:
        said = next(iter(str(error).strip().splitlines()), "")
        kind = type(error).__name__
        raise ValueError(f"{what}: {kind}: {said[:300]}" if said else f"{what}: {kind}") from error
