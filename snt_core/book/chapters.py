"""The chapters: notebooks that the table of contents lists, their parameters, their execution.

A chapter is an ordinary notebook, so plain papermill runs it too. What is added here: parameters
are checked before anything runs, a failure is one line, and a file is written whole or not at all.
"""

from __future__ import annotations

import ast
import io
import json
import os
import sys
import time
import tokenize
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from snt_core.common.errors import UserError, unknown
from snt_core.common.files import PROJECT, atomic_write

KERNEL = "python3"


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book. `name` is its file's stem, `label` the paper's ("Table 4")."""

    name: str
    label: str
    file: Path
    artefact: str | None

    @property
    def short(self) -> str:
        """`table4` of `table4_ablation`: what users type."""
        return self.name.split("_")[0]


@dataclass(frozen=True)
class Parameter:
    """One line of a chapter's `parameters` cell: `name: annotation = default  # comment`."""

    name: str
    annotation: str
    default: Any
    comment: str


# which chapters there are -------------------------------------------------------------------


def chapters(project: Path = PROJECT) -> list[Chapter]:
    """The notebooks that `_toc.yml` lists, in its order (its Markdown pages are no chapters).

    Raises:
        UserError: a page that is listed does not exist.
    """
    import yaml

    pages = list(_pages(yaml.safe_load((project / "_toc.yml").read_text())))
    for page in pages:
        if not any((project / f"{page}{kind}").exists() for kind in (".ipynb", ".md")):
            raise UserError(f"_toc.yml lists '{page}', but there is no {page}.ipynb or {page}.md")
    files = [project / f"{page}.ipynb" for page in pages]
    return [_chapter(file) for file in files if file.exists()]


def find(name: str, project: Path = PROJECT) -> Chapter:
    """The chapter called `name`: `table4_ablation`, or `table4` for short."""
    known = chapters(project)
    for chapter in known:
        if name in (chapter.name, chapter.short):
            return chapter
    raise unknown("chapter", name, [chapter.name for chapter in known])


def _pages(node: Any) -> list[str]:
    """Every page of a table of contents or a branch of it, in reading order."""
    if isinstance(node, list):
        return [page for branch in node for page in _pages(branch)]
    own = [node[key] for key in ("root", "file") if key in node]
    below = [node[key] for key in ("parts", "chapters", "sections") if key in node]
    return own + _pages(below)


def _chapter(file: Path) -> Chapter:
    about = _notebook(file)["metadata"].get("snt", {})
    return Chapter(file.stem, about.get("label", file.stem), file, about.get("artefact"))


def _notebook(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not a notebook: {error}") from error


# parameters ---------------------------------------------------------------------------------


def parameters(chapter: Chapter) -> dict[str, Parameter]:
    """What the chapter can be given, read from its first cell tagged `parameters`."""
    for cell in _notebook(chapter.file)["cells"]:
        if "parameters" in cell["metadata"].get("tags", ()):
            return _declared("".join(cell["source"]))
    return {}


def check(
    chapter: Chapter, given: Mapping[str, Any], profiles: Sequence[str] = ()
) -> dict[str, Any]:
    """`given` ("0,1" for a `list[int]`) as values of the types that the chapter declares.

    Args:
        given: strings from a command line, or values that have their type already.
        profiles: what `profile` may be, besides its default; empty for anything.

    Raises:
        UserError: no such parameter, or a value of another type.
    """
    known = parameters(chapter)
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise unknown(f"parameter of {chapter.name}", name, known)
        checked[name] = _typed(chapter, known[name], value)
    if profiles and "profile" in checked:
        allowed = dict.fromkeys([*profiles, known["profile"].default])
        if checked["profile"] not in allowed:
            raise unknown("profile", checked["profile"], allowed)
    return checked


def _declared(source: str) -> dict[str, Parameter]:
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return {
        line.target.id: Parameter(
            line.target.id,
            ast.unparse(line.annotation),
            ast.literal_eval(line.value),
            comments.get(line.end_lineno or line.lineno, ""),
        )
        for line in ast.parse(source).body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value
    }


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


# how a parameter's text is read, what to call it in an error, and an example
_READ: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "str": (str, "text", "name"),
    "int": (int, "a whole number", "3"),
    "float": (float, "a number", "0.1"),
    "bool": (_bool, "true or false", "true"),
    "list[str]": (str, "names", "a,b"),
    "list[int]": (int, "whole numbers", "0,1,2"),
    "list[float]": (float, "numbers", "0.1,0.5"),
}


