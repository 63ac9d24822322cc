"""Training: images per second and core, against a DataLoader and float32."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.measure import Row, children, in_turn, medians, one_core
from benchmarks.peers import loader_batches, plain_net, train_step
from snt_core.common.checks import one_of
from snt_core.data.load import load
from snt_core.data.split import Dataset
from snt_core.fast.fused import fuse
from snt_core.nets import build
from snt_core.runs.provenance import peak_memory
from snt_core.training.batches import batches
from snt_core.training.engine import Engine, detect
from snt_core.training.evaluate import evaluate
from snt_core.training.fit import fit, optimizer_for, stepper
from snt_core.training.recipe import Recipe

NETS = {  # net -> (row, steps of a round)
    "resnet20": ("resnet20-train", 6),
    "mixer_s": ("mixer-train", 4),
    "mobilenet_v1": ("mobilenet-train", 4),
    "vit_tiny": ("vit-train", 2),
}
BATCH = 128
ROUNDS = 5


def rows(log: Callable[[str], None], only: str = "") -> list[Row]:
    """All nets, or one of them."""
    if only:
        one_of("net", only, NETS)
    data = load("cifar10", 5000)
    found = []
    for model, (work, steps) in NETS.items():
        if only not in ("", model):
            continue
        contenders = {
            "ours": ours(model, data, steps, detect(device="cpu")),
            "loader fp32": peer(model, data, steps, loader=True),
            "eager fp32": peer(model, data, steps),
            "eager bf16": peer(model, data, steps, bf16=True),
        }
        seconds = medians(in_turn(contenders, ROUNDS))
        rate = {name: round(steps * BATCH / s, 1) for name, s in seconds.items()}
        side_by_side = children("benchmarks.training", [[model], [model]])
        also = {
            "eager_fp32": rate["eager fp32"],
            "eager_bf16": rate["eager bf16"],
            "ratio_to_eager_fp32": round(rate["ours"] / rate["eager fp32"], 3),
            "ratio_to_eager_bf16": round(rate["ours"] / rate["eager bf16"], 3),
            "two_processes": round(sum(child["rate"] for child in side_by_side), 1),
            "peak_rss_mb": max(child["peak_rss_mb"] for child in side_by_side),
        }
        if model == "resnet20" and not only:  # it takes minutes
            also["top1_after_an_epoch"] = _agreement(data)
        log(f"{model}: {rate} {also}")
        found.append(
            Row(
                work=work,
                ours=rate["ours"],
                peer=rate["loader fp32"],
                unit="images/s a core",
                runs=ROUNDS,
                also=also,
            )
        )
    return found


def ours(model: str, data: Dataset, steps: int, engine: Engine) -> Callable[[], None]:
    """Steps of the project's own training loop as it runs by default."""
    recipe = Recipe(epochs=1, lr=1e-3)
    net = build(model, "base", data.facts.num_classes, 0).to(engine.device)
    net = fuse(net.train(), engine.fused).to(memory_format=torch.channels_last)
    step = stepper(net, optimizer_for(net, recipe), engine)
    stream = batches(data.to(engine.device), recipe, 0, 0, 10**6)

    def run() -> None:
        for _ in range(steps):
            _, images, labels = next(stream)
            step(images, labels)

    return run


def peer(
    model: str, data: Dataset, steps: int, *, loader: bool = False, bf16: bool = False
) -> Callable[[], None]:
    """Plain PyTorch: Adam, default memory format; with or without the time of a DataLoader."""
    net = plain_net(model, "base", data.facts.num_classes)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    stream = loader_batches(data.train, data.facts, BATCH)
    one = next(stream)

    def run() -> None:
        for _ in range(steps):
            train_step(net, optimizer, *(next(stream) if loader else one), bf16=bf16)

    return run


def _agreement(data: Dataset) -> dict[str, float]:
    """Test accuracy after one epoch from the same start on the same batches."""
    found = {}
    for name in ("fast", "exact"):
        engine = detect(exact=name == "exact", device="cpu")
        net = build("resnet20", "base", data.facts.num_classes, 0)
        recipe = Recipe(epochs=1, lr=1e-2, warmup_epochs=0.2, weight_decay=0.05)
        fit(net, data, recipe, engine, seed=0)
        found[name] = round(evaluate(net, data.test, data.facts).top1, 2)
    return found


def main(model: str) -> None:
    """One of several processes side by side: its rate over 20 seconds, and its memory."""
    one_core()
    steps = NETS[model][1]
    run = ours(model, load("cifar10", 5000), steps, detect(device="cpu"))
    run()
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < 20:
        run()
        count += steps
    found = {"rate": count * BATCH / elapsed, "peak_rss_mb": round(peak_memory("cpu") / 2**20)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
