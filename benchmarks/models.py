"""`python -m benchmarks.models [NET ...]`: every method on nets of timm, torchvision and two of our own.

A cell says "works" where the result was checked, "refused" with the reason where the method says in
a line that it cannot, and "n/a" where the question has no meaning; anything else fails the command.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snt_core as snt
from snt_core.common.vision import torchvision

Data = tuple[Tensor, Tensor]


class Tagger(nn.Module):
    """A tag for each word: embedding, LSTM in both directions, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(100, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.words(tokens))[0])


class Segmenter(nn.Module):
    """A class for each pixel: convolutions down, a transposed convolution up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(16, 5, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


def _timm(name: str) -> nn.Module:
    torchvision()
    import timm

    return timm.create_model(name, num_classes=10)


def _torchvision(name: str) -> nn.Module:
    torchvision()
    from torchvision import models

    return models.get_model(name, num_classes=10)


NETS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"timm {name}": partial(_timm, name)
        for name in (
            "resnet18", "mobilenetv3_small_100", "efficientnet_b0", "convnext_tiny",
            "vit_tiny_patch16_224", "deit_small_distilled_patch16_224",
            "swin_tiny_patch4_window7_224", "mixer_b16_224", "regnety_004",
        )
    },
    **{f"torchvision {n}": partial(_torchvision, n) for n in ("vit_b_16", "mobilenet_v3_small", "swin_t")},
    "LSTM tagger": Tagger,
    "segmentation net": Segmenter,
}  # fmt: skip


def data_for(name: str) -> tuple[Data, snt.Task]:
    """Return a few samples of noise that fit the net, and its task."""
    if name == "LSTM tagger":
        task = snt.Task(loss_fn=lambda out, tags: F.cross_entropy(out.mT, tags))
        return (torch.randint(100, (4, 6)), torch.randint(7, (4, 6))), task
    if name == "segmentation net":
        task = snt.Task(loss_fn=F.cross_entropy)
        return (torch.randn(4, 3, 16, 16), torch.randint(5, (4, 16, 16))), task
    return (torch.randn(4, 3, 224, 224), torch.randint(10, (4,))), snt.Task()
