"""Sharpness-aware minimization (Foret et al. 2021; adaptive form: Kwon et al. 2021)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from snt_core.methods.optim.batch_statistics import Statistics
from snt_core.methods.optim.perturbation import finite, perturbed, sign, with_gradient
from snt_core.methods.optim.sam_checks import (
    require_base,
    require_dense,
    require_owner,
    require_radius,
)


class SAM(Optimizer):
    """An optimizer around any other, which takes its step at `w` with the gradient of `w + e(w)`.

    `e(w) = rho * g / |g|`, or `rho * w^2 g / |w g|` when adaptive, the norm over all parameters;
    `-e(w)` where `base` maximizes. Its groups, state and defaults serve. Two ways to take a step::

        import torch
        from snt_core.methods.optim.sam import SAM

        optimizer = SAM(torch.optim.SGD(my_model.parameters(), lr=0.1), model=my_model)


        def closure():  # computes the loss, back-propagates, returns it
            loss = torch.nn.functional.cross_entropy(my_model(images), labels)
            loss.backward()
            return loss


        loss = optimizer.step(closure)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(my_model(images), labels).backward()  # or several
        optimizer.first_step(zero_grad=True)  # to w + e(w)
        torch.nn.functional.cross_entropy(my_model(images), labels).backward()
        optimizer.second_step(zero_grad=True)  # back to w, and the base optimizer's step

    A step whose gradients are not all finite, or that has none, leaves the weights and the base
    optimizer's state as they were and warns. If the closure raises, the weights are back at `w`.
    Nothing is checked while a CUDA graph is recorded.

    With an enabled GradScaler take the second way, where `scaler.step(optimizer)` stands for
    `second_step` and `unscale_` is not called: `e(w)` does not depend on the scale. To clip,
    register a step pre-hook on `base`, which sees the gradients unscaled. With
    DistributedDataParallel both passes average their gradients; under `no_sync` in the first
    alone, each process looks in a direction of its own.

    Args:
        base: takes the step; learning rates and state stay in it, so that any scheduler works.
        rho: radius of the neighbourhood, finite and >= 0; with 0 the step is exactly the base
            optimizer's. A parameter group may have its own under the key "rho" (unless the base
            optimizer has a setting of that name, as Adadelta does).
        adaptive: scale the neighbourhood by the weights' size (ASAM).
        model: the net that is trained. Its buffers, batch statistics among them, change in the
            first pass only; without it they change in both.

    Raises:
        ValueError: one of these does not fit, or `base` is LBFGS or needs sparse gradients.
    """

    # GradScaler then calls `step` whatever it found, with `grad_scale` and `found_inf` set here
    # for the call: the weights have to come back from w + e(w) in every case.
    _step_supports_amp_scaling = True

    base: Optimizer
    model: nn.Module | None
    rho: float
    adaptive: bool
    grad_scale: Tensor | None
    found_inf: Tensor | None

    def __init__(
        self,
        base: Optimizer,
        rho: float = 0.05,
        *,
        adaptive: bool = False,
        model: nn.Module | None = None,
    ) -> None:
        require_base(base)
        if isinstance(base, SAM):
            raise ValueError("base is a SAM already; set its rho, or wrap the optimizer inside it")
        require_radius(rho)
        if not isinstance(adaptive, bool):
            raise ValueError(f"adaptive is {adaptive!r}; it must be True or False")
        require_owner(model, base)
        # Not Optimizer.__init__, which would make groups and state of its own.
        self.__setstate__({"base": base, "model": model, "rho": rho, "adaptive": adaptive})
        for group in base.param_groups:
            self._radius(group)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles carry: not the hooks, as in all optimizers of torch."""
        self._require_home()
        return {name: getattr(self, name) for name in ("base", "model", "rho", "adaptive")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._home: _Home | None = None
        self._statistics = Statistics(state["model"])
        super().__setstate__(state)

    def __repr__(self) -> str:
        return f"SAM (rho: {self.rho}, adaptive: {self.adaptive}) around {self.base!r}"

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the base optimizer's groups themselves, so that rates can be set in them."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """Return the base optimizer's state itself."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the base optimizer's defaults themselves."""
        return self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters to the base optimizer; it may have its own "rho"."""
        self._radius(param_group)
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        self.base.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights once. `closure` computes the loss, back-propagates and returns it.

        It is called twice, each time with gradients cleared, and must open its own autocast
        context: inside one shared context the second pass would reuse the cached low-precision
        copy of the unperturbed weights. Returns the loss at `w`. Without a closure this is
        `second_step`.
        """
        if closure is None:
            self._descend()
            return None
        if getattr(self, "found_inf", None) is not None:
            self._forget_scaler()
            raise ValueError("a GradScaler takes first_step() and no closure; see SAM's docstring")
        loss = self._gradient(closure)
        self.first_step()
        try:
            if self._home is not None and self._home.sound:
                self._gradient(closure)
        except BaseException:
            self.restore()
            raise
        self._descend()
        return loss

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Move the weights to `w + e(w)`, by the gradients that they have."""
        self._require_home()
        groups = [
            (sign(self.base, g) * self._radius(g), with_gradient(g)) for g in self.param_groups
        ]
        params = [p for _, group in groups for p in group]
        require_dense(params)
        away = perturbed(groups, adaptive=self.adaptive, look=_may_look()) if params else None
        weights = [p.data for p in params]
        self._home = _Home(params, weights, sound=away is not None)
        self._statistics.keep()
        if away is None:
            _say(params)
        else:
            _hold(params, away)
        if zero_grad:
            self.zero_grad()

    def second_step(self, zero_grad: bool = False) -> None:
        """Move the weights back to `w`, and take the base optimizer's step from there."""
        self.step()
        if zero_grad:
            self.zero_grad()

    def restore(self) -> None:
        """Undo `first_step`: the weights are at `w` again, and the buffers as they were then."""
        if self._home is not None:
            _hold(self._home.params, self._home.weights)  # exactly, and without a copy
            self._statistics.restore()
            self._home = None

    def _descend(self) -> None:
        """Go back to `w`, and take the base optimizer's step if nothing is wrong."""
        home = self._home
        if home is None:
            self._forget_scaler()
            raise ValueError("step() needs a closure, or first_step() before it")
        self.restore()
        if not home.sound:  # as `first_step` has said
            return
        params = [p for group in self.param_groups for p in with_gradient(group)]
        require_dense(params)
        if self._overflowed(params):
            return
        if params and (not _may_look() or finite(params)):
            self.base.step()
        else:
            _say(params)

    def _overflowed(self, params: list[Tensor]) -> bool:
        """Divide the gradients by a GradScaler's scale; True where it found infinite ones."""
        found, scale = (getattr(self, name, None) for name in ("found_inf", "grad_scale"))
        if found is None:
            return False
        if scale is None:
            self._forget_scaler()
            raise ValueError(
                "unscale_() of a GradScaler may have met the first pass's gradients or the "
                "second's: leave it out, and clip in base.register_step_pre_hook(...)"
            )
        for grad in (p.grad for p in params):
            assert grad is not None
            grad.mul_(scale.double().reciprocal().to(grad))
        return bool(found)  # the scaler tells of it, by a smaller scale

    def _forget_scaler(self) -> None:
        """Drop what a GradScaler has set for this call; after an error it does not."""
        for name in ("found_inf", "grad_scale"):
            self.__dict__.pop(name, None)

    def _gradient(self, closure: Callable[[], Any]) -> Any:
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        return loss.detach() if isinstance(loss, Tensor) else loss

    def _radius(self, group: dict[str, Any]) -> float:
        """Return the rho of a group."""
        rho = self.rho if "rho" in self.defaults else group.get("rho", self.rho)
        require_radius(rho)
        return rho

    def _require_home(self) -> None:
        if self._home is not None:
            raise RuntimeError("the weights are at w + e(w): call second_step(), or restore()")

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the base optimizer's state and SAM's own settings."""
        self._require_home()
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self.base.state_dict() | {"sam": {"rho": self.rho, "adaptive": self.adaptive}}
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, or the state of a base optimizer alone."""
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        own = state_dict.get("sam", {"rho": self.rho, "adaptive": self.adaptive})
        require_radius(own["rho"])
        self.base.load_state_dict(state_dict)
        self.rho, self.adaptive = own["rho"], own["adaptive"]
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)


@dataclass
class _Home:
    """Where the weights were before `first_step`; `sound` says whether a step may follow."""

    params: list[Tensor]
    weights: list[Tensor]
    sound: bool


def _hold(params: list[Tensor], values: list[Tensor]) -> None:
    """Let each parameter hold other memory; nothing is copied."""
    for p, value in zip(params, values, strict=True):
        p.data = value


def _may_look() -> bool:
    """Whether a value may be read: not while a CUDA graph is recorded."""
    return not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def _say(params: list[Tensor]) -> None:
    reason = "gradients are not finite" if params else "no parameter has a gradient"
    warnings.warn(f"SAM took no step, and weights are as they were: {reason}", stacklevel=5)
