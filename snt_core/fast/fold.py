"""Nets for inference: batch normalisation as a part of the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeGuard

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from snt_core.fast.fused import fuse
from snt_core.fast.memory_format import channels_last


def fold(model: nn.Module) -> nn.Module:
    """Return a copy of the model in eval mode that computes the same with less work.

    A BatchNorm that follows a convolution in an ``nn.Sequential`` goes into its weight and bias;
    convolutions that are fake-quantized, or have hooks, stay as they are. Channels are last in
    memory, and Eq. (1) runs as its one-pass kernel, so the copy is not for second derivatives.
    """
    model = fold_with(copy.deepcopy(model).eval(), fuse_conv_bn_eval)
    return channels_last(fuse(model).eval())


def fold_with(
    model: nn.Module, folded: Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Module]
) -> nn.Module:
    """Replace each convolution with a BatchNorm behind it by ``folded`` of both; return the model.

    Done in place, and only where both stand in one ``nn.Sequential``, the norm has running
    statistics, weight and bias, and the convolution neither hooks nor computed parameters nor
    padding other than zeros.
    """
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if _is_plain_conv(conv) and _is_plain_norm(norm):
                    # the Identity keeps the length: later layers keep their names
                    module[i], module[i + 1] = folded(conv, norm), nn.Identity()
    return model


def _is_plain_conv(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    # with the norm inside, a hook would see another output, and a quantizer other weights
    watched = module._forward_hooks or module._forward_pre_hooks
    computed = hasattr(module, "parametrizations")
    return (
        isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not (computed or watched)
    )


def _is_plain_norm(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    return isinstance(module, nn.BatchNorm2d) and module.affine and module.running_var is not None
