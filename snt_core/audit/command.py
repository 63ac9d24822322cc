"""`snt audit`: the words of the command line, checked, and what is written at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write, place, require_writable
from snt_core.common.terminal import say, tell
from snt_core.runs.budget import budget_of
from snt_core.runs.store import open_store

TARGET = "timm:NAME, torchvision:NAME, FILE.py:NAME or example."
MOST_LOST = 100.0
SECONDS = 8.0  # to read the book's records and write the report


def audit(
    target: Annotated[str, typer.Argument(help=TARGET)],
    data: Annotated[str, typer.Option(help="Folder of images, or FILE.py:NAME of a loader.")] = "",
    weights: Annotated[str, typer.Option(metavar="FILE", help="safetensors, or torch's.")] = "",
    task: Annotated[str, typer.Option(metavar="FILE.py:NAME", help="What the loss is.")] = "",
    budget: Annotated[str, typer.Option(metavar="TIME", help="Such as 90s, 10m.")] = "10m",
    lose: Annotated[float, typer.Option(help="Points that the cheapest mix may lose.")] = 1.0,
    html: Annotated[str, typer.Option(metavar="FILE", help="The report as one page.")] = "",
    json_file: Annotated[str, typer.Option("--json", metavar="FILE", help="For scripts.")] = "",
) -> None:
    """Measure what compressing your own network costs, and write a report."""
    limit = budget_of(budget)
    if limit is None:
        raise UserError("--budget is empty; give a time above 0, such as 90s, 10m or 1h30m")
    if not 0 <= lose <= MOST_LOST:
        raise UserError(f"--lose is {lose:g}; give points of accuracy in [0, {MOST_LOST:g}]")
    written = {
        option: _file(option, text) for option, text in (("--html", html), ("--json", json_file))
    }
    from snt_core.audit import target as targets

    targets.kind_of(target)
    book = open_store()
    require_writable("the store", book.folder / "audits")
    from snt_core.audit import auditing, frames, placed, report
    from snt_core.audit.preparing import Asked

    asked = Asked(target=target, data=data, weights=weights, task=task, lose=lose)
    done = auditing.audit(asked, auditing.store_of(book), limit, say, reserve=SECONDS)
    beside = placed.placed(done, book)
    for line in frames.findings(done):
        tell(line)
    # all that the book says takes some seconds to read, which a short budget has not
    evidence = placed.evidence(book, whole=limit.left > SECONDS) if any(written.values()) else []
    if done.left_out:
        tell(f"Not measured: {len(done.left_out)} ({', '.join(list(done.left_out)[:3])}, ...)")
    if path := written["--json"]:
        atomic_write(path, report.as_json(done, beside, evidence).encode())
        tell(f"Written: {path}")
    if path := written["--html"]:
        atomic_write(path, report.page(done, beside, evidence).encode())
        tell(f"Written: {path}")


def _file(option: str, text: str) -> Path | None:
    """Return the file that an option names, if any. Raises UserError for a bad one."""
    if not text:
        return None
    path, suffix = place(option, text), f".{option.removeprefix('--')}"
    if path.is_dir() or path.suffix != suffix:
        raise UserError(f"{option} is '{text}'; name a file that ends in {suffix}")
    require_writable(option, path.parent)
    return path
