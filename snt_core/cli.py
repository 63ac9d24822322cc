"""The `snt` command: a thin layer over the package. Every command checks its words first."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from snt_core.book import chapters as book_chapters
from snt_core.book.execution import execute
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT, pin_environment
from snt_core.paper.artefacts import artefacts
from snt_core.paper.profiles import PROFILES, PUBLISHED, Profile, profile_named
from snt_core.paper.selection import requested, select
from snt_core.paper.standings import standings
from snt_core.runs.identity import record_name
from snt_core.runs.plan import PlannedRun, pending, planned_runs
from snt_core.runs.spec import Spec
from snt_core.runs.store import open_store

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
out = Console()

ProfileOption = Annotated[str, typer.Option("--profile", help=f"One of {', '.join(PROFILES)}.")]
OnlyOption = Annotated[str, typer.Option("--only", help="Artefacts or chapters, comma-separated.")]
SeedsOption = Annotated[str, typer.Option("--seeds", help="Such as 0,1,2 (default: profile's).")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Processes at once.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts; the shape is kept.")]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Entry point: wrong input is one line on standard error and exit code 2."""
    pin_environment()
    try:
        sys.exit(app(standalone_mode=False))
    except UserError as error:
        message = str(error)
    except Exception as error:  # typer's own errors have no public base class
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
    print(f"snt: {message}", file=sys.stderr)
    sys.exit(2)


PER_CARD = 4  # processes that share one GPU


@app.command()
def run(
    profile: ProfileOption,
    only: OnlyOption = "",
    seeds: SeedsOption = "",
    workers: WorkersOption = CORES,
    exact: Annotated[bool, typer.Option(help="fp32, plain operators.")] = False,
) -> None:
    """Train and measure what is missing."""
    chosen = profile_named(profile)
    specs = requested(chosen, only, seeds)
    _run(specs, chosen, workers, exact)


def _run(specs: list[Spec], profile: Profile, workers: int, exact: bool = False) -> None:
    store = open_store()
    todo = planned_runs(specs, store)
    if not todo:
        out.print(f"Nothing to run: all {len(specs)} records of profile {profile.name} are there.")
        return

    from snt_core.runs.progress import ProgressDisplay
    from snt_core.runs.runner import run_all
    from snt_core.training import ranks
    from snt_core.training.engine import busy, detect

    engine = detect(exact=exact)
    if engine.device == "cuda":
        workers = min(workers, PER_CARD)
    if not (exact or engine.fused):
        out.print("No C++ compiler that works here, so plain operators run: slower.")
    if (others := busy()) is not None:
        out.print(f"Other work keeps {others} busy.")
    if profile.name in ("paper", "imagenet") and engine.device == "cpu":
        about = f"profile {profile.name} is meant for a GPU; here: {_duration(todo)}"
        print(f"snt: {about}", file=sys.stderr)
    with (
        ranks.joined(),
        ProgressDisplay(todo, out if ranks.is_main() else Console(quiet=True)) as display,
    ):
        run_all(
            specs,
            store,
            profile=profile.name,
            engine=engine,
            workers=workers,
            report=display.report,
        )


@app.command()
def plan(profile: ProfileOption, only: OnlyOption = "", seeds: SeedsOption = "") -> None:
    """Show what would run, how long it would take, and what can be resumed."""
    chosen = profile_named(profile)
    todo = planned_runs(requested(chosen, only, seeds), open_store())
    if not todo:
        out.print("Nothing is missing.")
        return
    table = Table(Column("run", no_wrap=True), "net", "seed", "about", "resumes at")
    for step in todo:
        net = step.spec.net
        table.add_row(
            record_name(step.spec),
            f"{net.model} {net.approach} on {net.data}",
            str(net.seed),
            "?" if step.seconds is None else _clock(step.seconds),
            f"{step.resumes_at:.0%}" if step.resumes_at else "-",
        )
    out.print(table)
    out.print(f"{len(todo)} runs, {_duration(todo)}")


