"""`make torture`: every fault, often, as a table.

`python -m tests.faults [SHARE] [PART ...]`: a share of the usual tries, of some parts or of all;
ends with 1 if anything was lost, wrong or blocked.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from tests.faults import disk, flips, kills, shared, signals
from tests.faults.catalogue import Row, table

PARTS: dict[str, tuple[Callable[[int], Iterator[Row]], int]] = {  # with their usual tries
    "flips": (flips.rows, 200),
    "kills": (kills.rows, 50),
    "signals": (signals.rows, 5),
    "disk": (disk.rows, 1),
    "shared": (shared.rows, 20),
}


def main(share: float, parts: Sequence[str]) -> int:
    found: list[tuple[Row, float]] = []
    for part in parts or PARTS:
        rows, tries = PARTS[part]
        started = time.monotonic()
        with contextlib.redirect_stderr(io.StringIO()):  # what commands say is looked at there
            for row in rows(max(1, round(share * tries))):
                found.append((row, time.monotonic() - started))
                started = time.monotonic()
                print(table(found[-1:]).splitlines()[1], flush=True)
    print(f"\n{table(found)}")
    return int(not all(row.harmless for row, _ in found))


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(float(words[0]) if words else 1.0, words[1:]))
