"""Several processes on one store at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.catalogue import Row
from tests.faults.command import compare, finish, records, start, strays

RUN = "run --profile smoke --only table4 --workers {workers}"


def share(row: Row, place: Path, wanted, processes: int = 4) -> None:  # type: ignore[no-untyped-def]
    """Let `processes` make the same runs at once: each run is made by one of them, once."""
    log = place / "begun"
    place.mkdir(parents=True)
    crowd = [
        start(RUN.format(workers=1 + turn % 2), place, SNT_LOG=str(log))
        for turn in range(processes)
    ]
    for process in crowd:
        _, said = process.communicate(timeout=600)
        row.blocked += bool(process.returncode)
        if process.returncode:
            print(f"{row.fault}: {said}", flush=True)
    row.tries += 1
    row.lost += len(set(wanted) - compare(row, place, set(), wanted))
    begun = Counter(log.read_text().split())
    row.wrong += sum(count - 1 for count in begun.values())
    row.wrong += bool(strays(place / "store"))
    row.wrong += any((place / "store" / "runs").iterdir())


def rows(tries: int = 20) -> Iterator[Row]:
    """Yield one row."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        code, said = finish(RUN.format(workers=2), folder / "reference")
        if code:
            raise RuntimeError(said)
        wanted = records(folder / "reference")
        row = Row("4 processes on one store")
        for turn in range(tries):
            share(row, folder / f"place{turn}", wanted)
        yield row
