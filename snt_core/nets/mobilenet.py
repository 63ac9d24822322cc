"""MobileNet-V1 (Howard et al. 2017, Table 1) for 32x32 images: a stem without stride.

base:         depthwise 3x3 -> BN -> ReLU -> pointwise 1x1 -> BN -> ReLU
preact, snt:  act -> depthwise -> BN -> act -> pointwise -> BN   (one act before pooling)

`snt-nofinal` is `snt` without that last act.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from snt_core.methods.snt.transform import activation, is_preact
from snt_core.nets.layers import conv_bn, depthwise_bn

VARIANTS = ("base", "preact", "snt", "snt-nofinal")

# output channels and stride of the thirteen blocks
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


class Block(nn.Module):
    """Depthwise and pointwise convolution; `B c_in H W` to `B c_out H/stride W/stride`."""

    def __init__(self, c_in: int, c_out: int, stride: int, variant: str) -> None:
        super().__init__()
        pre = is_preact(variant)
        self.before = activation(variant, c_in) if pre else nn.Identity()
        self.depthwise = depthwise_bn(c_in, 3, stride)
        self.between = activation(variant, c_in)
        self.pointwise = conv_bn(c_in, c_out, 1)
        self.after = nn.Identity() if pre else activation(variant, c_out)

    def forward(self, x: Tensor, *, opened: bool = False, then: nn.Module | None = None) -> Tensor:
        """Return `B c_out H/stride W/stride`.

        With `opened`, `x` has passed `before` already; `then` stands in the place of `after`.
        """
        x = self.depthwise(x if opened else self.before(x), then=self.between)
        return self.pointwise(x, then=self.after if then is None else then)


class MobileNetV1(nn.Module):
    """A stem, thirteen separable blocks from 32x32 to 2x2, mean over positions, classifier."""

    def __init__(self, variant: str, num_classes: int) -> None:
        super().__init__()
        self.pre = pre = is_preact(variant)
        c_in = 32
        self.stem = conv_bn(3, c_in, 3)
        self.stem_act = nn.Identity() if pre else activation(variant, c_in)
        blocks = []
        for c_out, stride in BLOCKS:
            blocks.append(Block(c_in, c_out, stride, variant))
            c_in = c_out
        self.blocks = nn.Sequential(*blocks)
        last = pre and variant != "snt-nofinal"
        self.last_act = activation(variant, c_in) if last else nn.Identity()
        self.head = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `B num_classes` of images `B 3 H W`."""
        blocks = cast("Iterable[Block]", self.blocks)
        # Each activation goes to the normalisation that it follows, whichever block owns it, so
        # that both are one pass.
        if self.pre:
            first, *others = [*(block.before for block in blocks), self.last_act]
        else:
            first, *others = [self.stem_act, *(block.after for block in blocks)]
        x = self.stem(x, then=first)
        for block, act in zip(blocks, others, strict=True):
            x = block(x, opened=True, then=act)
        return self.head(x.mean(dim=(2, 3)))


def mobilenet_v1(variant: str, num_classes: int) -> MobileNetV1:
    """Return a MobileNet-V1: 4.2 M parameters with 1000 classes, 3.2 M with ten."""
    return MobileNetV1(variant, num_classes)
