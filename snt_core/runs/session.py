"""A command's runs: checked, announced, carried out in view of whoever waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich.console import Console

from snt_core.common.errors import RunsFailed, UserError
from snt_core.common.terminal import say
from snt_core.runs.budget import Budget
from snt_core.runs.places import DaskPlace
from snt_core.runs.plan import PlannedRun, in_words, planned_runs
from snt_core.runs.preflight import preflight
from snt_core.runs.schedule import Rank, any_time
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store

PER_CARD = 4  # processes that share one GPU
FOR_A_GPU = ("paper", "imagenet")  # profiles


def carry_out(
    specs: Sequence[Spec],
    store: Store,
    *,
    profile: str,
    workers: int,
    exact: bool = False,
    budget: Budget | None = None,
    place: DaskPlace | None = None,
    console: Console,
) -> None:
    """Run what is missing of `specs`, and show on `console` how far it is.

    With a `budget` it is what fits into that, told in a line at the end. With a `place` they are
    carried out there.

    Raises:
        UserError: something would stop them, told before kernels are compiled.
    """
    todo = planned_runs(specs, store)
    if not specs:
        console.print("Nothing to run: what was asked for is drawn from the code alone.")
        return
    if not todo:
        console.print(f"Nothing to run: all {len(specs)} records of profile {profile} are there.")
        return
    preflight(specs, store)
    if place is None:
        work = partial(_work, specs, todo, store, profile, workers, exact, console)
    else:
        work = partial(_work_at, place, specs, todo, store, profile, exact, console)
    if budget is None:
        work(any_time)
        return
    from snt_core.training import ranks

    if ranks.launched():
        raise UserError("--budget is not for torchrun; end its processes with 'timeout' instead")
    failed = None
    with budget.kept():
        try:
            work(budget.ranks(todo))
        except RunsFailed as error:
            failed = error
    console.print(budget.account(todo, planned_runs(specs, store)), soft_wrap=True, highlight=False)
    if failed:
        raise failed


def _work(
    specs: Sequence[Spec],
    todo: Sequence[PlannedRun],
    store: Store,
    profile: str,
    workers: int,
    exact: bool,
    console: Console,
    rank: Rank,
) -> None:
    from snt_core.runs.progress import ProgressDisplay
    from snt_core.runs.runner import load_data, run_all
    from snt_core.training import ranks
    from snt_core.training.engine import busy, detect

    load_data([step.spec for step in todo])  # a look at every image comes before the compiler
    engine = detect(exact=exact)
    if engine.device == "cuda":
        workers = min(workers, PER_CARD)
    if not (exact or engine.fused):
        console.print("No C++ compiler that works here, so plain operators run: slower.")
    if (others := busy()) is not None:
        console.print(f"Other work keeps {others} busy.")
    if profile in FOR_A_GPU and engine.device == "cpu":
        say(f"profile {profile} is meant for a GPU; here: {in_words(todo)}")
    with (
        ranks.joined(),  # first, since before it every rank would be the main one
        ProgressDisplay(todo, console if ranks.is_main() else Console(quiet=True)) as display,
    ):
        run_all(
            specs,
            store,
            profile=profile,
            engine=engine,
            workers=workers,
            report=display.report,
            rank=rank,
        )


def _work_at(
    place: DaskPlace,
    specs: Sequence[Spec],
    todo: Sequence[PlannedRun],
    store: Store,
    profile: str,
    exact: bool,
    console: Console,
    rank: Rank,
) -> None:
    from snt_core.runs.progress import ProgressDisplay
    from snt_core.runs.runner import run_all
    from snt_core.training import ranks

    if ranks.launched():
        raise UserError("--engine dask is not for torchrun; start the command without it")
    with place.crew(store, exact=exact) as crew, ProgressDisplay(todo, console) as display:
        console.print(f"{len(todo)} runs for the workers of {crew.name}")
        run_all(specs, store, profile=profile, report=display.report, rank=rank, crew=crew)
