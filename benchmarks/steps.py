"""What a step of SAM and of SNT costs, in steps of Adam."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_optimizer
import torch
import torch.nn.functional as F

from benchmarks.measure import Row, in_turn, medians, quotient
from snt_core.data.load import load
from snt_core.data.split import normalise
from snt_core.fast.fused import fuse
from snt_core.methods.optim.sam import SAM
from snt_core.nets import build
from snt_core.training.engine import detect
from snt_core.training.fit import optimizer_for, update
from snt_core.training.recipe import Recipe

NETS = ("resnet20", "mixer_s", "mobilenet_v1")
BATCH = 128
ROUNDS = 15


def rows(log: Callable[[str], None]) -> list[Row]:
    sam, sam_peer, snt, snt_eager = {}, {}, {}, {}
    for model in NETS:
        seconds = in_turn(_steps(model), ROUNDS)
        sam[model] = quotient(seconds, "sam", "adam")
        sam_peer[model] = quotient(seconds, "peer's sam", "adam")
        snt[model] = quotient(seconds, "snt", "adam")
        snt_eager[model] = quotient(seconds, "snt eager", "adam eager")
        log(f"{model}: { {k: round(1000 * s, 1) for k, s in medians(seconds).items()} } ms")
    alone, peers_alone = _updates_alone()
    log(f"SAM's update without gradients: {alone:.2f} of fused Adam's, peer {peers_alone:.2f}")
    facts = {"unit": "steps of Adam", "runs": ROUNDS, "less_is_better": True}
    return [
        Row(
            work="sam-step",
            ours=sam["resnet20"],
            peer=sam_peer["resnet20"],
            also={
                **_others(sam),
                "update_alone": round(alone, 3),
                "peers_update_alone": round(peers_alone, 3),
            },
            **facts,
        ),
        Row(
            work="snt-step",
            ours=snt["resnet20"],
            peer=snt_eager["resnet20"],
            also={**_others(snt), "eager": {k: round(v, 3) for k, v in snt_eager.items()}},
            **facts,
        ),
    ]


def _others(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in found.items() if name != "resnet20"}


def _steps(model: str) -> dict[str, Callable[[], object]]:
    """One optimizer step of each contender on the same batch, bf16 where ours is."""
    data = load("cifar10", 5000)
    engine = detect(device="cpu")
    part = data.train[:BATCH]
    images, labels = normalise(part.images, data.facts), part.labels

    def step(variant: str, fused: bool, optimizer: str = "adam") -> Callable[[], object]:
        net = build(model, variant, 10, 0).to(memory_format=torch.channels_last).train()
        fuse(net, fused and engine.fused)
        if optimizer == "peer":
            peer = pytorch_optimizer.SAM(
                optimizer_for(net, Recipe(epochs=1, lr=1e-4)).param_groups,
                torch.optim.AdamW,
                rho=0.05,
                fused=True,
            )

            def closure() -> torch.Tensor:
                peer.zero_grad()
                with engine.autocast():
                    loss = F.cross_entropy(net(images), labels)
                loss.backward()
                return loss

            return lambda: (closure(), peer.step(closure))
        rho = 0.05 if optimizer == "sam" else 0.0
        ours = optimizer_for(net, Recipe(epochs=1, lr=1e-4, optimizer=optimizer, rho=rho))
        return lambda: update(net, ours, engine, images, labels)

    return {
        "adam": step("base", True),
        "sam": step("base", True, "sam"),
        "peer's sam": step("base", True, "peer"),
        "snt": step("snt", True),
        "adam eager": step("base", False),
        "snt eager": step("snt", False),
    }


def _updates_alone() -> tuple[float, float]:
    """SAM's step without its two gradients, over fused Adam's: ours and the peer's."""
    net = build("resnet20", "base", 10, 0)
    params = list(net.parameters())
    grads = [torch.randn_like(p) for p in params]
    loss = torch.zeros(())

    def closure() -> torch.Tensor:
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad
        return loss

    def adam() -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, lr=1e-6, fused=True)

    plain, sam = adam(), SAM(adam(), rho=0.05, model=net)
    peer = pytorch_optimizer.SAM(params, torch.optim.AdamW, rho=0.05, lr=1e-6, fused=True)
    contenders = {
        "sam": lambda: sam.step(closure),
        "peer": lambda: (closure(), peer.step(closure)),
        "adam": lambda: (closure(), plain.step()),
    }
    seconds = in_turn(contenders, 200)
    return quotient(seconds, "sam", "adam"), quotient(seconds, "peer", "adam")
