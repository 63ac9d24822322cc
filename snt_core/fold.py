"""Nets for inference: batch normalisation as a part of the convolution before it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from snt_core.transform import fuse


def fold(model: nn.Module) -> nn.Module:
    """Copy of the model in eval mode that computes the same with less work.

    A BatchNorm that follows a convolution in an ``nn.Sequential`` goes into its weight and bias;
    convolutions that are fake-quantized, or have hooks, stay as they are. Channels are last in
    memory, and Eq. (1) runs as its one-pass kernel, so the copy is not for second derivatives.
    """
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if isinstance(norm, nn.BatchNorm2d) and _foldable(conv):
                    module[i], module[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return fuse(model).eval().to(memory_format=torch.channels_last)


def _foldable(module: nn.Module) -> bool:
    watched = module._forward_hooks or module._forward_pre_hooks
    return isinstance(module, nn.Conv2d) and not (hasattr(module, "parametrizations") or watched)
