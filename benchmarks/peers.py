"""What others do: recipes as they are commonly published, written anew, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from snt_core.common.vision import torchvision
from snt_core.data.facts import Facts
from snt_core.data.split import Split
from snt_core.nets import build
from snt_core.nets.layers import DepthwiseConv2d


class Pictures(Dataset):
    """Images as torchvision's CIFAR gives them: one PIL image at a time."""

    def __init__(self, split: Split, transform: Callable[[Any], Tensor]) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image) for image in split.images[:10_000].numpy()]
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(self.images[i]), self.labels[i]


def loader_batches(
    split: Split, facts: Facts, batch_size: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches without end from a DataLoader."""
    torchvision()
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(facts.mean, facts.std),
        ]
    )
    pictures = Pictures(split, transform)
    kept = {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": workers > 0}
    loader = DataLoader(pictures, batch_size, shuffle=True, drop_last=True, **kept)
    while True:
        yield from loader


def plain_net(model: str, variant: str, num_classes: int) -> nn.Module:
    """The net of plain PyTorch layers: no depthwise layer of ours, timm's own attention."""
    net = build(model, variant, num_classes, 0).train()
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DepthwiseConv2d):
                args = (child.in_channels, child.out_channels, child.kernel_size, child.stride)
                conv = nn.Conv2d(*args, child.padding, groups=child.groups, bias=False)
                conv.load_state_dict(child.state_dict())
                if isinstance(module, nn.Sequential):
                    module[int(name)] = conv
                else:
                    setattr(module, name, conv)
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    return net


def train_step(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, *, bf16: bool = False
) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
