"""ResNet-20 for 32x32 images (He et al. 2016, section 4.2), with the paper's Fig. 4 variants.

base:         conv -> BN -> ReLU -> conv -> BN, + shortcut, ReLU
preact, snt:  act -> conv -> BN -> act -> conv -> BN, + shortcut   (one act before pooling)
"""

from __future__ import annotations

from torch import Tensor, nn

from snt_core.transform import activation, is_preact


def _conv_bn(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; `B c_in H W` to `B c_out H/stride W/stride`."""

    def __init__(self, c_in: int, c_out: int, stride: int, variant: str) -> None:
        super().__init__()
        pre = is_preact(variant)
        self.before = activation(variant, c_in) if pre else nn.Identity()
        self.conv1 = _conv_bn(c_in, c_out, 3, stride)
        self.between = activation(variant, c_out)
        self.conv2 = _conv_bn(c_out, c_out, 3, 1)
        # Linear, so that additions join linear operations only (section 4.1).
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else _conv_bn(c_in, c_out, 1, stride)
        self.after = nn.Identity() if pre else activation(variant, c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.between(self.conv1(self.before(x))))
        return self.after(y + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, three stages at 32x32, 16x16, 8x8, mean over positions, linear classifier."""

    def __init__(self, blocks: int, widths: tuple[int, ...], variant: str, num_classes: int):
        super().__init__()
        pre = is_preact(variant)
        c_in = widths[0]
        self.stem = _conv_bn(3, c_in, 3, 1)
        self.stem_act = nn.Identity() if pre else activation(variant, c_in)
        stages = []
        for width in widths:
            stride = 1 if width == widths[0] else 2
            stages += [Block(c_in, width, stride, variant)]
            stages += [Block(width, width, 1, variant) for _ in range(blocks - 1)]
            c_in = width
        self.stages = nn.Sequential(*stages)
        self.last_act = activation(variant, c_in) if pre else nn.Identity()
        self.head = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`B 3 H W` to logits `B num_classes`."""
        x = self.stages(self.stem_act(self.stem(x)))
        return self.head(self.last_act(x).mean(dim=(2, 3)))


def resnet20(variant: str, num_classes: int) -> ResNet:
    """0.27 M parameters, as in He et al. 2016, Table 6."""
    return ResNet(3, (16, 32, 64), variant, num_classes)
