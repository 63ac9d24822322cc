"""Progress of long work: bars with an ETA on a terminal, a line a run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from snt_core.common.terminal import harmless
from snt_core.runs.identity import run_id
from snt_core.runs.plan import PlannedRun
from snt_core.runs.spec import Spec


def title(spec: Spec) -> str:
    """Return a run's kind and net in a few words."""
    net = spec.net
    return harmless(f"{spec.kind} {net.model} {net.approach} {net.data} seed {net.seed}")


class ProgressDisplay:
    """Context that shows how far the runs of a plan are; hand its `report` to the runner."""

    def __init__(self, todo: Sequence[PlannedRun], console: Console) -> None:
        self.console = console
        self.total = len(todo)
        self.finished: set[str] = set()
        self.bars: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> ProgressDisplay:
        self.progress.start()
        self.all = self.progress.add_task(f"{self.total} runs", total=self.total)
        return self

    def __exit__(self, *raised: object) -> None:
        self.progress.stop()

    def report(self, spec: Spec, share: float) -> None:
        """Show that `share` of a run is done; at 1 its record stands."""
        name = run_id(spec)
        if name in self.finished:
            return
        if name not in self.bars:
            self.bars[name] = self.progress.add_task(title(spec), total=1.0)
        self.progress.update(self.bars[name], completed=share)
        if share >= 1.0:
            self.finished.add(name)
            self.progress.remove_task(self.bars[name])
            self.progress.update(self.all, completed=len(self.finished))
            self.progress.console.print(
                f"{len(self.finished)}/{self.total} {title(spec)}: finished", markup=False
            )
