"""How long a profile takes on many GPUs, reckoned from records of like runs on one."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pandas as pd
from matplotlib.figure import Figure

from snt_core.common.documents import read_json
from snt_core.common.errors import UserError
from snt_core.common.files import PROJECT
from snt_core.paper.looks import COLOURS, canvas, described, plain_log
from snt_core.runs.pace import Like, like, on_card, seconds_per_work
from snt_core.runs.record import Record
from snt_core.runs.schedule import Schedule
from snt_core.runs.spec import Spec
from snt_core.runs.store import Store

GPUS = (1, 2, 4, 8, 16, 32, 64)
QUIET = 0.2  # cores kept busy by others, up to which a time is that of the work measured


@dataclass(frozen=True)
class Grid:
    """Runs with the seconds that each takes on one GPU, and the bytes of the weights of its net.

    `stand_ins` counts the runs of a kind that was timed on other nets alone; `untimed` names kinds
    that were never timed on a GPU, whose runs are left out.
    """

    seconds: Mapping[Spec, float]
    weights: Mapping[Spec, float]
    stand_ins: int
    untimed: Sequence[str]

    @property
    def work(self) -> float:
        """The seconds of all runs together."""
        return sum(self.seconds.values())

    @property
    def critical_path(self) -> float:
        """The seconds that no number of GPUs can save.

        The longest training with its longest measurement, and all runs that time something: each
        of those has the machines to itself.
        """
        after: dict[Spec, float] = defaultdict(float)
        for spec, seconds in self.seconds.items():
            if spec.net is not spec and not spec.timed:
                after[spec.net] = max(after[spec.net], seconds)
        chains = [self.seconds.get(net, 0.0) + last for net, last in after.items()]
        alone = [s for spec, s in self.seconds.items() if spec.net is spec and not spec.timed]
        timed = sum(s for spec, s in self.seconds.items() if spec.timed)
        return max([*chains, *alone], default=0.0) + timed

    def wall(self, gpus: int) -> float:
        """Return the seconds from the first run's start to the last one's end, a run a GPU.

        Runs are begun in the order in which `snt run` begins them.
        """
        schedule = Schedule(self.seconds, lambda spec: False)
        now, turn = 0.0, 0
        under_way: list[tuple[float, int, Spec]] = []  # by the time at which each ends
        while True:
            if len(under_way) < gpus and (spec := schedule.begin()) is not None:
                turn += 1
                heapq.heappush(under_way, (now + self.seconds[spec], turn, spec))
            elif under_way:
                now, _, ended = heapq.heappop(under_way)
                schedule.end(ended, failed=False)
            else:
                return now

    def travels(self) -> tuple[float, float]:
        """Return the bytes to workers that share no store, and those back, records apart."""
        out = sum(self.weights.get(s.net, 0.0) for s in self.seconds if s.net is not s)
        return out, sum(self.weights.get(s, 0.0) for s in self.seconds if s.leaves_weights)


def with_times(store: Store) -> list[Record]:
    """Return a store's records; the published ones where none of its runs was made on a GPU."""
    for place in (store, Store(PROJECT / "data")):
        records = place.records()
        if any(r.status == "done" and on_card(r.provenance) for r in records):
            break
    return records


def grid_of(specs: Iterable[Spec], records: Iterable[Record]) -> Grid:
    """Return `specs` timed by the records that were made on a GPU.

    A run takes the seconds for each image that like runs took: of its kind and net, or where there
    are none of its kind alone.

    Raises:
        UserError: no record was made on a GPU.
    """
    there = [record for record in records if on_card(record.provenance)]
    sizes = {
        (r.spec.net.model, r.spec.net.variant): 4.0 * r.metrics["parameters"]
        for r in there
        if "parameters" in r.metrics
    }
    near = seconds_per_work(there, card=True)
    of_kind = seconds_per_work(there, card=True, by=_kind)
    if not of_kind:
        raise UserError("no record was made on a GPU, so nothing says how long one takes")
    seconds: dict[Spec, float] = {}
    stand_ins, untimed = 0, set()
    for spec in specs:
        if _kind(spec) not in of_kind:
            untimed.add(spec.kind)
            continue
        stand_ins += like(spec) not in near
        seconds[spec] = near.get(like(spec), of_kind[_kind(spec)]) * spec.work()
    usual = mean(sizes.values()) if sizes else 0.0
    weights: dict[Spec, float] = {
        net: sizes.get((net.model, net.variant), usual) for net in {spec.net for spec in seconds}
    }
    return Grid(seconds, weights, stand_ins, sorted(untimed))


