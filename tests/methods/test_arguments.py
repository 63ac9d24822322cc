"""Arguments that are no numbers are refused in a line, by the name of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import snt_core as snt
from snt_core.common.arguments import require_number, require_whole
from snt_core.common.vision import torchvision
from snt_core.methods.compress.prune import prune_iterative, prune_sweep
from snt_core.methods.compress.pruner import MagnitudePruner
from snt_core.methods.compress.token_vit import merge_tokens, prune_tokens
from snt_core.methods.curvature.lambda_max import hvp
from snt_core.methods.export.latency import latency
from snt_core.methods.export.packed import packed_bytes

NO_WHOLE = [2.5, 3.0, "3", True, None, torch.tensor([1, 2]), torch.tensor(2.5)]
NO_NUMBER = ["1", True, None, torch.tensor([0.5, 0.6]), [0.5], 1j]
X, Y = torch.randn(12, 4), torch.arange(12) % 3


@pytest.mark.parametrize("value", NO_WHOLE, ids=str)
def test_what_is_no_whole_number_is_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"^steps is [^\n]+; it must be a whole number$"):
        require_whole(steps=value)


@pytest.mark.parametrize("value", NO_NUMBER, ids=str)
def test_what_is_no_number_is_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"^rho is [^\n]+; it must be a number$"):
        require_number(rho=value)


@pytest.mark.parametrize("value", [0, -3, np.int64(3), torch.tensor(3), 10**30])
def test_whole_numbers_of_any_library_pass(value: object) -> None:
    require_whole(steps=value)
    require_number(steps=value)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), float("inf")])
def test_numbers_of_any_library_pass(value: object) -> None:
    require_number(rho=value)


def net() -> nn.Module:
    return nn.Linear(4, 3)


def vit(layers: int = 1) -> nn.Module:
    return torchvision().models.VisionTransformer(8, 4, layers, 2, 8, 16, num_classes=3)


def complex_buffer() -> nn.Module:
    model = net()
    model.register_buffer("odd", torch.zeros(2, dtype=torch.complex128))
    return model


WHOLE, NUMBER = "must be a whole number", "must be a number"
CALLS: dict[str, tuple[Callable[..., Any], str]] = {
    "max_products": (lambda: snt.lambda_max(net(), (X, Y), max_products=2.5), WHOLE),
    "seed": (lambda: snt.lambda_max(net(), (X, Y), seed=1.5), WHOLE),
    "tolerance": (lambda: snt.lambda_max(net(), (X, Y), tolerance="a"), NUMBER),
    "scale": (lambda: snt.lambda_max(net(), (X, Y), scale=[1.0]), "is a list, not a tensor"),
    "the vector": (lambda: hvp(net(), (X, Y), [1.0]), "is a list, not a tensor"),
    "dtype": (lambda: snt.lambda_max(net(), (X, Y), dtype="bfloat16"), "must be None or one of"),
    "dtype is torch.int8": (
        lambda: snt.lambda_max(net(), (X, Y), dtype=torch.int8),
        "must be None or one of",
    ),
    "probes": (lambda: snt.hessian_trace(net(), (X, Y), probes=2.5), WHOLE),
    "probes is": (lambda: snt.spectral_density(net(), (X, Y), probes="2"), WHOLE),
    "steps": (lambda: snt.spectral_density(net(), (X, Y), steps=2.5), WHOLE),
    "points": (lambda: snt.loss_surface(net(), (X, Y), points=3.0), WHOLE),
    "span": (lambda: snt.loss_surface(net(), (X, Y), span="1"), NUMBER),
    "rho": (lambda: snt.adaptive_sharpness(net(), (X, Y), rho="1"), NUMBER),
    "r is 2.5": (lambda: merge_tokens(vit(), 2.5), WHOLE),
    "r is '2'": (lambda: merge_tokens(vit(), "2"), WHOLE),
    "keep_ratio": (lambda: prune_tokens(vit(), "0.5"), NUMBER),
    "the model has no block": (lambda: prune_tokens(vit(0), 0.5), "dropped within blocks"),
    "steps is '3'": (lambda: MagnitudePruner(net(), 0.5, steps="3"), WHOLE),
    "sparsities is 0.5": (lambda: list(prune_sweep(net(), 0.5)), "must be several numbers"),
    "sparsities": (lambda: list(prune_iterative(net(), 0.5, print)), "must be several numbers"),
    "sparsity": (lambda: snt.prune_magnitude(net(), torch.tensor([0.5, 0.6])), NUMBER),
    "percentile": (
        lambda: snt.quantize_static(net(), X, weight_bits=8, act_bits=8, percentile="99"),
        NUMBER,
    ),
    "slope": (lambda: snt.to_snt(net(), X, slope=[0.1, 0.2]), NUMBER),
    "threads": (lambda: latency(net(), net(), X, threads=1.5), WHOLE),
    "'odd' is torch.complex128": (lambda: packed_bytes(complex_buffer()), "cannot keep"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_named_in_a_line(name: str) -> None:
    call, what = CALLS[name]
    with pytest.raises(ValueError, match=rf"^{name}[^\n]*{what}[^\n]*$"):
        call()
