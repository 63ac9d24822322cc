"""Check an exported crate: `python3 verify.py` in its folder; Python 3.8 or newer is enough.

Ends with 0 if every file is there and whole. Otherwise it names each one that is damaged or
missing, and ends with 1. Files that were added since, as by building the book here, are counted.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

CHECKSUMS = "manifest-sha256.txt"  # in the format of `sha256sum --check`
METADATA = "ro-crate-metadata.json"


def digest(file: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    found = hashlib.sha256()
    with open(file, "rb") as content:
        for piece in iter(lambda: content.read(1 << 20), b""):
            found.update(piece)
    return found.hexdigest()


def listed(folder: Path) -> dict[str, str]:
    """Return the checksum of each file that the list names. Raises ValueError if it is no list."""
    sums = {}
    for line in (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines():
        value, _, name = line.partition("  ")
        if len(value) != 64 or not name:
            raise ValueError(f"{CHECKSUMS} has a line without checksum and name: '{line}'")
        sums[name] = value
    if not sums:
        raise ValueError(f"{CHECKSUMS} is empty")
    return sums


def problems(folder: Path) -> list[str]:
    """Return a line for each file that is missing or damaged."""
    lines = []
    for name, value in listed(folder).items():
        file = folder / name
        if not file.is_file():
            lines.append(f"missing: {name}")
        elif digest(file) != value:
            lines.append(f"damaged: {name}")
    return lines


def undescribed(folder: Path) -> list[str]:
    """Return a line for each file or folder that the metadata names and that is not there."""
    graph = json.loads((folder / METADATA).read_text(encoding="utf-8"))["@graph"]
    names = [entity["@id"] for entity in graph if {"File", "Dataset"} & _types(entity)]
    local = [unquote(name) for name in names if "://" not in name and not name.startswith("#")]
    return [f"described but missing: {name}" for name in local if not (folder / name).exists()]


def _types(entity: dict[str, Any]) -> set[str]:
    kinds = entity["@type"]
    return {kinds} if isinstance(kinds, str) else set(kinds)


def added(folder: Path) -> set[str]:
    """Return the files that the list does not name."""
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return there - set(listed(folder)) - {CHECKSUMS}


def main() -> int:
    """Check the folder that this script lies in; returns the exit code."""
    folder = Path(__file__).resolve().parent
    try:
        lines = problems(folder) or undescribed(folder)
        more = len(added(folder))
        count = len(listed(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"the crate cannot be checked: {ascii(str(error))[1:-1]}")
        return 1
    for line in lines:
        print(ascii(line)[1:-1])  # the name of a file may hold what a terminal obeys
    if lines:
        print(f"{len(lines)} of {count} files are not as they were exported")
        return 1
    print(f"all {count} files are whole" + (f"; {more} were added since" if more else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