def _typed(chapter: Chapter, parameter: Parameter, value: Any) -> Any:
    read, kind, example = _READ[parameter.annotation]
    is_list = parameter.annotation.startswith("list")
    items = _items(value) if is_list else [str(value)]
    try:
        values = [read(item) for item in items]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{chapter.name} takes {kind} for {parameter.name}, not '{value}'"
            f" (write {parameter.name}={example})"
        ) from error
    return values if is_list else values[0]


def _items(value: Any) -> list[str]:
    """Texts of a list, written `0,1` or `[0, 1]` or given as a list."""
    if not isinstance(value, str):
        return [str(item) for item in value]
    inside = value.strip().removeprefix("[").removesuffix("]")
    return [item.strip().strip("'\"") for item in inside.split(",") if inside.strip()]


# execution ----------------------------------------------------------------------------------


def execute(
    chapter: Chapter, output: Path, parameters: Mapping[str, Any], *, cwd: Path | None = None
) -> Path:
    """Run `chapter` from top to bottom with `parameters` (from `check`) and write it to `output`.

    Args:
        cwd: where its kernel runs; the notebook's own folder if not given.

    Raises:
        UserError: a cell failed; how far it came is beside `output`, as `*.failed.ipynb`.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    # this environment's kernel, not one of the same name that the user installed elsewhere
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_suffix(".failed.ipynb")
    try:
        # Through sockets in a folder of its own: kernels that start at once in several processes
        # may pick the same TCP port.
        with TemporaryDirectory() as sockets:
            transport = {"transport": "ipc", "ip": f"{sockets}/kernel"}
            papermill.execute_notebook(
                chapter.file.resolve(),
                failed.resolve(),
                parameters=dict(parameters),
                kernel_name=KERNEL,
                cwd=(cwd or chapter.file.parent).resolve(),
                progress_bar=sys.stderr.isatty(),
                extra_arguments=["--log-level=CRITICAL"],  # failures are told below, in one line
                config=Config(KernelManager=transport),
            )
    except PapermillExecutionError as error:
        reason = (error.evalue.strip().splitlines() or [""])[-1]
        raise UserError(
            f"{chapter.name} failed in cell {error.cell_index}: {error.ename}: {reason}"
            f" (see {failed})"
        ) from error
    except DeadKernelError as error:
        raise UserError(
            f"{chapter.name} failed: its kernel died, out of memory perhaps (see {failed})"
        ) from error
    notebook = _without_paths(_notebook(failed), chapter)
    atomic_write(output, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
    failed.unlink()
    return output


def execute_all(
    which: Sequence[Chapter],
    outdir: Path,
    parameters: Mapping[str, Any],
    workers: int,
    *,
    cwd: Path | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Run several chapters in `workers` processes; `{name: outdir/name.ipynb}`.

    Each kernel computes with one thread, so that `workers` of them share the machine without
    slowing each other down. `notify` gets a line as each chapter ends.

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
            pool.submit(execute, c, outdir / f"{c.name}.ipynb", parameters, cwd=cwd): c.name
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
    if failures:
        raise UserError("; ".join(str(failures[c.name]) for c in which if c.name in failures))
    return done


def verify_executed(file: Path) -> None:
    """Raise UserError unless every code cell of the notebook ran, and none left an error.

    Jupyter Book renders a notebook that never ran without a word.
    """
    for index, cell in enumerate(_notebook(file)["cells"]):
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        if cell["execution_count"] is None:
            raise UserError(f"cell {index} of {file} was never executed; execute the chapter")
        if any(output["output_type"] == "error" for output in cell["outputs"]):
            raise UserError(f"cell {index} of {file} left an error; mend the chapter")


def _one_thread() -> None:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # or each kernel warns about frozen modules


def _without_paths(notebook: dict[str, Any], chapter: Chapter) -> dict[str, Any]:
    """Papermill's metadata without this machine's paths; the injected cell keeps the parameters."""
    run = notebook["metadata"].get("papermill", {})
    run.update(input_path=chapter.file.name, output_path=chapter.file.name)
    run.pop("parameters", None)
    return notebook