def _kind(spec: Spec) -> Like:
    return (spec.kind,)


def table(grid: Grid, gpus: Sequence[int] = GPUS) -> pd.DataFrame:
    """Return a row per number of GPUs: hours and what bounds them, speed-up, busy (percent)."""
    rows = []
    for count in gpus:
        wall, even = grid.wall(count), grid.work / count
        rows.append(
            {
                "GPUs": count,
                "hours": round(wall / 3600, 2),
                "at least (hours)": round(max(even, grid.critical_path) / 3600, 2),
                "speed-up": round(grid.work / wall, 1),
                "busy (%)": round(100 * even / wall),
                "bound by": "work" if even >= grid.critical_path else "the longest chain",
            }
        )
    return pd.DataFrame(rows)


def in_words(grid: Grid) -> str:
    """Return what a grid is and what bounds it, in a few sentences."""
    out, back = (size / 1e9 for size in grid.travels())
    enough = math.ceil(grid.work / grid.critical_path)
    chain = grid.critical_path / 3600
    text = (
        f"{len(grid.seconds)} runs are {grid.work / 3600:.1f} hours of work on one GPU. The "
        f"longest chain of runs that wait for each other takes {chain:.1f} hours: no number of "
        f"GPUs needs less, and no fewer than {enough} can reach it. Where workers share no folder, "
        f"{out:.1f} GB of weights travel to them and {back:.1f} GB back: even in the shortest "
        f"time {1e3 * (out + back) / grid.critical_path:.1f} MB a second on average."
    )
    if grid.stand_ins:
        text += f" {grid.stand_ins} runs are timed by runs of their kind on other nets."
    if grid.untimed:
        text += f" Kinds never timed on a GPU are left out: {', '.join(grid.untimed)}."
    return text


def figure(frame: pd.DataFrame) -> Figure:
    """Draw a table's hours over GPUs on logarithmic axes, beside what the bounds allow."""
    gpus, hours = frame["GPUs"].tolist(), frame["hours"].tolist()
    figure = canvas(6.5, 4)
    ax = figure.subplots()
    ax.plot(gpus, hours, "o-", color=COLOURS["arch"], label="reckoned")
    ax.plot(gpus, frame["at least (hours)"], "--", color="0.35", label="at least")
    ax.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="hours")
    plain_log(ax.yaxis)
    ax.set_xticks(list(gpus), [str(count) for count in gpus])
    ax.minorticks_off()
    ax.legend(frameon=False)
    told = ", ".join(f"{count} GPUs {value:.2f} hours" for count, value in zip(gpus, hours))
    return described(figure, f"Line chart, hours of the whole profile: {told}.")


def measured(folder: Path) -> pd.DataFrame:
    """Return a row per number of workers that `make bench ONLY=scaling` measured here.

    Columns: workers, runs, seconds, speed-up, machine, others before (cores), commit.
    """
    file = folder / "results" / "scaling.json"
    if not file.exists():
        raise UserError(f"there is no {file}; run 'make bench ONLY=scaling'")
    rows = [
        {
            "workers": row["also"]["workers"],
            "runs": row["also"]["grid"],
            "seconds": round(row["ours"], 1),
            "speed-up": row["also"]["speed_up"],
            "machine": row["machine"],
            "others before (cores)": row["others_before"],
            "commit": row["commit"],
        }
        for row in read_json(file)
    ]
    return pd.DataFrame(rows).sort_values("workers", ignore_index=True)


def with_care(frame: pd.DataFrame) -> str:
    """Return what to keep in mind of measured rows, by how busy the machine was."""
    busy = frame["others before (cores)"].max()
    if busy <= QUIET:
        return "The machine was otherwise idle."
    return (
        f"Other work kept {busy:.1f} cores busy just before, so the workers had to share what was "
        f"left: these times show that, not what several workers gain."
    )
