"""What a user may bring to an audit: a file with nets and loaders, right and wrong; images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, {classes}))

class Answers(dict):
    pass

class Hub(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = make()
    def forward(self, pixel_values):
        return {{"logits": self.inner(pixel_values)}}

def broken():
    x = 1
    raise KeyError("no such thing")

def text():
    return "a net"

def one_output():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(1))

def pairs():
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 3, 16, 16, generator=g), torch.arange(4) % {classes}) for _ in range(3)]

def dicts():
    return [{{"pixel_values": x, "labels": y}} for x, y in pairs()]

def nothing():
    return []

def out_of_range():
    return [(x, y + 100) for x, y in pairs()]

def not_a_number():
    found = pairs()
    found[1][0][2, 0, 0, 0] = float("nan")
    return found

def diverged():
    net = make()
    net[0].weight.data[0, 0, 0, 0] = float("inf")
    return net

def overflows():
    net = make()
    net[0].weight.data.fill_(1e30)
    net[4].weight.data.fill_(1e30)
    return net

def soft():
    return [(x, torch.randn(4, {classes})) for x, _ in pairs()]

def strings():
    return [("a", "b")]
"""


def images(folder: Path, *classes: str, each: int = 2) -> Path:
    """Write small images of noise into class folders, and return the folder of these."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.jpg")
    return folder
