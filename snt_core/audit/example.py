"""A net to show an audit with: small, trained within a second or two on scikit-learn's digits."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.data.digits import raw

TRAIN = 1200  # of the 1,797 digits; the rest is looked at


class DigitNet(nn.Module):
    """Three convolutions and a linear layer for digits of 8 x 8 pixels, B 1 8 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(1, 16, 1)
        self.wide = _layer(16, 32, 2)
        self.deep = _layer(32, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(self.wide(self.stem(x))).mean((2, 3)))


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def digits() -> tuple[Tensor, Tensor]:
    """Return digits that the net was not trained on, N 1 8 8, and what they are."""
    images, labels = _all()
    return images[TRAIN:], labels[TRAIN:]


def trained() -> nn.Module:
    """Return the net after a few epochs of Adam."""
    images, labels = (one[:TRAIN] for one in _all())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small that more would wait for each other
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DigitNet()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(6):
            for rows in torch.randperm(TRAIN).split(200):
                optimizer.zero_grad()
                F.cross_entropy(model(images[rows]), labels[rows]).backward()
                optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()


@cache
def _all() -> tuple[Tensor, Tensor]:
    images, labels = raw()
    return torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 8 - 1, torch.tensor(labels)
