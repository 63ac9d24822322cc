"""Where, when and with what a run happened."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any

import torch

import snt_core
from snt_core.common.files import PROJECT
from snt_core.training.engine import Engine, peak_memory


def git_state() -> dict[str, Any]:
    """Return the project's commit, and whether the code that computes differs from it."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(PROJECT), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        changed = git("status", "--porcelain", "--", "snt_core")
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": None if changed is None else bool(changed),
        }
    except FileNotFoundError:
        return {"commit": None, "dirty": None}


@cache
def _git_state() -> dict[str, Any]:
    # Once per process: the code that a process runs is the code that it started with.
    return git_state()


def _cpu_seconds() -> float:
    """Return the seconds of the processor that this process has had, and those that it started."""
    return sum(os.times()[:4])


class RunClock:
    """Started with a run; `provenance` closes it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()
        self.cpu_clock = _cpu_seconds()
        _git_state()
        if engine.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    @property
    def session(self) -> dict[str, Any]:
        """What this process knows as it starts: code, versions, device, time."""
        return {
            **_git_state(),
            "snt_core": snt_core.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "device": self.engine.name,
            "started": self.started.isoformat(timespec="seconds"),
        }

    def provenance(
        self, *, earlier: float, interrupted: list[dict[str, Any]], **facts: Any
    ) -> dict[str, Any]:
        """Return `facts` of the run and those that this clock knows.

        `earlier` is the work, in seconds, of the processes that were interrupted before this one;
        `interrupted` are their sessions.
        """
        here = time.monotonic() - self.clock
        # earlier processes, of whom the seconds alone are known, had the processor as this one has
        cpu = (_cpu_seconds() - self.cpu_clock) * (1 + earlier / max(here, 1e-3))
        return {
            **self.session,
            "interrupted": interrupted,
            "threads": torch.get_num_threads(),
            **facts,
            "seconds": round(here + earlier, 2),
            "cpu_seconds": round(cpu, 2),
            "peak_memory_mb": round(peak_memory(self.engine.device) / 2**20),
        }
