"""The paper's backbones, each in the variants that its module names.

A backbone is a function `(variant, num_classes) -> nn.Module` of one module of this package, and
one line here. Neither torch nor the module is imported before a net is built.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from snt_core.common.checks import one_of

if TYPE_CHECKING:
    from torch import nn

# of all backbones; each has some of them
VARIANTS = (
    "base",
    "leaky",
    "prelu",
    "eq1",
    "preact",
    "preact-leaky",
    "preact-prelu",
    "snt",
    "snt-nofinal",
    "snt-channels",
)
# name -> "module:function"
MODELS = {
    "resnet20": "resnet:resnet20",
    "resnet18": "resnet:resnet18",
    "resnet18_cifar": "resnet:resnet18_cifar",
    "mobilenet_v1": "mobilenet:mobilenet_v1",
    "mixer_s": "mixer:mixer_s",
    "vit_tiny": "vit:vit_tiny",
    "vit_b16": "vit:vit_b16",
}


def build(model: str, variant: str, num_classes: int, seed: int) -> nn.Module:
    """Return a fresh net; the same seed gives the same weights, and the global RNG is left alone.

    Raises:
        UserError: no such model, or it has no such variant.
    """
    one_of("model", model, MODELS)
    module, function = MODELS[model].split(":")
    home = importlib.import_module(f"{__name__}.{module}")
    one_of(f"variant of {model}", variant, home.VARIANTS)

    import torch

    with torch.random.fork_rng(devices=[]):  # the CPU's alone: nets are made there
        torch.manual_seed(seed)
        return getattr(home, function)(variant, num_classes)
