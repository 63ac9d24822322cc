"""Weights that stay zero while the others are trained, by a parametrization."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.methods.models.folding import own_class, settle_recurrent


class Mask(nn.Module):
    """A parametrization that lets weights through, save those that are zero at first or pruned."""

    kept: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", weight.detach() != 0)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


def parametrized_by(module: nn.Module, name: str, kind: type[nn.Module]) -> Any:
    """Return the last parametrization of this kind that a weight has, or None."""
    if not parametrize.is_parametrized(module, name):
        return None
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    return next((p for p in reversed(list(chain)) if isinstance(p, kind)), None)


def compute_by(module: nn.Module, name: str, parametrization: nn.Module) -> None:
    """Register a parametrization; a recurrent layer stays one that can be copied."""
    if isinstance(module, nn.RNNBase) and settle_recurrent not in module._forward_hooks.values():
        module.register_forward_hook(settle_recurrent)
    own_class(module)
    parametrize.register_parametrization(module, name, parametrization)
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [getattr(module, key) for key in module._flat_weights_names]
        settle_recurrent(module)