def _duration(todo: Sequence[PlannedRun]) -> str:
    known = [step.seconds for step in todo if step.seconds is not None]
    rest = len(todo) - len(known)
    text = f"{_clock(sum(known))} of work on one core" if known else ""
    if rest:
        text += f"{' and ' if known else ''}{rest} runs of kinds that were never timed here"
    return text


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show artefacts by profiles: runs done, under way, missing."""
    rows = [asdict(row) for row in standings(open_store())]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("artefact", "profile", "done", "running", "missing")
    for row in rows:
        table.add_row(*map(str, row.values()))
    out.print(table)


@app.command()
def chapter(
    name: str,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", help="key=value, as often as needed.")
    ] = None,
    output: Annotated[str, typer.Option(help="Executed notebook.")] = "",
) -> None:
    """Execute one chapter through papermill, its parameters checked first."""
    found = book_chapters.find(name)
    given = dict(_pair(text) for text in parameter or [])
    checked = book_chapters.check(found, given, tuple(PROFILES))
    if checked.get("store"):  # the kernel runs in another folder
        checked["store"] = str(Path(checked["store"]).expanduser().resolve())
    if found.artefact:  # builds the specs, which refuse what makes no sense
        select(found.artefact, **_selection(found, checked))
    target = Path(output or f"_build/chapters/{found.name}.ipynb")
    print(f"Executed: {execute(found, target, checked)}")


def _selection(chapter: book_chapters.Chapter, checked: dict[str, Any]) -> dict[str, Any]:
    """All parameters of a chapter as arguments of `select`, the chosen ones and the defaults."""
    declared = book_chapters.parameters(chapter)
    values = {name: parameter.default for name, parameter in declared.items()} | checked
    return {**values, "store": open_store(values["store"])}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"-p takes key=value, not '{text}'")
    return key, value


@app.command()
def book(
    profile: Annotated[str, typer.Option(help="Edition to build.")] = PUBLISHED,
    workers: WorkersOption = CORES,
) -> None:
    """Execute every chapter and build the book."""
    from snt_core.book.build import build

    store = open_store()
    if profile == PUBLISHED:
        lacking = [select(name, PUBLISHED, (), store) for name in artefacts()]
        stand_ins = [chosen.specs for chosen in lacking if not chosen.profile.verdicts]
        missing = [spec for specs in stand_ins for spec in pending(specs, store)]
        if missing:  # smoke, where nothing was measured
            _run(missing, PROFILES["smoke"], workers)
    else:
        chosen = profile_named(profile)
        _run(requested(chosen, "", ""), chosen, workers)
    index = build(profile, {"profile": profile}, workers, notify=print)
    print(f"The book is built. Open {index.as_uri()}")


@app.command()
def claims(as_json: JsonOption = False) -> None:
    """Show the scoreboard: a verdict on each of the paper's claims and assertions."""
    from snt_core.paper.verdict import scoreboard

    verdicts = scoreboard(open_store())
    if as_json:
        print(json.dumps([verdict.public() for verdict in verdicts], indent=1))
        return
    table = Table("claim", "assertion", "verdict", "observed [95 %]", "paper", "seeds", "flags")
    for v in verdicts:
        table.add_row(v.id, "", v.verdict, "", "", "", "")
        for one in v.assertions:
            observed = f"{one.measured} {one.unit}" if one.measured else one.text
            flags = ", ".join(one.flags)
            table.add_row("", one.id, one.verdict, observed, one.claimed, str(one.n or ""), flags)
    out.print(table)


@app.command()
def verify(
    record: Annotated[str, typer.Argument(help="Id of a record, or its beginning.")] = "",
    sample: Annotated[int, typer.Option(min=0, help="Verify N records drawn at random.")] = 0,
) -> None:
    """Run a record again and compare."""
    from snt_core.runs.verify import chosen_records, run_again

    store = open_store()
    differs = False
    for found in chosen_records(store, record, sample):
        print(f"{found.name}: took {_clock(found.provenance['seconds'])}, running it again")
        result = run_again(found, store)
        differs |= not result.same
        print(f"{found.name}: {result.text}")
    if differs:
        raise typer.Exit(1)


@app.command()
def export(
    output: Annotated[str, typer.Option(help="New folder, or a file that ends in .zip.")] = "",
) -> None:
    """Pack the built book, its notebooks and records as an RO-Crate."""
    from snt_core.book.crate import export as pack

    print(f"Exported: {pack(Path(output).expanduser() if output else None)}")


@app.command(name="new-chapter")
def new_chapter(
    name: Annotated[str, typer.Argument(help="Such as figure8_depth: artefact, then topic.")],
) -> None:
    """Make a chapter from the template: notebook, module in paper/, entry in _toc.yml."""
    from snt_core.book.new_chapter import create

    for path in create(name):
        print(f"Written: {path.relative_to(PROJECT)}")


@app.command(name="chapters")
def list_chapters(as_json: JsonOption = False) -> None:
    """List the book's chapters."""
    rows = [
        {"name": c.name, "label": c.label, "file": str(c.file.relative_to(PROJECT))}
        for c in book_chapters.chapters()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("name", "label", "file")
    for row in rows:
        table.add_row(*row.values())
    out.print(table)
