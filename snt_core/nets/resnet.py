"""ResNet-20 for 32x32 images and ResNet-18 (He et al. 2016), with the paper's Fig. 4 variants.

base:         conv -> BN -> ReLU -> conv -> BN, + shortcut, ReLU
preact, snt:  act -> conv -> BN -> act -> conv -> BN, + shortcut   (one act before pooling)

`snt-nofinal` is `snt` without that last act. `leaky`, `prelu` and `eq1` are `base` with another
activation than ReLU, `preact-leaky` and `preact-prelu` are `preact` with it.
"""

from __future__ import annotations

from torch import Tensor, nn

from snt_core.methods.snt.transform import POST_ACTIVATION, activation, is_preact
from snt_core.nets.layers import conv_bn

# order x activation, from ReLU to Eq. (1); `base` and `snt` are the corners that the paper compares
VARIANTS = (
    *POST_ACTIVATION,
    *("preact", "preact-leaky", "preact-prelu", "snt"),
    "snt-nofinal",
)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; `B c_in H W` to `B c_out H/stride W/stride`."""

    def __init__(self, c_in: int, c_out: int, stride: int, variant: str) -> None:
        super().__init__()
        pre = is_preact(variant)
        self.before = activation(variant, c_in) if pre else nn.Identity()
        self.conv1 = conv_bn(c_in, c_out, 3, stride)
        self.between = activation(variant, c_out)
        self.conv2 = conv_bn(c_out, c_out, 3)
        # Linear, so that additions join linear operations only (section 4.1).
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else conv_bn(c_in, c_out, 1, stride)
        self.after = nn.Identity() if pre else activation(variant, c_out)

    def forward(self, x: Tensor) -> Tensor:
        # The shortcut takes x itself, not before(x), and so stays linear.
        y = self.conv1(self.before(x), then=self.between)
        return self.conv2(y, plus=self.shortcut(x), then=self.after)


class ResNet(nn.Module):
    """A stem, stages that each halve the size but the first, mean over positions, classifier.

    Args:
        blocks: how many each stage has.
        widths: channels of each stage.
        imagenet: stem of 7x7 convolution and max pooling, each of stride 2, in place of 3x3.
    """

    def __init__(
        self,
        blocks: int,
        widths: tuple[int, ...],
        variant: str,
        num_classes: int,
        *,
        imagenet: bool = False,
    ) -> None:
        super().__init__()
        pre = is_preact(variant)
        c_in = widths[0]
        self.stem = conv_bn(3, c_in, 7, 2) if imagenet else conv_bn(3, c_in, 3)
        self.stem_act = nn.Identity() if pre else activation(variant, c_in)
        self.stem_pool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        stages = []
        for width in widths:
            stride = 1 if width == widths[0] else 2
            stages += [Block(c_in, width, stride, variant)]
            stages += [Block(width, width, 1, variant) for _ in range(blocks - 1)]
            c_in = width
        self.stages = nn.Sequential(*stages)
        last = pre and variant != "snt-nofinal"
        self.last_act = activation(variant, c_in) if last else nn.Identity()
        self.head = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `B num_classes` of images `B 3 H W`."""
        x = self.stages(self.stem_pool(self.stem(x, then=self.stem_act)))
        return self.head(self.last_act(x).mean(dim=(2, 3)))


def resnet20(variant: str, num_classes: int) -> ResNet:
    """Return ResNet-20 for 32x32 images: 0.27 M parameters, as in He et al. 2016, Table 6."""
    return ResNet(3, (16, 32, 64), variant, num_classes)


def resnet18(variant: str, num_classes: int) -> ResNet:
    """Return ResNet-18 for 224x224 images (He et al. 2016, Table 1): 11.7 M with 1000 classes."""
    return ResNet(2, (64, 128, 256, 512), variant, num_classes, imagenet=True)


def resnet18_cifar(variant: str, num_classes: int) -> ResNet:
    """Return ResNet-18 with ResNet-20's stem, for 32x32 images: 11.2 M parameters."""
    return ResNet(2, (64, 128, 256, 512), variant, num_classes)
