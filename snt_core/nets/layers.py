"""Building blocks that several backbones share."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.fast.fused import depthwise, norm_act


class ConvBN(nn.Sequential):
    """A convolution and its batch normalisation.

    `fused` asks for the one-pass kernels of `snt_core.fast.fused` in training, which have no second
    derivative.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv, nn.BatchNorm2d(conv.out_channels))
        self.fused = False

    def forward(
        self, x: Tensor, then: nn.Module | None = None, plus: Tensor | None = None
    ) -> Tensor:
        """Return `then(norm(conv(x)) + plus)`; `B c_in H W` to `B c_out H/stride W/stride`."""
        conv, norm = self  # in training a BatchNorm; `fast.fold` puts an Identity in its place
        x = conv(x)
        if self.fused and norm.training:
            y = norm_act(x, cast(nn.BatchNorm2d, norm), then, plus)
            if y is not None:
                return y
        y = norm(x)
        y = y if plus is None else y + plus
        return y if then is None else then(y)


def conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1) -> ConvBN:
    """Return a convolution without bias, He-initialised for the fan out, and its normalisation."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return ConvBN(conv)


def depthwise_bn(channels: int, kernel: int, stride: int = 1) -> ConvBN:
    """Return a depthwise convolution without bias, He-initialised, and its normalisation."""
    conv = DepthwiseConv2d(channels, kernel, stride)
    # `fan_out` would count the outputs of all channels, but an input reaches those of its own only
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
    return ConvBN(conv)


class DepthwiseConv2d(nn.Conv2d):
    """Convolution of each channel alone, without bias; `B C H W` to `B C H/stride W/stride`.

    `fused` asks for the kernel of `fast.fused` in training, which has no second derivative.

    Without it, on a CPU, the gradient of such a convolution in bfloat16 misses torch's fast kernel
    where there is a stride or the map is tiny, and takes several times as long as in float32. Those
    cases run in the format of the weight, whatever autocast says.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
        )
        self.fused = False

    def forward(self, x: Tensor) -> Tensor:
        """Return `B C H/stride W/stride`."""
        stride = self.stride[0]
        weight = self.weight  # once: it may be computed on access, as when it is fake-quantized
        if self.fused and self.training and (y := depthwise(x, weight, stride)) is not None:
            return y
        if x.device.type != "cpu" or not (stride > 1 or max(x.shape[2:]) <= 2):
            return self._conv_forward(x, weight, self.bias)
        with torch.autocast("cpu", enabled=False):
            y = F.conv2d(
                x.to(weight.dtype),
                weight,
                self.bias,  # none, until batch normalisation is folded in
                stride=self.stride,
                padding=self.padding,
                groups=self.groups,
            )
        return y.to(x.dtype)
