"""Files that carry the SHA-256 of their content in front of it, so that no changed byte is used.

A file is the line `sha256 <64 hex digits>` and then the content as it is. Other formats' own
checksums leave gaps: a zip's are not looked at by every reader, and safetensors has none.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from snt_core.common.files import atomic_write

HEAD = len("sha256 ") + 64 + len("\n")


class Damaged(Exception):
    """An error: a sealed file whose content is not what was written."""


def write_sealed(path: Path, content: bytes) -> None:
    """Write `content` with its digest in front, whole or not at all."""
    atomic_write(path, _head(content) + content)


def read_sealed(path: Path) -> bytes:
    """Return the content that `write_sealed` wrote.

    Raises:
        Damaged: a byte of the file is another, it was never sealed, or it is no file.
        OSError: as `open` does.
    """
    if os.path.lexists(path) and not path.is_file():  # a pipe would be waited for
        raise Damaged("it is no file")
    whole = path.read_bytes()
    head, content = whole[:HEAD], whole[HEAD:]
    if head != _head(content):
        raise Damaged("its content does not match its digest")
    return content


def _head(content: bytes) -> bytes:
    return f"sha256 {hashlib.sha256(content).hexdigest()}\n".encode()
