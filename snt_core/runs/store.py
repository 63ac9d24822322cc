"""Records, weights and states under way, in one folder.

records/<profile>/<kind>-<id>.json   what a run found; small, committed
weights/<id>.safetensors             what a training left
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snt_core.common.documents import read_json
from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write, named_folder, store_dir, sweep
from snt_core.common.locks import held_lock, is_locked
from snt_core.runs.identity import record_name, run_id
from snt_core.runs.kinds import spec_class
from snt_core.runs.record import Record
from snt_core.runs.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Store:
    """A folder of runs. Several processes may read and write it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # records ---------------------------------------------------------------------------------

    def get(self, spec: Spec) -> Record | None:
        """Return the record of `spec`, under whatever profile it was run, or None."""
        found = sorted(self.folder.glob(f"records/*/{record_name(spec)}.json"))
        return self._read(found[0]) if found else None

    def put(self, record: Record) -> Path:
        """Write a record whole or not at all; returns its file."""
        path = self.record_path(record)
        atomic_write(path, record.to_json().encode())
        return path

    def record_path(self, record: Record) -> Path:
        """Return where a record lies."""
        return self.folder / "records" / record.profile / f"{record.name}.json"

    def names(self) -> set[str]:
        """Return `<kind>-<id>` of every record, without reading them."""
        return {path.stem for path in self.folder.glob("records/*/*.json")}

    def records(self, profile: str = "*") -> list[Record]:
        """Return every record of a profile (default: of all) that today's schemas still read."""
        paths = sorted(self.folder.glob(f"records/{profile}/*.json"))
        return [record for path in paths if (record := self._read(path))]

    def _read(self, path: Path) -> Record | None:
        text = path.read_text(encoding="utf-8", errors="replace")
        if _superseded(text):
            return None
        try:
            record = Record.from_json(text)
            if record.name != path.stem:
                raise ValueError(f"its content belongs to {record.name}")
            return record
        except (ValueError, KeyError, UserError) as error:
            raise UserError(
                f"record {path} cannot be trusted ({error}); it {self._set_aside(path)}: "
                f"restore it with 'git checkout -- {path}', or run it again"
            ) from error

    def _set_aside(self, path: Path) -> str:
        """Move a file into quarantine, and return what was done with it."""
        aside = self.folder / "quarantine" / path.name
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, aside)
        except OSError as error:
            return f"cannot be set aside ({error.strerror})"
        return f"was set aside as {aside}"

    # weights ---------------------------------------------------------------------------------

    def weights_path(self, spec: Spec) -> Path:
        """Return where the weights that `spec` leaves lie, whether they are there or not."""
        return self.folder / "weights" / f"{run_id(spec)}.safetensors"

    def put_weights(self, spec: Spec, state: dict[str, Tensor]) -> None:
        from safetensors.torch import save

        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        atomic_write(self.weights_path(spec), save(plain, metadata={"id": run_id(spec)}))

    def get_weights(self, spec: Spec) -> dict[str, Tensor]:
        """Return a net's state dict. Raises UserError if missing, damaged or another run's."""
        with self._weights(spec, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def check_weights(self, spec: Spec) -> None:
        """Raise UserError as `get_weights` would, by the file's header and its length alone."""
        with self._weights(spec, "np"):
            pass

    @contextmanager
    def _weights(self, spec: Spec, framework: str) -> Iterator[Any]:
        from safetensors import SafetensorError, safe_open

        path = self.weights_path(spec)
        try:
            with safe_open(path, framework=framework) as file:
                owner = (file.metadata() or {}).get("id")
                if owner != run_id(spec):
                    raise UserError(f"weights {path} belong to run {owner}; remove the file")
                yield file
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"weights {path} are missing or damaged ({error}); remove the file if it is there, "
                f"and train {run_id(spec)} again with 'snt run'"
            ) from error

    # under way -------------------------------------------------------------------------------

    def run_dir(self, spec: Spec) -> Path:
        """Return the folder of a run under way: checkpoint and progress."""
        return self.folder / "runs" / run_id(spec)

    def is_begun(self, spec: Spec) -> bool:
        """Whether an interrupted process left something to go on from."""
        return any(self.run_dir(spec).glob("checkpoint*"))

    def check_begun(self, spec: Spec) -> None:
        """Raise UserError where finished rounds are kept that cannot be gone on from."""
        from safetensors import SafetensorError, safe_open

        for path in self.run_dir(spec).glob("*.safetensors"):
            try:
                with safe_open(path, framework="np"):
                    pass
            except (OSError, SafetensorError) as error:
                raise UserError(
                    f"{path} is damaged ({error}); remove it, and the run starts anew"
                ) from error

    def begin_session(self, spec: Spec, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Note `facts` of the process that now carries out the run.

        Returns those of the processes before it, whose checkpoint it goes on from, if any.
        """
        path = self.run_dir(spec) / "sessions.json"
        earlier = []
        if self.is_begun(spec) and path.exists():
            earlier = read_json(path)
        atomic_write(path, json.dumps([*earlier, facts]).encode())
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
        with suppress(OSError):  # a full disk is told by what has to be kept
            path.write_text(json.dumps({"done": done, "total": total}), encoding="utf-8")

    def put_failure(self, spec: Spec, trace: str) -> None:
        """Keep the trace of a run that failed, for whoever mends it. Best effort."""
        with suppress(OSError):
            atomic_write(self.run_dir(spec) / "failure.txt", trace.encode())

    def progress(self, spec: Spec) -> float:
        """Return the share of a run under way that is done, in [0, 1]."""
        try:
            state = json.loads((self.run_dir(spec) / "progress.json").read_text(encoding="utf-8"))
            return state["done"] / state["total"]
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            return 0.0

    def sweep(self) -> None:
        """Remove the temporary files of processes that were killed while they wrote here."""
        parts = ("records/*", "weights", "runs/*", "verified/*")
        sweep(*(folder for part in parts for folder in self.folder.glob(part)))

    def clear(self, spec: Spec) -> None:
        """Remove what only an unfinished run needs. The caller holds the lock."""
        shutil.rmtree(self.run_dir(spec), ignore_errors=True)


def open_store(place: str | Path = "") -> Store:
    """Return the store in `place`; if empty, that of `SNT_STORE`, else the project's `data/`.

    Raises UserError where no folder can be.
    """
    return Store(named_folder("the store", place) if place else store_dir())


def _superseded(text: str) -> bool:
    """Whether a record was written under an older schema of its kind; such a one is history."""
    try:
        body = json.loads(text)
        return body["schema"] < spec_class(body["kind"]).schema
    except (json.JSONDecodeError, KeyError, TypeError, UserError):
        return False
