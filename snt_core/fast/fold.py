"""Nets for inference: batch normalisation as a part of the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from snt_core.methods.transform import fuse


def fold(model: nn.Module) -> nn.Module:
    """Copy of the model in eval mode that computes the same with less work.

    A BatchNorm that follows a convolution in an ``nn.Sequential`` goes into its weight and bias;
    convolutions that are fake-quantized, or have hooks, stay as they are. Channels are last in
    memory, and Eq. (1) runs as its one-pass kernel, so the copy is not for second derivatives.
    """
    model = fold_with(copy.deepcopy(model).eval(), fuse_conv_bn_eval)
    return fuse(model).eval().to(memory_format=torch.channels_last)


def fold_with(
    model: nn.Module, folded: Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Module]
) -> nn.Module:
    """The model itself, each convolution with a BatchNorm behind it replaced by ``folded`` of both.

    Only where both stand in one ``nn.Sequential``, the norm has running statistics, weight and
    bias, and the convolution neither hooks nor computed parameters nor padding other than zeros.
    """
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if _is_plain_conv(conv) and _is_plain_norm(norm):
                    module[i], module[i + 1] = folded(conv, norm), nn.Identity()
    return model


def _is_plain_conv(module: nn.Module) -> bool:
    watched = module._forward_hooks or module._forward_pre_hooks
    computed = hasattr(module, "parametrizations")
    return (
        isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not (computed or watched)
    )


def _is_plain_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.affine and module.running_var is not None
