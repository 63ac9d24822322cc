"""The paper's backbones, each as `base`, `preact` and `snt`."""

from __future__ import annotations

import torch
from torch import nn

from snt_core.models.resnet import resnet20

_BUILDERS = {"resnet20": resnet20}


def build(model: str, variant: str, num_classes: int, seed: int) -> nn.Module:
    """Fresh net; the same seed gives the same weights, and the global RNG is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _BUILDERS[model](variant, num_classes)
