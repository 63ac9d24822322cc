"""lambda_max of a trained ResNet-20 on 500 images of CIFAR-100, against PyHessian."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import Row, all_cores, children, in_turn, medians, one_core
from snt_core.common.checks import one_of
from snt_core.data.load import load
from snt_core.data.split import normalise
from snt_core.methods.curvature.lambda_max import lambda_max
from snt_core.nets import build
from snt_core.runs.provenance import peak_memory
from snt_core.runs.store import open_store

RUNS = 3
TOLERANCES = {  # relative residuals whose error is below 0.1 % and 1 %
    torch.float32: 2e-2,
    torch.bfloat16: 5e-2,
}


def rows(log: Callable[[str], None], only: str = "") -> list[Row]:
    """On 500 images, and on 10,000 unless `only` is "500"."""
    if only:
        one_of("number of images", only, ("500",))
    net, images, labels, preprocess = trained(500)
    values: dict[str, float] = {}

    def ours(dtype: torch.dtype) -> None:
        found = lambda_max(
            net,
            (images, labels),
            start="sketch",
            preprocess=preprocess,
            tolerance=TOLERANCES[dtype],
            dtype=None if dtype == torch.float32 else dtype,
        )
        values[str(dtype)] = found.value

    def peer() -> None:
        from pyhessian import hessian

        loader = [
            (preprocess(images[i : i + 125]).contiguous(), labels[i : i + 125])
            for i in range(0, 500, 125)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            product = hessian(net, torch.nn.CrossEntropyLoss(), dataloader=loader, cuda=False)
            values["pyhessian"] = product.eigenvalues(maxIter=200, tol=1e-4)[0][0]
        net.zero_grad()

    contenders = {
        "fp32": lambda: ours(torch.float32),
        "bf16": lambda: ours(torch.bfloat16),
        "pyhessian": peer,
    }
    seconds = medians(in_turn(contenders, RUNS))
    exact = lambda_max(net, (images, labels), preprocess=preprocess, tolerance=1e-4).value
    errors = {name: abs(value / exact - 1) for name, value in values.items()}
    log(f"{seconds} s; relative errors {errors}")
    also = {}
    if not only:
        large = children("benchmarks.hessian", [[]])[0]
        log(f"10,000 images: {large}")
        also = {"seconds_for_10000_images": large["seconds"], "n_10000": large}
    facts = {"peer": seconds["pyhessian"], "unit": "s", "runs": RUNS, "less_is_better": True}
    peer_error = {"peer_error": errors["pyhessian"]}
    return [
        Row(
            work="lambda-max-fp32",
            ours=seconds["fp32"],
            also={"error": errors["torch.float32"], **peer_error},
            **facts,
        ),
        Row(
            work="lambda-max-bf16",
            ours=seconds["bf16"],
            also={"error": errors["torch.bfloat16"], **peer_error, **also},
            **facts,
        ),
    ]


def trained(n: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor, Any]:
    """ADAM's ResNet-20 of profile cifar, and the first training images of CIFAR-100."""
    store = open_store()
    records = [r for r in store.records() if r.profile == "cifar"]
    nets = [r.spec for r in records if r.spec.kind == "train" and r.spec.data == "cifar100"]
    spec = next(spec for spec in nets if spec.approach == "adam" and spec.seed == 0)
    net = build(spec.model, spec.variant, 100, 0)
    net.load_state_dict(store.get_weights(spec))
    data = load(spec.data, spec.val_size)
    part = data.train[:n]
    net = net.eval().to(memory_format=torch.channels_last)
    return net, part.images, part.labels, lambda x: normalise(x, data.facts)


def main() -> None:
    """10,000 images on all cores, in bfloat16: seconds and memory in a process of its own."""
    one_core()
    all_cores()
    torch.set_num_threads(os.cpu_count() or 1)
    net, images, labels, preprocess = trained(10_000)
    options = {"preprocess": preprocess, "dtype": torch.bfloat16}
    lambda_max(net, (images[:500], labels[:500]), max_products=1, **options)
    before = peak_memory("cpu")
    started = time.perf_counter()
    tolerance = TOLERANCES[torch.bfloat16]
    found = lambda_max(net, (images, labels), start="sketch", tolerance=tolerance, **options)
    facts = {
        "seconds": round(time.perf_counter() - started, 1),
        "value": found.value,
        "products": found.products,
        "peak_rss_mb": round(peak_memory("cpu") / 2**20),
        "growth_after_500_mb": round((peak_memory("cpu") - before) / 2**20),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
