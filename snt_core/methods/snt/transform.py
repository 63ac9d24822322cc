"""The paper's contribution and nothing else: Eq. (1) and the pre-activation order (section 4).

::

    from torch import nn
    from snt_core.methods.snt.transform import SNTActivation

    conv = nn.Conv2d(64, 64, 3, padding=1)
    block = nn.Sequential(SNTActivation(64), conv, nn.BatchNorm2d(64))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.fast.fused import eq1

SLOPE = 0.25  # of the negative side at first: PReLU's usual start, as the paper gives none
# variants with the usual order: linear layer, norm, activation
POST_ACTIVATION = ("base", "leaky", "prelu", "eq1")


def snt_activation(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor) -> Tensor:
    """Return Eq. (1): `x - gamma + zeta` where `x > gamma`, else `beta * (x - gamma) + zeta`.

    All four must broadcast against each other. This is the formula as it is written, which a
    compiler makes one pass of; `SNTActivation` computes it faster in plain operators.
    """
    shifted = x - gamma
    return torch.where(shifted > 0, shifted, beta * shifted) + zeta


class SNTActivation(nn.Module):
    """Eq. (1): a PReLU between two learnable shifts, a triple (gamma, beta, zeta) per channel.

    Args:
        channels: size of the axis that the triples belong to.
        dim: that axis; 1 for images `B C H W`, -1 for tokens `B N C`.

    Starts as a leaky ReLU: gamma = zeta = 0, beta = 0.25. `fused` asks for the
    one-pass kernel, which has no second derivative.
    """

    # its name in `fast.fused`, where it shares a pass with the norm before it
    one_pass_kernel = "snt"

    def __init__(self, channels: int, *, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim
        self.fused = False
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.full((channels,), SLOPE))
        self.zeta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return _fused(x, self.gamma, self.beta, self.zeta, self.dim)
        return _plain(x, self.gamma, self.beta, self.zeta, self.dim)


def _plain(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor, dim: int) -> Tensor:
    """Return Eq. (1) as its positive part plus a PReLU's negative part, moved by zeta.

    Equal to `snt_activation` to rounding, with second derivatives. It is the faster: no mask is
    kept, and one operator scales, shifts and sums the gradients of beta and zeta.
    """
    gamma, beta, zeta = (p.to(x.dtype) for p in (gamma, beta, zeta))
    shifted = x + _broadcast(-gamma, x, dim)  # so that its gradient is not negated whole
    positive = shifted.relu()
    # in place, since no gradient needs what is overwritten
    negative = shifted.sub_(positive)
    return _scale_and_shift(negative, beta, zeta, dim).add_(positive)


# whose shapes a symbolic trace does not know
torch.fx.wrap("_plain")
torch.fx.wrap("_fused")


def _scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor, dim: int) -> Tensor:
    """Return `scale * x + shift` along `dim`: batch normalisation with mean 0 and variance 1."""
    mean, variance = torch.zeros_like(scale), torch.ones_like(scale)
    # 1 + eps is 1 in every format; zero itself is refused by some versions of torch (2.11)
    normal = partial(F.batch_norm, running_mean=mean, running_var=variance, eps=1e-30)
    if dim % x.ndim == 1:
        return normal(x, weight=scale, bias=shift)
    # B N C as an image of B * N positions, channels last: that kernel is the fast one
    moved = x.movedim(dim, -1)
    image = moved.reshape(1, -1, 1, len(scale)).permute(0, 3, 1, 2)
    y = normal(image, weight=scale, bias=shift).permute(0, 2, 3, 1)
    return y.reshape(moved.shape).movedim(-1, dim)


def _broadcast(parameter: Tensor, x: Tensor, dim: int) -> Tensor:
    """Return the parameter with an axis for each of `x`, its own at `dim`."""
    shape = [1] * x.ndim
    shape[dim] = -1
    return parameter.view(shape)


def _along(
    formula: Callable[..., Tensor], x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor, dim: int
) -> Tensor:
    """Return the formula of `x` with one triple for each position of `dim`."""
    # In the input's dtype: a float32 parameter would lift a bfloat16 activation to float32.
    triple = (p.to(x.dtype) for p in (gamma, beta, zeta))
    return formula(x, *(_broadcast(p, x, dim) for p in triple))


def _fused(x: Tensor, gamma: Tensor, beta: Tensor, zeta: Tensor, dim: int) -> Tensor:
    """Return Eq. (1) in one pass each way: by our kernel on a CPU, by a compiled one elsewhere."""
    if x.device.type not in ("cpu", "meta"):
        return _along(_compiled(), x, gamma, beta, zeta, dim)
    y = eq1(x, gamma, beta, zeta, dim)
    return _plain(x, gamma, beta, zeta, dim) if y is None else y


@cache
def _compiled() -> Callable[..., Tensor]:
    # A kernel for each shape: which kernel of dynamic shapes runs depends on the shapes before it,
    # and with it the last bits. A net can have more shapes (MobileNet-V1: 10, and as many without
    # gradients) than torch compiles by default (8), and runs the others as plain operations.
    config = torch._dynamo.config
    config.recompile_limit = config.accumulated_recompile_limit
    return torch.compile(snt_activation, dynamic=False)


def is_preact(variant: str) -> bool:
    """Whether activations stand before the linear layers: in `preact` and `snt`, not in `base`."""
    return variant not in POST_ACTIVATION


def activation(
    variant: str, channels: int, *, dim: int = 1, plain: Callable[[], nn.Module] = nn.ReLU
) -> nn.Module:
    """Return Eq. (1) in `eq1`, `snt` and its kin (`snt-...`), `plain()` in `base` and `preact`.

    The steps between them are those of `...leaky`, ReLU with Eq. (1)'s initial slope, and of
    `...prelu`, that slope learned for each channel (of axis 1).
    """
    if variant == "eq1" or variant.startswith("snt"):
        return SNTActivation(channels, dim=dim)
    if variant.endswith("leaky"):
        return nn.LeakyReLU(SLOPE)
    if variant.endswith("prelu"):
        return nn.PReLU(channels, SLOPE)
    return plain()
