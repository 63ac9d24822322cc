"""Records, weights and states under way, in one folder.

records/<profile>/<kind>-<id>.json   what a run found; small, committed
weights/<id>.safetensors             what a training left, and its SHA-256 as <id>.sha256
runs/<id>/                           checkpoint and progress of a run under way
locks/<id>.lock                      held by the process that has the run under way
quarantine/                          files that failed their check, never used again
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snt_core.common.files import atomic_write, named_folder, store_dir, sweep
from snt_core.common.locks import held_lock, is_locked
from snt_core.common.quarantine import Stamp, is_file, set_aside, stamp
from snt_core.common.sealed import Damaged, read_sealed, write_sealed
from snt_core.common.terminal import say_once
from snt_core.runs.identity import record_name, run_id
from snt_core.runs.reading import read_record
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec
from snt_core.runs.weight_files import WeightFiles

if TYPE_CHECKING:
    from torch import Tensor


class Store:
    """A folder of runs. Several processes may read and write it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._weights = WeightFiles(folder)
        # a record is read once, as long as its file stays the same
        self._known: dict[Path, tuple[Stamp | None, Record | None]] = {}

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        """Another process reads the folder for itself."""
        return Store, (self.folder,)

    # records ---------------------------------------------------------------------------------

    def get(self, spec: Spec) -> Record | None:
        """Return the record of `spec`, under whatever profile it was run, or None."""
        for path in sorted(self.folder.glob(f"records/*/{record_name(spec)}.json")):
            if (record := self._read(path)) and not self._is_outdated(record, self._net(record)):
                return record
        return None

    def put(self, record: Record) -> Path:
        """Write a record whole or not at all; returns its file."""
        path = self.record_path(record)
        atomic_write(path, record.to_json().encode())
        return path

    def record_path(self, record: Record) -> Path:
        """Return where a record lies."""
        return self.folder / "records" / record.profile / f"{record.name}.json"

    def names(self) -> set[str]:
        """Return `<kind>-<id>` of every record that counts."""
        return {record.name for record in self.records()}

    def records(self) -> list[Record]:
        """Return every record that counts. What is wrong with others is said (see `reading`)."""
        read = map(self._read, sorted(self.folder.glob("records/*/*.json")))
        found = [record for record in read if record]
        nets: dict[str, Record] = {}
        for record in found:
            if record.spec.leaves_weights:
                nets.setdefault(record.name, record)
        return [r for r in found if not self._is_outdated(r, nets.get(record_name(r.spec.net)))]

    def _read(self, path: Path) -> Record | None:
        seen = stamp(path)
        known = self._known.get(path)
        if seen is None or known is None or known[0] != seen:
            known = self._known[path] = seen, read_record(path, self.folder)
        return known[1]

    def _net(self, record: Record) -> Record | None:
        """Return the record of a measurement's net."""
        return None if record.spec.net is record.spec else self.get(record.spec.net)

    def _is_outdated(self, record: Record, trained: Record | None) -> bool:
        """Whether a measurement read other weights than its net is recorded with, in `trained`.

        The net was trained again then, on another machine say, and numbers of two nets would
        stand under one id. Where the training's record has a digest and the measurement's has none,
        that one is older: it was made before records had any. The other way round, and with no
        digest beside the weights either, the record may be copied from a store where the net was
        trained again. A training that diverged left no net to measure.
        """
        net = record.spec.net
        if net is record.spec:
            return False
        measured = record.provenance.get("weights_sha256")
        left = (trained.provenance.get("weights_sha256") or "") if trained else ""
        if measured and not left:
            left = self._weights.kept(run_id(net))
        diverged = trained is not None and (trained.status, record.status) == ("diverged", "done")
        known = bool(left) or trained is not None
        if outdated := diverged or (known and left != (measured or "")):
            again = "and diverged" if diverged else "since; 'snt run' measures it anew"
            say_once(
                f"{self.record_path(record)} is left out: its net {run_id(net)} was trained again "
                f"{again}"
            )
        return outdated

    # weights ---------------------------------------------------------------------------------

    def weights_path(self, spec: Spec) -> Path:
        """Return where the weights that `spec` leaves lie, whether they are there or not."""
        return self._weights.path(run_id(spec))

    def put_weights(self, spec: Spec, state: dict[str, Tensor]) -> None:
        """Write a net's state dict whole or not at all, and its digest."""
        self._weights.write(run_id(spec), state)

    def get_weights(self, spec: Spec) -> dict[str, Tensor]:
        """Return a net's state dict. Raises UserError if it is missing, or damaged: set aside."""
        return self._weights.read(run_id(spec), self._recorded(spec))

    def has_weights(self, spec: Spec) -> bool:
        """Whether a net's weights are there and sound. Damaged ones are set aside and named."""
        return self._weights.sound(run_id(spec), self._recorded(spec))

    def weights_digest(self, spec: Spec) -> str | None:
        """Return the SHA-256 of the weights that a run left just now, or measured; None without."""
        kept = self._weights.kept(run_id(spec.net))
        return (kept if spec.net is spec else self._recorded(spec.net) or kept) or None

    def lend_weights(self, spec: Spec, other: Store) -> None:
        """Let another store have a net's weights, by a link. They are there and sound."""
        target = other.weights_path(spec)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(self.weights_path(spec).resolve(), target)
        other._weights.keep(run_id(spec), self._recorded(spec) or self._weights.kept(run_id(spec)))

    def _recorded(self, net: Spec) -> str:
        record = self.get(net)
        return (record.provenance.get("weights_sha256") or "") if record else ""

    # under way -------------------------------------------------------------------------------

    def run_dir(self, spec: Spec) -> Path:
        """Return the folder of a run under way: checkpoint and progress."""
        return self.folder / "runs" / run_id(spec)

    def is_begun(self, spec: Spec) -> bool:
        """Whether an interrupted process left something to go on from."""
        return any(self.run_dir(spec).glob("checkpoint*"))

    def require_begun(self, spec: Spec) -> None:
        """Set aside what a run under way left and cannot be gone on from. The caller has the lock.

        Without the rounds that were finished, the state of a later one leads nowhere. A link in the
        folder's place is removed, since what a run writes stays in its store.
        """
        if self.run_dir(spec).is_symlink():
            self.run_dir(spec).unlink()
            say_once(f"{self.run_dir(spec)} was a link out of the store, and was removed")
        files = sorted(self.run_dir(spec).glob("checkpoint*"))
        found = {path: what for path in files if (what := _damage(path))}
        if any(path.suffix == ".safetensors" for path in found):
            found = dict.fromkeys(files, "the rounds before it are damaged") | found
        for path, what in found.items():
            set_aside(path, self.folder, what, f"{record_name(spec)} starts anew without it")

    def begin_session(self, spec: Spec, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Note `facts` of the process that now carries out the run.

        Returns those of the processes before it, whose checkpoint it goes on from, if any.
        """
        path = self.run_dir(spec) / "sessions.json"
        earlier, then = [], "the record will not name its processes"
        if is_file(path, self.folder, then) and self.is_begun(spec):
            try:
                earlier = json.loads(read_sealed(path))
            except Damaged as error:
                set_aside(path, self.folder, str(error), then)
        write_sealed(path, json.dumps([*earlier, facts]).encode())
        return earlier

    @contextmanager
    def lock(self, spec: Spec) -> Iterator[bool]:
        """Whether this process now owns the run; the owner's death, however sudden, frees it."""
        with held_lock(self._lock_path(spec)) as mine:
            yield mine

    def is_running(self, spec: Spec) -> bool:
        """Whether a living process owns the run."""
        return is_locked(self._lock_path(spec))

    def _lock_path(self, spec: Spec) -> Path:
        # not in the run's folder, which its owner removes while others come to look
        return self.folder / "locks" / f"{run_id(spec)}.lock"

    def put_progress(self, spec: Spec, done: int, total: int) -> None:
        """How far a run is, for any process to see. Best effort: not synced."""
        path = self.run_dir(spec) / "progress.json"
        # a full disk is told by what has to be kept
        with suppress(OSError), open(path, "w", encoding="utf-8", opener=_in_place) as file:
            json.dump({"done": done, "total": total}, file)

    def put_failure(self, spec: Spec, trace: str) -> None:
        """Keep the trace of a run that failed, for whoever mends it. Best effort."""
        with suppress(OSError):
            atomic_write(self.run_dir(spec) / "failure.txt", trace.encode())

    def progress(self, spec: Spec) -> float:
        """Return the share of a run under way that is done, in [0, 1]."""
        try:
            path = self.run_dir(spec) / "progress.json"
            with open(path, encoding="utf-8", opener=_in_place) as file:
                state = json.load(file)
            return min(max(float(state["done"] / state["total"]), 0.0), 1.0)
        except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
            return 0.0  # nothing but what is shown depends on it

    def sweep(self) -> None:
        """Remove the temporary files of processes that were killed while they wrote here."""
        parts = ("records/*", "weights", "runs/*", "verified/*")
        sweep(*(folder for part in parts for folder in self.folder.glob(part)))

    def clear(self, spec: Spec) -> None:
        """Remove what only an unfinished run needs. The caller holds the lock."""
        shutil.rmtree(self.run_dir(spec), ignore_errors=True)


def open_store(place: str | Path = "") -> Store:
    """Return the store in `place`; if empty, that of `SNT_STORE`, else the project's `data/`.

    It is the same object for the same folder, so that a process reads each record once. Raises
    UserError where no folder can be.
    """
    return _of_folder(named_folder("the store", place) if place else store_dir())


_of_folder = cache(Store)


def _damage(path: Path) -> str:
    """Return what is wrong with a sealed file; empty if nothing is."""
    try:
        read_sealed(path)
    except Damaged as error:
        return str(error)
    return ""


def _in_place(path: str, flags: int) -> int:
    """Open a file and not what a link leads to; a pipe is not waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
