"""Chapters executed: ordinary papermill, a failure in one line, files whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import MappingProxyType
from typing import Any

from snt_core.book.chapters import Chapter, read_notebook
from snt_core.common.errors import RunsFailed, UserError, of_system
from snt_core.common.files import atomic_write
from snt_core.common.workers import Answer, Killed, Workers

KERNEL = "python3"
LEAVE = 2.0  # seconds that a kernel has to leave in: what it trains writes its checkpoint


class _Told:
    """A file of what a kernel writes to standard error: `notify` gets the lines of ours in it."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.notify = notify

    def write(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith("snt: "):
                self.notify(line.removeprefix("snt: "))

    def flush(self) -> None:
        """Do nothing: a line is told when it comes."""


def execute(
    chapter: Chapter,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    cwd: Path | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> Path:
    """Run `chapter` from top to bottom with `parameters` (see `request`), writing to `output`.

    Args:
        cwd: where its kernel runs; the notebook's own folder if not given.
        notify: gets what the chapter tells of its runs (see `terminal.say`), as it does.

    Raises:
        UserError: a cell failed; how far it came is beside `output`, as `*.failed.ipynb`.
    """
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    # this environment's kernel, not one of the same name that the user installed elsewhere
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_suffix(".failed.ipynb")
    try:
        # Through sockets in a folder of its own: kernels that start at once in several processes
        # may pick the same TCP port. A socket's path has 107 characters at most.
        with TemporaryDirectory(dir="/tmp" if len(gettempdir()) > 80 else None) as sockets:
            transport = {"transport": "ipc", "ip": f"{sockets}/kernel"}
            papermill.execute_notebook(
                chapter.file.resolve(),
                failed.resolve(),
                parameters=dict(parameters),
                kernel_name=KERNEL,
                language="python",  # which a notebook need not say
                cwd=(cwd or chapter.file.parent).resolve(),
                progress_bar=sys.stderr.isatty(),
                stderr_file=_Told(notify),
                extra_arguments=["--log-level=CRITICAL"],  # failures are told below, in one line
                config=Config(KernelManager={**transport, "shutdown_wait_time": LEAVE}),
            )
    except PapermillExecutionError as error:
        reason = (error.evalue.strip().splitlines() or [""])[-1]
        if error.ename in (UserError.__name__, RunsFailed.__name__):  # a whole sentence
            raise UserError(f"{reason} (see {failed})") from error
        raise UserError(
            f"{chapter.name} failed in cell {error.cell_index}: {error.ename}: {reason}"
            f" (see {failed})"
        ) from error
    except DeadKernelError as error:
        raise UserError(
            f"{chapter.name} failed: its kernel died, out of memory perhaps (see {failed})"
        ) from error
    except NoSuchKernel as error:
        raise UserError(
            f"there is no Jupyter kernel '{KERNEL}' in this environment; 'make book' makes it, as "
            f"does 'python -m ipykernel install --sys-prefix --name {KERNEL}'"
        ) from error
    notebook = _without_paths(read_notebook(failed), chapter)
    atomic_write(output, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
    failed.unlink()
    return output


def execute_all(
    which: Sequence[Chapter],
    outdir: Path,
    parameters: Mapping[str, Any],
    workers: int,
    *,
    own: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    cwd: Path | None = None,
    keep: Callable[[Chapter, Path], None] = lambda chapter, file: None,
    notify: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Run several chapters in `workers` processes; `{name: outdir/name.ipynb}`.

    Each kernel computes with one thread, so that `workers` of them share the machine without
    slowing each other down. `own` has a chapter's parameters, by its name, where they are others.
    `keep` gets each chapter as it is executed, and its file. `notify` gets a line as each ends.

    Raises:
        UserError: some failed; the others were run, kept and written all the same.
    """
    done: dict[str, Path] = {}
    failures: dict[str, str] = {}
    started = time.monotonic()
    waiting = list(which)
    # fresh processes: papermill changes a process's working directory while it runs
    with Workers(max(1, workers), prepare=_one_thread) as crew:
        while len(done) + len(failures) < len(which):
            while crew.free and waiting:
                c, waiting = waiting[0], waiting[1:]
                file = outdir / f"{c.name}.ipynb"
                crew.hand_out(c, _executed, c, file, own.get(c.name, parameters), cwd)
            for answer in crew.answers():
                name = answer.key.name
                if answer.error is None:
                    keep(answer.key, answer.value)
                    done[name] = answer.value
                    notify(f"{name}: executed ({time.monotonic() - started:.0f} s)")
                else:
                    failures[name] = _told(answer)
                    notify(f"{name}: failed")
    if failures:
        raise UserError("; ".join(failures[c.name] for c in which if c.name in failures))
    return done


def _executed(
    chapter: Chapter, output: Path, parameters: Mapping[str, Any], cwd: Path | None
) -> Path:
    return execute(chapter, output, parameters, cwd=cwd)


def _told(answer: Answer) -> str:
    """Return in a line why a chapter failed."""
    name, error = answer.key.name, answer.error
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, Killed):
        return (
            f"{name} was killed from outside, out of memory perhaps ({error}); start again, with "
            f"fewer --workers if it happens again"
        )
    if isinstance(error, OSError):
        return f"{name} failed: {of_system(error)}"
    return f"{name} failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def verify_executed(file: Path) -> None:
    """Raise UserError unless every code cell of the notebook ran, and none left an error.

    Jupyter Book renders a notebook that never ran without a word.
    """
    for index, cell in enumerate(read_notebook(file)["cells"]):
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        if cell.get("execution_count") is None:
            raise UserError(f"cell {index} of {file} was never executed; execute the chapter")
        if any(output.get("output_type") == "error" for output in cell["outputs"]):
            raise UserError(f"cell {index} of {file} left an error; mend the chapter")


def _one_thread() -> None:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # or each kernel warns about frozen modules


def _without_paths(notebook: dict[str, Any], chapter: Chapter) -> dict[str, Any]:
    """Return the notebook without this machine's paths; the injected cell keeps the parameters."""
    run = notebook["metadata"].get("papermill", {})
    run.update(input_path=chapter.file.name, output_path=chapter.file.name)
    run.pop("parameters", None)
    return notebook
