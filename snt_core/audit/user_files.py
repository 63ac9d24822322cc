"""A user's own Python file: `FILE.py:NAME`. What it raises is told in a line, with its line."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from snt_core.common.errors import UserError, unknown
from snt_core.common.files import place


@dataclass(frozen=True)
class Named:
    """The object `name` of a user's file, not yet called."""

    file: Path
    name: str
    value: Any

    @property
    def words(self) -> str:
        return f"{self.file.name}:{self.name}"

    @property
    def digest(self) -> str:
        """SHA-256 of the file's text: other code may compute something else of equal weights."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def made(self) -> Any:
        """Return the object, or what it returns where it is a function or a class."""
        is_net = hasattr(self.value, "state_dict") and not isinstance(self.value, type)
        if is_net or not callable(self.value):
            return self.value
        return blaming(self.file, lambda: self.value())


def is_file_word(words: str) -> bool:
    """Whether words mean an object of a Python file."""
    return words.partition(":")[0].endswith(".py") or ".py:" in words


def named(option: str, words: str) -> Named:
    """Return the object that `FILE.py:NAME` names. The file is run, with the user's rights.

    Raises UserError: no such file or name, or the file raises; the message names the line.
    """
    path, _, name = words.rpartition(":")
    if not path or not name.isidentifier():
        raise UserError(f"{option} is '{words}'; write FILE.py:NAME, such as net.py:make")
    file = place(option, path)
    if not file.is_file():
        raise UserError(f"{option} is '{words}', but there is no file {file}")
    module = _loaded(file)
    if not hasattr(module, name):
        public = [
            key
            for key, value in vars(module).items()
            if not key.startswith("_") and not isinstance(value, ModuleType)
        ]
        raise unknown(f"name in {file.name}", name, public)
    return Named(file, name, getattr(module, name))


_modules: dict[Path, ModuleType] = {}


def _loaded(file: Path) -> ModuleType:
    if file in _modules:
        return _modules[file]
    # a name of its own, so that no module of ours or of a package is taken for it
    title = f"snt_audited_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(title, file)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module  # dataclasses and pickles look for it there
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # for the files beside it
    loader = spec.loader
    blaming(file, lambda: loader.exec_module(module))
    _modules[file] = module
    return module


def blaming(file: Path, call: Callable[[], Any]) -> Any:
    """Return what `call` returns; what it raises becomes one line that names the file's own line.

    SystemExit too: a script that parses its arguments would end this process with no word.
    """
    try:
        return call()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{_where(file, error)}: {in_a_line(error)}; mend the file") from error


def in_a_line(error: BaseException) -> str:
    """Return an error's type and the first line of what it says."""
    said = (str(error).strip().splitlines() or ["no reason given"])[0]
    return f"{type(error).__name__}: {said[:300]}"


def _where(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file} line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    return f"{file} line {lines[-1]}" if lines else str(file)
