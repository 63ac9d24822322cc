"""Where things lie, and how files are written so that a kill or a full disk loses nothing."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from snt_core.common.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]


def is_checkout() -> bool:
    """Whether the package lies in its project, and was not installed without it."""
    return any((PROJECT / name).is_file() for name in ("pyproject.toml", "_toc.yml"))


def checkout(what: str = "this") -> Path:
    """Return the project's folder.

    Raises:
        UserError: the package was installed without it, and `what` needs what lies there.
    """
    if not is_checkout():
        raise UserError(
            f"{what} needs the project's files, and snt_core was installed without them in "
            f"{PROJECT}; clone the repository and use 'make book' or 'pip install -e .[book]' in it"
        )
    return PROJECT


def place(what: str, text: str | Path) -> Path:
    """Return the path that a user wrote, absolute and with `~` replaced.

    Raises UserError for one that no file can have; `what` names it.
    """
    try:
        path = Path(text).expanduser().resolve()
        path.exists()  # a name that is too long is told here
        str(path).encode()  # notebooks and pages name it in UTF-8
    except OSError as error:
        raise UserError(f"{what} is '{text}': {(error.strerror or str(error)).lower()}") from error
    except (RuntimeError, ValueError) as error:  # no such user, a null character
        raise UserError(f"{what} is '{text}', which is no path: {error}") from error
    return path


def named_folder(what: str, text: str | Path) -> Path:
    """Return a folder that a user named, whether it exists or not.

    Raises UserError where something else is there, or stands in its way.
    """
    path = place(what, text)
    there = _nearest(path)
    if not there.is_dir():
        raise UserError(f"{what} is '{text}', but {there} is a file; name a folder")
    if not os.access(there, os.R_OK | os.X_OK):
        raise UserError(f"{what} is '{text}', but {there} may not be read; change its rights")
    return path


def require_writable(what: str, path: Path) -> None:
    """Raise UserError unless the folder `path`, or the one it would be made in, takes files."""
    there = _nearest(path)
    try:
        # by trying: rights say nothing to root, nor of a file system that is read-only
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"{what} {path} cannot be written ({there}: {reason}); name another place"
        ) from error


def _nearest(path: Path) -> Path:
    """Return the path itself, or the nearest one above it that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def _folder(variable: str, default: str) -> Path:
    if value := os.environ.get(variable):
        return named_folder(variable, value)
    return (checkout(f"a command without {variable}") / default).resolve()


def pin_environment() -> None:
    """Make the folders that the environment names absolute, for kernels that run elsewhere."""
    for variable in ("SNT_DATA_DIR", "SNT_CACHE_DIR", "SNT_STORE"):
        if value := os.environ.get(variable):
            os.environ[variable] = str(named_folder(variable, value))


def data_dir() -> Path:
    """Return where data sets are looked for: `SNT_DATA_DIR`, else the project's `data/`."""
    return _folder("SNT_DATA_DIR", "data")


def checkpoint_file(name: str) -> Path | None:
    """Return the user's copy of a checkpoint, `SNT_DATA_DIR/checkpoints/NAME.safetensors`."""
    file = data_dir() / "checkpoints" / f"{name}.safetensors"
    if file.exists() and not file.is_file():
        raise UserError(f"{file} is no file; remove it, or put the checkpoint there")
    return file if file.exists() else None


def cache_dir() -> Path:
    """Return where decoded data sets and compiled kernels are kept.

    That is `SNT_CACHE_DIR`, else the project's `data/cache`, else the user's folder for caches:
    the methods are used without the project, too.
    """
    if is_checkout() or os.environ.get("SNT_CACHE_DIR"):
        return _folder("SNT_CACHE_DIR", "data/cache")
    for folder in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(folder):
            return Path(folder) / "snt-core"
    return Path(tempfile.gettempdir()) / "snt-core"  # a user without a home


def store_dir() -> Path:
    """Return where records and weights lie: `SNT_STORE`, else the project's `data/`."""
    return _folder("SNT_STORE", "data")


def paper_dir() -> Path:
    """Return the folder of the paper's own numbers and claims."""
    return checkout("the paper's numbers") / "data" / "paper"


def atomic_write(path: Path, content: bytes) -> None:
    """Write whole or not at all: to a temporary neighbour, synced, then renamed over `path`.

    Raises OSError, which names `path`, where it cannot be written; what was there stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _temporary(path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)  # before the lock goes
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _temporary(path: Path) -> tuple[int, str]:
    """Return a new neighbour of `path`, open and locked, so that `sweep` leaves it alone."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # swept away before it was locked


def restored(path: Path, before: str) -> str:
    """Return the command that restores a file from git, after `before`; empty where git has none.

    It can be pasted as it stands, whatever the path holds.
    """
    command = ["git", "-C", str(path.parent), "ls-files", "--error-unmatch", "--", path.name]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:  # no git, or no such folder
        return ""
    quoted = [shlex.quote(str(part)) for part in (path.parent, path.name)]
    return "" if done.returncode else f"{before}git -C {quoted[0]} checkout -- {quoted[1]}"


# what `mkstemp` makes of the names that are written here
TEMPORARY = re.compile(
    r"\..+\.(json|safetensors|pt|txt|ipynb|key|html|pdf|so|sha256)\.[a-z0-9_]{8}"
)


def sweep(*folders: Path) -> None:
    """Remove the temporary files in `folders` whose writers were killed; others are locked."""
    for folder in folders:
        for path in folder.glob(".*"):
            if TEMPORARY.fullmatch(path.name):
                with suppress(OSError), open(path, "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
