"""Building blocks that several backbones share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias (He-initialised for the fan out), then batch normalisation."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


def depthwise_bn(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """As `conv_bn`, with one kernel for each channel."""
    conv = DepthwiseConv2d(channels, kernel, stride)
    # `fan_out` would count the outputs of all channels, but an input reaches those of its own only
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


class DepthwiseConv2d(nn.Conv2d):
    """Convolution of each channel alone, without bias; `B C H W` to `B C H/stride W/stride`.

    On a CPU the gradient of such a convolution in bfloat16 misses the fast kernel where there is
    a stride or the map is tiny, and takes several times as long as in float32. Those cases run in
    the format of the weight, whatever autocast says.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        slow = self.stride[0] > 1 or max(x.shape[2:]) <= 2
        if x.device.type != "cpu" or not slow:
            return super().forward(x)
        weight = self.weight  # once: it may be computed on access, as when it is fake-quantized
        with torch.autocast("cpu", enabled=False):
            y = F.conv2d(
                x.to(weight.dtype),
                weight,
                stride=self.stride,
                padding=self.padding,
                groups=self.groups,
            )
        return y.to(x.dtype)
