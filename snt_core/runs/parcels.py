"""What a run that travels needs of a store, and what it leaves: bytes by their files' names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from snt_core.common.files import atomic_write
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store

Parcel = dict[str, bytes]


def needed(spec: Spec, store: Store) -> Parcel:
    """Return what `spec` is carried out with: its net's weights and record, its own checkpoint."""
    net = [] if spec.net is spec else _kept(spec.net, store)
    return _packed(store.folder, [*net, *store.run_dir(spec).glob("*")])


def left(spec: Spec, store: Store) -> Parcel:
    """Return what a run of `spec` left: weights first, since a record says that they are there."""
    own = _kept(spec, store) if spec.net is spec else _records(spec, store)
    return _packed(store.folder, [*own, *store.run_dir(spec).glob("failure.txt")])


def unpack(parcel: Parcel, store: Store) -> None:
    """Write what a parcel holds into a store, each file whole or not at all.

    Raises ValueError for a name that leads out of the store.
    """
    for name, content in parcel.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"a run sent the file '{name}', which is none of a store")
        atomic_write(store.folder / path, content)


def _kept(net: Spec, store: Store) -> list[Path]:
    weights = store.weights_path(net)
    return [weights, weights.with_suffix(".sha256"), *_records(net, store)]


def _records(spec: Spec, store: Store) -> list[Path]:
    record = store.get(spec)
    return [store.record_path(record)] if record else []


def _packed(folder: Path, paths: Iterable[Path]) -> Parcel:
    found = [path for path in paths if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
