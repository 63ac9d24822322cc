"""Timing in turn, what the machine can do at most, and the rows that are written."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from snt_core.common.files import PROJECT, atomic_write
from snt_core.runs.provenance import git_state
from snt_core.training.engine import cpu_name, keep_memory

RESULTS = Path(__file__).with_name("results")
# that this process may use before it keeps itself to one
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. `ratio` above 1 means that ours is better; `peer` is None where none is.

    `also` holds what was measured beside it, `limits` what the machine can do at most.
    """

    work: str
    ours: float
    peer: float | None
    unit: str
    runs: int
    less_is_better: bool = False
    also: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        if self.peer is None:
            return None
        return self.peer / self.ours if self.less_is_better else self.ours / self.peer


def write(area: str, rows: list[Row], others: float) -> Path:
    """`results/AREA.json`, a list of rows; what was not measured this time stays.

    `others` are the cores that other work kept busy just before.
    """
    state = git_state()
    commit = f"{(state['commit'] or 'unknown')[:10]}{'+changes' if state['dirty'] else ''}"
    body = []
    for row in rows:
        facts = asdict(row)
        facts.pop("less_is_better")
        body.append({**facts, "ratio": row.ratio, "machine": machine(), "commit": commit})
        body[-1] |= {"limits": limits(), "others_before": round(others, 2)}
    path = RESULTS / f"{area}.json"
    old = json.loads(path.read_text()) if path.exists() else []
    before = {row["work"]: row["also"] for row in old}
    for row in body:
        row["also"] = {**before.get(row["work"], {}), **row["also"]}
    measured = {row["work"] for row in body}
    body = [row for row in old if row["work"] not in measured] + body
    atomic_write(path, (json.dumps(body, indent=1) + "\n").encode())
    return path


def machine() -> str:
    return f"{cpu_name()}, {os.cpu_count()} cores, torch {torch.__version__}"


def one_core() -> None:
    """This process on one core, with one thread, as a run of ours is."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    keep_memory()


def all_cores() -> None:
    """This process on every core again; its threads stay as they are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, CORES)


def in_turn(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round; all take part in each, in an order that turns, after one untimed."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            contenders[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def quotient(seconds: Mapping[str, list[float]], above: str, below: str) -> float:
    """Median over the rounds of one contender's time by another's."""
    pairs = zip(seconds[above], seconds[below], strict=True)
    return statistics.median(a / b for a, b in pairs)


@cache
def limits() -> dict[str, float]:
    """Of one core: matrix product in GFLOP/s, and a copy in GB/s (read and written)."""
    found = {}
    for name, dtype in (("gemm_fp32_gflops", torch.float32), ("gemm_bf16_gflops", torch.bfloat16)):
        a, b = torch.randn(1024, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
        seconds = medians(in_turn({"gemm": lambda a=a, b=b: a @ b}, 20))["gemm"]
        found[name] = round(2 * 1024**3 / seconds / 1e9, 1)
    a = torch.randn(2**25)
    b = torch.empty_like(a)
    seconds = medians(in_turn({"copy": lambda: b.copy_(a)}, 10))["copy"]
    found["copy_gb_per_s"] = round(2 * a.nbytes / seconds / 1e9, 1)
    return found


def children(module: str, words: list[list[str]]) -> list[dict[str, Any]]:
    """Run `python -m MODULE WORDS` side by side, each pinned to a core; their last lines' JSON."""
    running = [
        subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-m", module, *these],
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        for core, these in zip(CORES, words)
    ]
    return [json.loads(child.communicate()[0].splitlines()[-1]) for child in running]
