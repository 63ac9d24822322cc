"""`python -m benchmarks.models [NET ...]`: every method on nets of timm, torchvision, and our own.

A cell says "works" where the result was checked, "refused" with the reason where the method says in
a line that it cannot, and "n/a" where the question has no meaning; anything else fails the command.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import snt_core as snt
from benchmarks.measure import machine
from benchmarks.model_checks import CELLS, Case, Missing, Wrong, live
from snt_core.common.checks import one_of
from snt_core.common.errors import UserError
from snt_core.common.files import atomic_write
from snt_core.common.vision import torchvision

Data = tuple[Tensor, Tensor]
FILE = Path(__file__).with_name("models.json")  # results/ is for rows of ours beside a peer's
PACKAGES = ("torch", "timm", "torchvision", "onnx", "onnxruntime")


class Tagger(nn.Module):
    """A tag for each word: embedding, LSTM in both directions, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(100, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(tokens))[0])


class Segmenter(nn.Module):
    """A class for each pixel: convolutions down, a transposed convolution up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(8, 5, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


def _timm(name: str) -> nn.Module:
    torchvision()
    import timm

    return timm.create_model(name, num_classes=10)


def _torchvision(name: str) -> nn.Module:
    torchvision()
    from torchvision import models

    return models.get_model(name, num_classes=10)


NETS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"timm {name}": partial(_timm, name)
        for name in (
            "resnet18", "mobilenetv3_small_100", "efficientnet_b0", "convnext_tiny",
            "vit_tiny_patch16_224", "deit_small_distilled_patch16_224",
            "swin_tiny_patch4_window7_224", "mixer_b16_224", "regnety_004",
        )
    },
    **{
        f"torchvision {name}": partial(_torchvision, name)
        for name in ("vit_b_16", "mobilenet_v3_small", "swin_t")
    },
    "LSTM tagger": Tagger,
    "segmentation net": Segmenter,
}  # fmt: skip


def data_for(name: str) -> tuple[Data, snt.Task]:
    """Return a few samples of noise that fit the net, and its task."""
    if name == "LSTM tagger":
        task = snt.Task(loss_fn=lambda out, tags: F.cross_entropy(out.mT, tags))
        return (torch.randint(100, (4, 6)), torch.randint(7, (4, 6))), task
    if name == "segmentation net":
        task = snt.Task(loss_fn=F.cross_entropy)
        return (torch.randn(4, 3, 16, 16), torch.randint(5, (4, 16, 16))), task
    return (torch.randn(4, 3, 224, 224), torch.randint(10, (4,))), snt.Task()


def case_of(name: str) -> Case:
    """Return a net and its data, ready for every check."""
    torch.manual_seed(0)
    net = NETS[name]()
    data, task = data_for(name)
    return Case(NETS[name], live(net, data[0]), data, task)


def outcome(check: Callable[[Case], str], case: Case) -> dict[str, str]:
    """Return how a check ended, and what was said."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {"is": "works", "says": check(case)}
    except Missing as error:
        return {"is": "n/a", "says": str(error)}
    except Wrong as error:
        return {"is": "silent", "says": str(error)}
    except (ValueError, UserError) as error:
        said = str(error)
        return {"is": "refused" if said and "\n" not in said else "traceback", "says": said}
    except Exception as error:
        return {"is": "traceback", "says": f"{type(error).__name__}: {error}"}


def measured(name: str, cells: Mapping[str, Callable[[Case], str]] = CELLS) -> dict[str, Any]:
    """Return a row of the table: a net, and how each check ended."""
    case = case_of(name)
    row: dict[str, Any] = {"net": name, "cells": {}}
    row["parameters"] = sum(p.numel() for p in case.net.parameters())
    before = {key: value.clone() for key, value in case.net.state_dict().items()}
    for cell, check in cells.items():
        started = time.perf_counter()
        found = outcome(check, case)
        changed = [k for k, v in case.net.state_dict().items() if not torch.equal(v, before[k])]
        if changed:
            found = {"is": "silent", "says": f"the given net has another '{changed[0]}'"}
        row["cells"][cell] = found | {"seconds": round(time.perf_counter() - started, 2)}
        print(f"  {cell:10} {found['is']:9} {found['says'][:150]}", flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> Table:
    made = Table("net", *CELLS)
    for row in rows:
        made.add_row(row["net"], *(row["cells"][cell]["is"] for cell in CELLS))
    return made


def main(names: list[str]) -> int:
    for name in names:
        one_of("net", name, NETS)
    rows = []
    for name in names or NETS:
        print(name, flush=True)
        rows.append(measured(name))
        written = keep(rows[-1])
    Console(width=200).print(table(written))
    print(f"-> {FILE}")
    bad = {"silent", "traceback"}
    return int(any(cell["is"] in bad for row in rows for cell in row["cells"].values()))


def keep(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Write a row to `benchmarks/models.json`, and return all that are there."""
    done = {r["net"]: r for r in json.loads(FILE.read_text())["rows"]} if FILE.exists() else {}
    done[row["net"]] = row
    rows = [done[name] for name in NETS if name in done]
    body = {"machine": machine(), "versions": versions(), "rows": rows}
    atomic_write(FILE, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
    return rows


def versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in PACKAGES}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
