r"""The Hessian of the mean cross-entropy as a linear map.

:math:`Hv = \nabla_\theta (\nabla L \cdot v)`, exact. The slope
:math:`\nabla L \cdot v` comes from forward mode where that is right: then Hv is 8 convolutions a
layer where a gradient is 3, and costs 3 gradients on a CPU (forward over reverse: 4, double
backward: 4.5). In torch 2.13 it is not right for LayerNorm, nor for BatchNorm with batch
statistics: the gradient of their forward-mode rules takes the statistics for constants. So both
ways are compared on two images, and double backward serves where they differ; on ViT and Mixer it
is no slower.

In bfloat16 weights and activations are rounded and sums are not. BatchNorm with running statistics
is then a part of the convolution before it, where both stand in one ``nn.Sequential``: the rounded
net is nearer to the exact one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from snt_core.fast.fold import fold_with
from snt_core.methods.observe import Preprocess
from snt_core.methods.transform import SNTActivation

BNMode = Literal["eval", "train"]
Params = dict[str, Tensor]
Loss = Callable[[Params], Tensor]
Slope = Callable[[Loss, Params, Params], tuple[Tensor, Tensor]]  # value, directional derivative
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class Hessian:
    """The linear map v -> Hv of one model and one set of images."""

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        bn_mode: BNMode,
        preprocess: Preprocess | None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if bn_mode not in ("eval", "train"):
            raise ValueError(f"bn_mode '{bn_mode}' is neither 'eval' nor 'train'")
        if batch_size < 1 or len(images) == 0 or len(images) != len(labels):
            sizes = f"{len(images)} images, {len(labels)} labels, batch_size {batch_size}"
            raise ValueError(f"{sizes}: need a label for each image, and none of the three 0")
        self.model = copy.deepcopy(model).eval()
        if bn_mode == "train":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    # without running statistics BatchNorm uses the batch's, and updates nothing
                    module.running_mean = module.running_var = None
        if dtype is not None and bn_mode == "eval":
            fold_with(self.model, _Folded)
        # in flat order; folding renames parameters but keeps their order
        self.params: Params = {k: p for k, p in self.model.named_parameters() if p.requires_grad}
        if not self.params:
            raise ValueError("the model has no parameter with requires_grad=True")
        self.like = next(iter(self.params.values())).detach()
        self.size = sum(p.numel() for p in self.params.values())
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.preprocess = preprocess or (lambda x: x)
        self.dtype = self.like.dtype
        self.slope = _forward_slope if self._forward_mode_is_right() else _reverse_slope
        if dtype is not None:
            self.dtype = dtype
            wide = (_Folded, SNTActivation, *NORMS)  # these round by themselves
            kept = {
                id(p) for m in self.model.modules() if isinstance(m, wide) for p in m.parameters()
            }
            self.rounded = {k for k, p in self.model.named_parameters() if id(p) not in kept}

    def __call__(self, vector: Tensor) -> Tensor:
        """Return Hv, flat like v and in the parameters' dtype."""
        if vector.shape != (self.size,):
            raise ValueError(f"vector of shape {tuple(vector.shape)}, expected ({self.size},)")
        loss, product = self.like.new_zeros(()), self.like.new_zeros(self.size)
        for first in range(0, len(self.images), self.batch_size):
            chunk = slice(first, first + self.batch_size)
            target = self.labels[chunk].to(self.like.device)
            share = partial(F.cross_entropy, target=target, reduction="sum")
            part, row = self._product(share, self.images[chunk], vector, self.slope)
            loss += part / len(self.images)
            product += row / len(self.images)
        if not (loss.isfinite() and product.isfinite().all()):
            raise ValueError(
                f"loss {loss.item()} over {len(self.images)} images, or its Hessian product, is "
                "not finite: has training diverged, or are the images not normalised?"
            )
        return product

    def _product(
        self, objective: Callable[[Tensor], Tensor], x: Tensor, vector: Tensor, slope: Slope
    ) -> tuple[Tensor, Tensor]:
        """Return the value of objective(logits) on one chunk, and its Hessian times the vector."""
        pieces = vector.to(self.like).split([p.numel() for p in self.params.values()])
        direction = {k: v.view_as(p) for (k, p), v in zip(self.params.items(), pieces, strict=True)}
        # fused attention has no second derivative; autocast would round what must be exact
        exact = torch.autocast(self.like.device.type, enabled=False)
        with torch.enable_grad(), exact, sdpa_kernel(SDPBackend.MATH):
            x = self.preprocess(x.to(self.like.device)).to(self.dtype)

            def loss(params: Params) -> Tensor:
                if self.dtype != self.like.dtype:
                    params = {
                        k: p.to(self.dtype) if k in self.rounded else p for k, p in params.items()
                    }
                logits = functional_call(self.model, params, (x,))
                return objective(logits.to(self.like.dtype))

            value, along = slope(loss, self.params, direction)
            # parameters that the slope does not depend on get zeros
            rows = torch.autograd.grad(along, tuple(self.params.values()), materialize_grads=True)
        return value.detach(), torch.cat([row.reshape(-1) for row in rows])

    def _forward_mode_is_right(self) -> bool:
        """Whether both slopes give the same product, on two images."""
        vector = torch.randn(self.size, generator=torch.Generator().manual_seed(0))

        def probe(slope: Slope) -> Tensor:
            # not the cross-entropy: its curvature vanishes where every image is fitted perfectly
            return self._product(lambda f: f.square().sum(), self.images[:2], vector, slope)[1]

        exact = probe(_reverse_slope)
        try:
            error = probe(_forward_slope) - exact
        except RuntimeError:  # an operation without a forward-mode rule
            return False
        # half of the digits: rounding stays far below it, a wrong rule errs by far more
        return bool(error.norm() <= torch.finfo(exact.dtype).eps ** 0.5 * exact.norm())


def _forward_slope(loss: Loss, params: Params, direction: Params) -> tuple[Tensor, Tensor]:
    # mypy: with `has_aux` there would be a third
    return cast(tuple[Tensor, Tensor], jvp(loss, (params,), (direction,)))


def _reverse_slope(loss: Loss, params: Params, direction: Params) -> tuple[Tensor, Tensor]:
    value = loss(params)
    inputs = tuple(params.values())
    rows = torch.autograd.grad(value, inputs, create_graph=True, materialize_grads=True)
    along = sum((g * v).sum() for g, v in zip(rows, direction.values(), strict=True))
    return value, cast(Tensor, along)  # mypy: sum() of nothing would be 0


class _Folded(nn.Module):
    """A convolution followed by BatchNorm with running statistics, as one convolution."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None  # `fold_with` asks for both
        assert variance is not None
        # norm(conv(x)) = scale * (w x + b - mean) + norm.bias; what is rounded is w * scale, once
        scale = norm.weight * (variance + norm.eps).rsqrt()
        start = -mean if conv.bias is None else conv.bias - mean
        weight = conv.weight * scale.view(-1, 1, 1, 1)
        bias = norm.bias + start * scale
        return F.conv2d(
            x, weight.to(x.dtype), bias.to(x.dtype), conv.stride, conv.padding, conv.dilation,
            conv.groups,
        )  # fmt: skip
