"""The whole book, live at profile smoke and from records; `snt status` and `snt run` at rest."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Row, all_cores
from snt_core.common.files import PROJECT, store_dir
from snt_core.runs.store import Store, open_store

SNT = [sys.executable, "-c", "from snt_core.cli import main; main()"]
ASKED = ["run", "--profile", "cifar", "--only", "table4", "--seeds", "0"]
RUNS = 5


def rows(log: Callable[[str], None]) -> list[Row]:
    cores = {"runs": 1, "unit": "s", "peer": None, "less_is_better": True}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        shutil.rmtree(PROJECT / "_build" / "smoke", ignore_errors=True)
        live = _seconds(["book", "--profile", "smoke"], Path(folder))
    log(f"book, live at smoke: {live:.1f} s")
    found.append(Row(work="book-smoke", ours=live, **cores))

    _seconds(["book"], store_dir())
    warm = _seconds(["book"], store_dir())
    shutil.rmtree(PROJECT / "_build" / "published" / "executed", ignore_errors=True)
    anew = _seconds(["book"], store_dir())
    log(f"published edition: {warm:.1f} s, every chapter executed anew {anew:.1f} s")
    found.append(
        Row(work="book-warm", ours=warm, also={"every_chapter_anew": round(anew, 1)}, **cores)
    )

    by_records = {}
    for count in (10, 100, 500):
        with _store_of(count) as folder:
            status = _median(["status"], folder)
            nothing = _median(ASKED, folder)
        by_records[str(count)] = {"status": round(status, 2), "run_at_rest": round(nothing, 2)}
        log(f"{count} records: {by_records[str(count)]}")
    found.append(
        Row(
            work="status-500",
            ours=by_records["500"]["status"],
            also={"by_records": by_records},
            **{**cores, "runs": RUNS},
        )
    )
    return found


def _seconds(words: list[str], store: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [*SNT, *words],
        env={**os.environ, "SNT_STORE": str(store)},
        cwd=PROJECT,
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=all_cores,  # though this process has one
    )
    return time.perf_counter() - started


def _median(words: list[str], store: Path) -> float:
    return statistics.median(_seconds(words, store) for _ in range(RUNS))


@contextmanager
def _store_of(count: int) -> Iterator[Path]:
    """A store of so many records: the published ones under other seeds, and what is asked for."""
    published = open_store()
    records = [r for r in published.records("cifar") if r.spec.kind in ("train", "ptq")]
    records.sort(key=lambda r: r.spec.kind != "train")
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name))
        for i in range(count):
            record = records[i % len(records)]
            spec = replace(record.spec, seed=record.spec.seed + 1000 * (i // len(records)))
            store.put(replace(record, spec=spec))
        (store.folder / "weights").symlink_to(published.folder / "weights")
        for record in published.records("cifar"):  # what is asked for is always there
            store.put(record)
        yield store.folder
