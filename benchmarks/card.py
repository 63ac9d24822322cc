"""ResNet-20 on one CUDA card, alone, several at once, and in training; peer: a DataLoader.

Images are noise: speed does not depend on what they show, and a lent card has no data set on it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import islice

import torch

from benchmarks.measure import CORES, Row, all_cores, children, in_turn, medians, one_core
from benchmarks.peers import loader_batches, plain_net, train_step
from benchmarks.training import BATCH, ours
from snt_core.common.errors import UserError
from snt_core.data.facts import FACTS
from snt_core.data.split import Dataset, Split
from snt_core.nets import build
from snt_core.training.engine import detect
from snt_core.training.fit import fit
from snt_core.training.recipe import Recipe

STEPS = 117  # a third of an epoch
ROUNDS = 5
WORKERS = 15  # of the DataLoader, at most
AT_ONCE = (4, 12)  # processes; `snt run` has 4 by default
SECONDS = 6  # that each of them works
EPOCHS = 10


def rows(log: Callable[[str], None]) -> list[Row]:
    engine = detect()
    if engine.device != "cuda":
        raise UserError("the area 'card' measures a CUDA card, and there is none here")
    data = noise()
    all_cores()  # for the DataLoader's workers
    contenders = {
        "ours": _finished(ours("resnet20", data, STEPS, engine)),
        "loader": _finished(_peer(data)),
    }
    seconds = medians(in_turn(contenders, ROUNDS))
    one_core()
    rate = {name: round(STEPS * BATCH / s, 1) for name, s in seconds.items()}
    log(f"resnet20 on {torch.cuda.get_device_name()}: {rate} images/s")
    together = {
        f"together_{n}": round(
            sum(child["rate"] for child in children("benchmarks.card", [[]] * n)), 1
        )
        for n in AT_ONCE
    }
    started = time.perf_counter()
    fit(
        build("resnet20", "base", 10, 0),
        data.to(engine.device),
        Recipe(epochs=EPOCHS, lr=1e-2, warmup_epochs=1, weight_decay=0.05),
        engine,
        seed=0,
    )
    also = {
        "card": torch.cuda.get_device_name(),
        **together,
        "seconds_an_epoch": round((time.perf_counter() - started) / EPOCHS, 2),
    }
    log(str(also))
    return [
        Row(
            work="resnet20-card",
            ours=rate["ours"],
            peer=rate["loader"],
            unit="images/s a card",
            runs=ROUNDS,
            also=also,
        )
    ]


def noise() -> Dataset:
    """A data set of CIFAR-10's size whose pixels and labels are random."""
    draw = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        images = torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=draw)
        return Split(images, torch.randint(0, 10, (n,), generator=draw))

    return Dataset("noise", split(45_000), split(5_000), split(10_000), FACTS["cifar10"], "")


def _finished(run: Callable[[], None]) -> Callable[[], None]:
    """`run`, and what it has sent to the card."""

    def both() -> None:
        run()
        torch.cuda.synchronize()

    return both


def _peer(data: Dataset) -> Callable[[], None]:
    """Plain PyTorch as it comes (TF32 in convolutions), the DataLoader with a core for a worker."""
    net = plain_net("resnet20", "base", data.facts.num_classes).cuda()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    workers = max(1, min(len(CORES) - 1, WORKERS))
    stream = loader_batches(data.train, data.facts, BATCH, workers=workers)

    def run() -> None:
        for images, labels in islice(stream, STEPS):
            train_step(net, optimizer, images.cuda(), labels.cuda())

    return run


def main() -> None:
    """One of several processes that share the card: its rate over some seconds."""
    run = _finished(ours("resnet20", noise(), STEPS, detect()))
    run()
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < SECONDS:
        run()
        count += STEPS
    print(json.dumps({"rate": count * BATCH / elapsed}))


if __name__ == "__main__":
    main()
