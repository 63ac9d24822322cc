"""Where things lie, and how files are written so that a kill or a full disk loses nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().resolve()


def pin_environment() -> None:
    """Make the folders that the environment names absolute, for kernels that run elsewhere."""
    for variable in ("SNT_DATA_DIR", "SNT_CACHE_DIR", "SNT_STORE"):
        if value := os.environ.get(variable):
            os.environ[variable] = str(Path(value).expanduser().resolve())


def data_dir() -> Path:
    """Return where data sets are looked for: `SNT_DATA_DIR`, else the project's `data/`."""
    return _folder("SNT_DATA_DIR", PROJECT / "data")


def checkpoint_file(name: str) -> Path | None:
    """Return the user's copy of a checkpoint, `SNT_DATA_DIR/checkpoints/NAME.safetensors`."""
    file = data_dir() / "checkpoints" / f"{name}.safetensors"
    return file if file.exists() else None


def cache_dir() -> Path:
    """Return where decoded data sets are kept: `SNT_CACHE_DIR`, else `data/cache`."""
    return _folder("SNT_CACHE_DIR", PROJECT / "data" / "cache")


def store_dir() -> Path:
    """Return where records and weights lie: `SNT_STORE`, else the project's `data/`."""
    return _folder("SNT_STORE", PROJECT / "data")


def paper_dir() -> Path:
    """Return the folder of the paper's own numbers and claims."""
    return PROJECT / "data" / "paper"


def atomic_write(path: Path, content: bytes) -> None:
    """Write whole or not at all: to a temporary neighbour, synced, then renamed over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
