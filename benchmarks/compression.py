"""One-shot sweeps, and inference with fake quantization."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmarks.measure import Row, in_turn, medians, quotient
from snt_core.data.load import load
from snt_core.data.split import Dataset, Split, normalise
from snt_core.methods.compress.activations import quantize_static
from snt_core.nets import build
from snt_core.runs.kinds._sweep import TENTHS
from snt_core.runs.kinds.one_shot import evaluations
from snt_core.runs.store import open_store
from snt_core.training.engine import detect

LAYERS = (nn.Conv2d, nn.Linear)
APPROACHES = ("adam", "sam", "arch")


def rows(log: Callable[[str], None]) -> list[Row]:
    data = load("cifar10", 5000)
    return [_sweep(data, log), _fake_quant(data, log)]


def _trained(approach: str) -> nn.Module:
    """A net of profile cifar on CIFAR-10."""
    store = open_store()
    nets = [r.spec for r in store.records("cifar") if r.spec.kind == "train"]
    spec = next(
        s
        for s in nets
        if (s.data, s.model, s.approach, s.seed) == ("cifar10", "resnet20", approach, 0)
    )
    net = build(spec.model, spec.variant, 10, 0)
    net.load_state_dict(store.get_weights(spec))
    return net.eval()


# one-shot sweep -----------------------------------------------------------------------------


def _sweep(data: Dataset, log: Callable[[str], None]) -> Row:
    net, engine = _trained("adam"), detect(device="cpu")
    some = data.test[:1000]
    contenders = {
        "ours": lambda: list(evaluations(net, TENTHS, some, data.facts, engine)),
        "peer": lambda: list(_peer_sweep(net, some, data)),
    }
    rounds = 5
    seconds = medians(in_turn(contenders, rounds))
    log(f"sweep of 1,000 images: {seconds} s")
    largest = {}
    for approach in APPROACHES:
        net = _trained(approach)
        fast = list(evaluations(net, TENTHS, data.test, data.facts, engine))
        exact = list(evaluations(net, TENTHS, data.test, data.facts, detect(exact=True)))
        gaps = [abs(f.top1 - e.top1) for f, e in zip(fast, exact, strict=True)]
        largest[approach] = round(max(gaps), 3)
        log(f"{approach}: points apart from float32 {[round(gap, 2) for gap in gaps]}")
    return Row(
        work="one-shot-sweep",
        ours=seconds["ours"],
        peer=seconds["peer"],
        unit="s",
        runs=rounds,
        less_is_better=True,
        also={"largest_difference_in_points": max(largest.values()), "by_net": largest},
    )


@torch.no_grad()
def _peer_sweep(net: nn.Module, split: Split, data: Dataset) -> Iterator[float]:
    """`torch.nn.utils.prune` on a copy for each sparsity, then a float32 evaluation."""
    for sparsity in (0.0, *TENTHS):
        pruned = copy.deepcopy(net)
        weights = [(m, "weight") for m in pruned.modules() if isinstance(m, LAYERS)]
        prune.global_unstructured(weights, prune.L1Unstructured, amount=sparsity)
        for module, name in weights:
            prune.remove(module, name)
        right = 0
        for part in split.batches(500):
            x = normalise(part.images, data.facts).contiguous()
            right += int((pruned(x).argmax(1) == part.labels).sum())
        yield 100 * right / len(split)


# fake quantization --------------------------------------------------------------------------


def _fake_quant(data: Dataset, log: Callable[[str], None]) -> Row:
    net = _trained("adam").to(memory_format=torch.channels_last)
    part = data.train[:512]
    images = normalise(part.images[:128], data.facts)
    options = {"weight_bits": 8, "act_bits": 8, "preprocess": lambda x: normalise(x, data.facts)}
    ours = quantize_static(net, part.images, **options)
    peer = _published(ours)
    nets = {"float": net, "ours": ours, "peer": peer}
    rounds = 15
    with torch.no_grad():
        seconds = in_turn({k: lambda m=m: m(images) for k, m in nets.items()}, rounds)
    log(f"quantized inference: { {k: round(1000 * s, 1) for k, s in medians(seconds).items()} } ms")
    return Row(
        work="fake-quant",
        ours=quotient(seconds, "float", "ours"),
        peer=quotient(seconds, "float", "peer"),
        unit="share of float32's speed",
        runs=rounds,
    )


def _published(quantized: nn.Module) -> nn.Module:
    """The same levels through PyTorch's own fake quantization, in hooks before the layers."""
    model = copy.deepcopy(quantized)
    for module in model.modules():
        if hasattr(module, "act_quantizer"):
            quantizer = module.act_quantizer
            scale, zero = float(quantizer.scale), int(quantizer.zero_point)
            top = 2**quantizer.act_bits - 1
            del module.act_quantizer
            module._forward_pre_hooks.clear()
            module.register_forward_pre_hook(_hook(scale, zero, top))
    return model


def _hook(scale: float, zero: int, top: int) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    def quantize(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (torch.fake_quantize_per_tensor_affine(args[0], scale, zero, 0, top),)

    return quantize
