"""ResNet-20 on one CUDA card, alone, several at once, and a whole training; peer: a DataLoader."""

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
from snt_core.data.load import load
from snt_core.data.split import Dataset
from snt_core.nets import build
from snt_core.training.engine import detect
from snt_core.training.fit import fit
from snt_core.training.recipe import Recipe

STEPS = 351  # an epoch
ROUNDS = 5
WORKERS = 15  # of the DataLoader, at most
AT_ONCE = 4  # as `snt run` has it by default
EPOCHS = 200


def rows(log: Callable[[str], None]) -> list[Row]:
    engine = detect()
    if engine.device != "cuda":
        raise UserError("the area 'card' measures a CUDA card, and there is none here")
    data = load("cifar10", 5000)
    all_cores()  # for the DataLoader's workers
    contenders = {
        "ours": _finished(ours("resnet20", data, STEPS, engine)),
        "loader": _finished(_peer(data)),
    }
    seconds = medians(in_turn(contenders, ROUNDS))
    one_core()
    rate = {name: round(STEPS * BATCH / s, 1) for name, s in seconds.items()}
    log(f"resnet20 on {torch.cuda.get_device_name()}: {rate} images/s")
    together = children("benchmarks.card", [[]] * AT_ONCE)
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
        "at_once": len(together),
        "together": round(sum(child["rate"] for child in together), 1),
        "seconds_for_200_epochs": round(time.perf_counter() - started, 1),
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
    """One of several processes that share the card: its rate over 20 seconds."""
    run = _finished(ours("resnet20", load("cifar10", 5000), STEPS, detect()))
    run()
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < 20:
        run()
        count += STEPS
    print(json.dumps({"rate": count * BATCH / elapsed}))


if __name__ == "__main__":
    main()
