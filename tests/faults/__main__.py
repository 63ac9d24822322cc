"""`make torture`: every fault, often, as a table.

`python -m tests.faults [TRIES] [PART OF A NAME]`; ends with 1 if anything was lost or wrong.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import flips
from tests.faults.catalogue import Tally, table

FAULTS = [*flips.FAULTS]


def main(tries: int = 200, part: str = "") -> int:
    found: dict[str, tuple[Tally, float]] = {}
    for fault in (one for one in FAULTS if part in one.name):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            tally = fault.inject(Path(folder), tries)
        found[fault.name] = tally, time.monotonic() - started
        print(f"{fault.name}: done", file=sys.stderr)
    print(table(found))
    return int(any(tally.lost or tally.wrong for tally, _ in found.values()))


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(int(words[0]) if words else 200, *words[1:2]))
