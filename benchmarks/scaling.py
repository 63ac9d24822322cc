"""The wall time of a grid of runs with 1, 2 and 4 workers, in turn, each in a store of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row, all_cores
from snt_core.common.files import PROJECT

SNT = [sys.executable, "-c", "from snt_core.cli import main; main()"]
GRID = ["run", "--profile", "smoke", "--only", "table4,figure5", "--seeds", "0"]
WORKERS = (1, 2, 4)


def rows(log: Callable[[str], None]) -> list[Row]:
    """A row for each number of workers; the speed-up is over one worker."""
    found: list[Row] = []
    for count in WORKERS:
        seconds, runs = _grid(count)
        log(f"{runs} runs with {count} workers: {seconds:.1f} s")
        alone = found[0].ours if found else seconds
        found.append(
            Row(
                work=f"smoke-grid-{count}",
                ours=seconds,
                peer=None,
                unit="s",
                runs=1,
                less_is_better=True,
                also={"workers": count, "grid": runs, "speed_up": round(alone / seconds, 2)},
            )
        )
    return found


def _grid(workers: int) -> tuple[float, int]:
    """Seconds of the command from its start to its end, and the records that it left."""
    with TemporaryDirectory() as store:
        started = time.perf_counter()
        subprocess.run(
            [*SNT, *GRID, "--workers", str(workers)],
            env={**os.environ, "SNT_STORE": store},
            cwd=PROJECT,
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=all_cores,  # though this process has one
        )
        seconds = time.perf_counter() - started
        return seconds, len(list(Path(store).glob("records/*/*.json")))
