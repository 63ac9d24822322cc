"""The `snt` command: a thin layer over the package. Every command checks its words first."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

import snt_core
from snt_core.audit.command import audit
from snt_core.book import chapters as book_chapters
from snt_core.book import request
from snt_core.book.execution import execute
from snt_core.common import stopping
from snt_core.common.errors import RunsFailed, UserError, of_system
from snt_core.common.files import PROJECT, checkout, pin_environment, place
from snt_core.common.terminal import harmless, say, spell_out, tell
from snt_core.paper.asked import requested
from snt_core.paper.profiles import PROFILES, PUBLISHED, Profile, profile_named
from snt_core.paper.standings import standings
from snt_core.runs.budget import budget_of
from snt_core.runs.identity import record_name
from snt_core.runs.places import ENGINES, chosen_place
from snt_core.runs.plan import clock, in_words, planned_runs
from snt_core.runs.session import carry_out
from snt_core.runs.spec import Spec
from snt_core.runs.store import open_store

app = typer.Typer(add_completion=False)
app.command()(audit)
out = Console(markup=False)  # what is shown may be foreign text

ProfileOption = Annotated[str, typer.Option("--profile", help=f"One of {', '.join(PROFILES)}.")]
OnlyOption = Annotated[str, typer.Option("--only", help="Artefacts or chapters, comma-separated.")]
SeedsOption = Annotated[str, typer.Option("--seeds", help="Such as 0,1,2 (default: profile's).")]
WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers", parser=request.count("--workers"), metavar="N", help="Processes at once."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts; the shape is kept.")]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
INTERRUPTED = 130


def main() -> None:
    """Entry point: wrong input is one line on standard error and exit code 2."""
    spell_out()
    with stopping.listening():
        code = _ended()
        if number := stopping.asked():  # typer swallows the interrupt and says nothing
            stopping.leave(number)
    if code == INTERRUPTED:  # by something else than a signal
        print(stopping.SENTENCE, file=sys.stderr)
    sys.exit(code)


def _ended() -> int:
    """Carry out the command, tell in a line what it was refused for, and return its exit code."""
    lines, code = [], 2
    try:
        pin_environment()
        return int(app(standalone_mode=False) or 0)
    except RunsFailed as error:
        lines, code = error.lines, error.code
    except UserError as error:
        lines = [str(error)]
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except MemoryError as error:
        lines = [f"out of memory {error}; free some, or use fewer --workers"]
    except OSError as error:
        lines = [of_system(error)]
    except Exception as error:  # typer's own errors have no public base class
        if stopping.asked():  # it broke what was under way
            return 1
        if not hasattr(error, "format_message"):
            raise
        lines = [error.format_message()]
    if not stopping.asked():
        for line in lines:
            say(" ".join(line.split()))
    return code


@app.callback(invoke_without_command=True, help=__doc__)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"snt {snt_core.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def run(
    profile: ProfileOption,
    only: OnlyOption = "",
    seeds: SeedsOption = "",
    workers: WorkersOption = CORES,
    exact: Annotated[bool, typer.Option(help="fp32, plain operators.")] = False,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="Such as 25m: take what fits, stop in time.")
    ] = "",
    engine: Annotated[str, typer.Option(help=f"One of {', '.join(ENGINES)}.")] = "local",
    scheduler: Annotated[str, typer.Option(metavar="ADDRESS", help="dask's, running.")] = "",
    cluster: Annotated[str, typer.Option(metavar="FILE.yml", help="What to start.")] = "",
) -> None:
    """Train and measure what is missing."""
    limit, where = budget_of(budget), chosen_place(engine, scheduler, cluster)
    chosen, specs = _requested(profile, only, seeds)
    carry_out(
        specs,
        open_store(),
        profile=chosen.name,
        workers=workers,
        exact=exact,
        budget=limit,
        place=where,
        console=out,
    )


def _requested(profile: str, only: str, seeds: str) -> tuple[Profile, list[Spec]]:
    chosen = profile_named(profile)
    names, which = request.artefacts_named(only), request.seeds_named(seeds)
    return chosen, requested(chosen, names, which)


@app.command()
def plan(profile: ProfileOption, only: OnlyOption = "", seeds: SeedsOption = "") -> None:
    """Show what would run, how long it would take, and what can be resumed."""
    _, specs = _requested(profile, only, seeds)
    todo = planned_runs(specs, open_store())
    if not todo:
        out.print("Nothing is missing.")
        return
    table = Table(Column("run", no_wrap=True), "net", "seed", "about", "resumes at")
    for step in todo:
        net = step.spec.net
        table.add_row(
            record_name(step.spec),
            harmless(f"{net.model} {net.approach} on {net.data}"),
            str(net.seed),
            "?" if step.seconds is None else clock(step.seconds),
            f"{step.resumes_at:.0%}" if step.resumes_at else "-",
        )
    out.print(table)
    out.print(f"{len(todo)} runs, {in_words(todo)}")


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
    values = request.prepared(found, request.pairs(parameter or []))
    target = request.output_file(output, found)
    book_chapters.require_valid(found.file)
    if unused := request.without_effect(found, values):
        tell(f"{found.name} does not use {', '.join(unused)}: there is nothing to choose in it")
    tell(f"Executed: {execute(found, target, values, notify=tell)}")


@app.command()
def book(
    profile: Annotated[str, typer.Option(help="Edition to build.")] = PUBLISHED,
    workers: WorkersOption = CORES,
) -> None:
    """Execute every chapter and build the book."""
    from snt_core.book.build import build, require_buildable

    if profile != PUBLISHED:
        profile_named(profile)
    require_buildable(checkout("the book"))
    open_store().names()  # what is wrong with a record is said here, not in a chapter's kernel
    if profile != PUBLISHED:
        specs = _requested(profile, "", "")[1]
        carry_out(specs, open_store(), profile=profile, workers=workers, console=out)
    index = build(profile, {"profile": profile}, workers, notify=tell)
    tell(f"The book is built. Open {index.as_uri()}")


@app.command()
def pdf() -> None:
    """Print the built book into one PDF, which its front page then links to."""
    from snt_core.book.printing import print_book

    project = checkout("the book")
    pages = book_chapters.pages_of(project / "_toc.yml")
    tell(f"Printed: {print_book(project / '_build' / 'html', pages)}")


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
    record: Annotated[str, typer.Argument(help="KIND-ID, ID or its beginning.")] = "",
    sample: Annotated[
        int,
        typer.Option(
            parser=request.count("--sample"), metavar="N", help="Verify N records drawn at random."
        ),
    ] = 0,
) -> None:
    """Run a record again and compare."""
    from snt_core.runs.verify import chosen_records, run_all_again, summary

    store = open_store()
    results, refused = run_all_again(chosen_records(store, record, sample), store, tell)
    tell(summary(results, sample, len(refused)))
    if refused or not all(result.same for result in results):
        raise typer.Exit(max((error.code for error in refused), default=1))


@app.command()
def export(
    output: Annotated[str, typer.Option(help="New folder, or a file that ends in .zip.")] = "",
) -> None:
    """Pack the built book, its notebooks and records as an RO-Crate."""
    from snt_core.book.crate import export as pack

    tell(f"Exported: {pack(place('--output', output) if output else None)}")


@app.command(name="new-chapter")
def new_chapter(
    name: Annotated[str, typer.Argument(help="Such as figure8_depth: artefact, then topic.")],
) -> None:
    """Make a chapter from the template: notebook, module in paper/, entry in _toc.yml."""
    from snt_core.book.new_chapter import create

    for path in create(name):
        tell(f"Written: {path.relative_to(PROJECT)}")


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
        table.add_row(*map(harmless, row.values()))
    out.print(table)
