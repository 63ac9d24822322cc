"""Sharpness-aware minimization (Foret et al. 2021; adaptive form: Kwon et al. 2021).

::

    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    optimizer = SAM(adam, rho=0.05, buffers=model.buffers())
    optimizer.step(lambda: backward(model, batch))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Tensors = list[Tensor] | tuple[Tensor, ...]


class SAM:
    """An optimizer around any other, which takes its step at `w` with the gradient of `w + e(w)`.

    `e(w) = rho * g / |g|`, or `rho * w^2 g / |w g|` when adaptive, the norm over all parameters.

    Args:
        base: the optimizer that takes the step; learning rates and state stay in it.
        rho: radius of the neighbourhood, >= 0; with 0 the step is exactly the base optimizer's.
        adaptive: scale the neighbourhood by the weights' size (ASAM).
        buffers: tensors that the second pass must not change, such as batch statistics.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float,
        adaptive: bool = False,
        buffers: Iterable[Tensor] = (),
    ) -> None:
        if not rho >= 0:
            raise ValueError(f"rho is {rho}; it must be >= 0")
        self.base = base
        self.rho = rho
        self.adaptive = adaptive
        self.buffers = list(buffers)
        self._statistics = [torch.empty_like(b) for b in self.buffers]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the base optimizer's groups themselves, so that rates can be set in them."""
        return self.base.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        self.base.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Update the weights once. `closure` computes the loss, back-propagates and returns it.

        It is called twice, each time with gradients cleared, and must open its own autocast
        context: inside one shared context the second pass would reuse the cached low-precision
        copy of the unperturbed weights. Returns the loss at `w`.
        """
        loss = self._gradient(closure)
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        weights = [p.data for p in params]
        if self.buffers:
            torch._foreach_copy_(self._statistics, self.buffers)
        perturbed = self._perturbation(params)
        torch._foreach_add_(perturbed, params)
        self._hold(params, perturbed)
        try:
            self._gradient(closure)
        finally:
            self._hold(params, weights)  # exactly, and without a copy
        if self.buffers:
            torch._foreach_copy_(self.buffers, self._statistics)
        self.base.step()
        return loss

    @staticmethod
    def _hold(params: list[Tensor], values: Tensors) -> None:
        """Let each parameter hold other memory; nothing is copied."""
        for p, value in zip(params, values, strict=True):
            p.data = value

    def _gradient(self, closure: Callable[[], Tensor]) -> Tensor:
        self.zero_grad()
        with torch.enable_grad():
            return closure().detach()

    def _perturbation(self, params: list[Tensor]) -> Tensors:
        """Return `e(w)`, a tensor for each parameter."""
        grads: Tensors = [p.grad for p in params if p.grad is not None]
        # |w| twice when adaptive: |w g| is the norm's argument, w^2 g the direction
        if self.adaptive:
            grads = torch._foreach_mul(grads, torch._foreach_abs(params))
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        # A zero gradient asks for no perturbation, not for 0/0.
        scale = self.rho / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        if self.adaptive:
            grads = torch._foreach_mul(grads, torch._foreach_abs(params))
        return torch._foreach_mul(grads, scale)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the base optimizer's state and SAM's own settings."""
        return {"base": self.base.state_dict(), "rho": self.rho, "adaptive": self.adaptive}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.base.load_state_dict(state["base"])
        self.rho = state["rho"]
        self.adaptive = state["adaptive"]
