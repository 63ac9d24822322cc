"""A small convolutional net, and images for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6 * 16, 5),
    )


def images(n: int = 13) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
