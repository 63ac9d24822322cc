"""`python -m benchmarks [AREA ...]`: measure, print a table, write `results/AREA.json`.

`training:resnet20` measures one net of an area; the area's other rows stay as they are.
"""

from __future__ import annotations

import importlib
import sys

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Row, one_core, write
from snt_core.common.checks import one_of
from snt_core.common.errors import UserError
from snt_core.training.engine import busy_cores

AREAS = ("training", "steps", "hessian", "compression", "tokens", "book", "scaling", "card")


def main(areas: list[str]) -> None:
    for area in areas:
        one_of("benchmark", area.partition(":")[0], AREAS)
    out = Console()
    one_core()
    if not areas and not torch.cuda.is_available():
        out.print("Without a CUDA card the area 'card' is left out.")
        areas = [area for area in AREAS if area != "card"]
    for chosen in areas or AREAS:
        out.print(f"[bold]{chosen}[/bold]")
        others = busy_cores()
        if others > 0.2:
            said = f"{others:.1f} cores are busy with other work"
            out.print(f"{said}: ratios may hold, times do not.")
        area, _, part = chosen.partition(":")
        module = importlib.import_module(f"benchmarks.{area}")
        rows = module.rows(out.print, part) if part else module.rows(out.print)
        out.print(_table(rows))
        out.print(f"-> {write(area, rows, others)}")


def _table(rows: list[Row]) -> Table:
    table = Table("work", "ours", "peer", "unit", "ratio", "runs")
    for row in rows:
        numbers = ["-" if v is None else f"{v:.4g}" for v in (row.ours, row.peer, row.ratio)]
        table.add_row(row.work, *numbers[:2], row.unit, numbers[2], str(row.runs))
    return table


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
