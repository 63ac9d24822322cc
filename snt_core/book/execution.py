"""Chapters executed: ordinary papermill, a failure in one line, files whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import MappingProxyType
from typing import Any

from snt_core.book.chapters import Chapter, read_notebook
from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write

KERNEL = "python3"


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
                cwd=(cwd or chapter.file.parent).resolve(),
                progress_bar=sys.stderr.isatty(),
                stderr_file=_Told(notify),
                extra_arguments=["--log-level=CRITICAL"],  # failures are told below, in one line
                config=Config(KernelManager=transport),
            )
    except PapermillExecutionError as error:
        reason = (error.evalue.strip().splitlines() or [""])[-1]
        if error.ename == UserError.__name__:  # a whole sentence, of what was given
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
    notify: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Run several chapters in `workers` processes; `{name: outdir/name.ipynb}`.

    Each kernel computes with one thread, so that `workers` of them share the machine without
    slowing each other down. `own` has a chapter's parameters, by its name, where they are others.
    `notify` gets a line as each chapter ends.

    Raises:
        UserError: some failed; the others were run and written all the same.
    """
    done: dict[str, Path] = {}
    failures: dict[str, UserError] = {}
    started = time.monotonic()
    # fresh processes: papermill changes a process's working directory while it runs
    pool = ProcessPoolExecutor(max(1, workers), get_context("spawn"), initializer=_one_thread)
    with pool:
        jobs = {
            pool.submit(
                execute, c, outdir / f"{c.name}.ipynb", own.get(c.name, parameters), cwd=cwd
            ): c.name
            for c in which
        }
        for job in as_completed(jobs):
            name = jobs[job]
            try:
                done[name] = job.result()
                notify(f"{name}: executed ({time.monotonic() - started:.0f} s)")
            except UserError as error:
                failures[name] = error
                notify(f"{name}: failed")
            except BrokenExecutor:
                failures[name] = UserError(
                    f"{name} or a chapter beside it was killed from outside, out of memory "
                    f"perhaps; start again with fewer --workers"
                )
    if failures:
        raise UserError("; ".join(str(failures[c.name]) for c in which if c.name in failures))
    return done


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
