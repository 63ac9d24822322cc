"""Magnitude pruning inside your own training loop.

::

    import torch
    from snt_core.methods.compress.pruner import MagnitudePruner

    # along a schedule; also a list of sparsities, or a function of the step
    pruner = MagnitudePruner(my_model, 0.9, steps=5 * len(loader))
    optimizer = torch.optim.SGD(my_model.parameters(), lr=0.01)
    for _ in range(5):
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(my_model(x), y).backward()
            optimizer.step()
            pruner.step()  # after every step: the smallest weights go, and stay away
    small = pruner.finalize()

The criterion is that of :mod:`snt_core.methods.compress.prune`. Weights are set to zero in place:
an optimizer, made before or after, keeps its parameters. What momentum and weight decay move is set
back by the next :meth:`~MagnitudePruner.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snt_core.common.arguments import require_whole
from snt_core.methods.compress.magnitude import smallest
from snt_core.methods.compress.masking import Mask, compute_by, parametrized_by
from snt_core.methods.compress.prune import (
    UPDATES,
    check_sparsity,
    check_zeros_stay,
    exponential_sparsity,
    mark_pruned,
)
from snt_core.methods.compress.quantize import FakeQuantize
from snt_core.methods.models.compressible import check_finite, check_kinds, full_names
from snt_core.methods.models.folding import bake, effective, hooks
from snt_core.methods.models.wrapping import unwrapped

Schedule = float | Sequence[float] | Callable[[int], float]


class MagnitudePruner:
    """Prunes a model by magnitude while you train it, along a schedule of sparsities.

    Args:
        model: changed in place by :meth:`step`. A weight that is zero now counts as pruned. Layers
            that compute their weight by a parametrization get a mask behind it; layers that round
            it in each pass are pruned before they round.
        schedule: a target, which is reached in ``steps`` steps along
            :func:`~snt_core.methods.compress.prune.exponential_sparsity`, in twenty updates; or the
            sparsities after step 1, 2, ..., of which the last one stays; or a function of the step,
            counted from 1. Sparsities are in [0, 1] and may not fall.
        steps: of a single target; 1 prunes to it in the first step.

    Raises:
        ValueError: a sparsity is outside [0, 1], falls, or is below that of the model; ``steps`` is
            below 1, or given without a single target; or a weight cannot be pruned, as in
            :func:`~snt_core.methods.compress.prune.magnitude_masks` or because an older hook
            computes it.
    """

    def __init__(self, model: nn.Module, schedule: Schedule, *, steps: int | None = None) -> None:
        self.model = unwrapped(model)
        if hasattr(schedule, "tolist"):  # of numpy or torch
            schedule = schedule.tolist()
        self.schedule, self.length = schedule, _length(schedule, steps)
        self.taken = 0
        self.asked = 0.0
        self.finalized = False
        self._sites = _prunable_sites(self.model)
        weights = self._weights()
        check_finite(weights)
        self.masks = {name: weight != 0 for name, weight in weights.items()}
        self.start = self.sparsity
        last = schedule[-1] if isinstance(schedule, Sequence) else schedule
        if not callable(last) and last < self.start:
            raise ValueError(
                f"sparsity {last} is below the model's own, {self.start:g}: pruned weights stay"
                " away; ask for more or start from a denser model"
            )
        for site in self._sites.values():
            if _masked(*site) and not parametrized_by(*site, Mask):
                compute_by(*site, Mask(effective(*site)))

    @property
    def sparsity(self) -> float:
        """The share of weights that are pruned now."""
        total = sum(mask.numel() for mask in self.masks.values())
        return sum(int((~mask).sum()) for mask in self.masks.values()) / max(1, total)

    @torch.no_grad()
    def step(self) -> None:
        """Prune to what the schedule asks for; call it after every ``optimizer.step()``.

        Raises:
            ValueError: a sparsity of the schedule is outside [0, 1] or falls, a weight is not
                finite, or :meth:`finalize` was called.
        """
        self._check_open()
        level = self._level(self.taken + 1)
        check_sparsity(level)
        if level < self.asked:
            raise ValueError(
                f"sparsity {level} of step {self.taken + 1} comes after {self.asked}:"
                " pruned weights stay away, so it may not fall"
            )
        self._hold()
        if level > max(self.asked, self.sparsity):
            weights = self._weights()
            check_finite(weights)
            # the weights as held: a pruned one is 0, the smallest there is, and so stays away
            [masks] = smallest(weights.values(), [level])
            self.masks = dict(zip(weights, masks, strict=True))
            self._hold()
        self.taken, self.asked = self.taken + 1, level

    def finalize(self) -> nn.Module:
        """End pruning and return the model, unwrapped, its weights plain and its pruned ones zero.

        Layers that round their weight in each pass go on doing so, until
        :func:`~snt_core.methods.compress.quantize.freeze`.

        Raises:
            ValueError: steps are missing, an optimizer moved pruned weights since the last one, or
                this was called before.
        """
        self._check_open()
        if self.taken < self.length:
            raise ValueError(
                f"step() was called {self.taken} of {self.length} times, so that sparsity is"
                f" {self.sparsity:g}: call it after every optimizer.step()"
            )
        for name, weight in self._weights().items():
            if moved := int((weight[~self.masks[name].to(weight.device)] != 0).sum()):
                raise ValueError(
                    f"{moved} pruned weights of '{name}' moved since the last step():"
                    " call it after every optimizer.step()"
                )
        for site in self._sites.values():
            if _masked(*site):
                bake(*site, effective(*site))
        mark_pruned(self.model, self.asked)
        self.finalized = True
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """Return what a run that resumes needs besides the states of model and optimizer.

        Numbers and bool tensors: ``torch.load`` reads it with ``weights_only=True``.
        """
        masks = {name: mask.clone() for name, mask in self.masks.items()}
        return {"taken": self.taken, "asked": self.asked, "start": self.start, "masks": masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken; the rest is then as if never interrupted.

        Raises:
            ValueError: the state is of another model, or :meth:`finalize` was called.
        """
        self._check_open()
        if missing := {"taken", "asked", "start", "masks"} - set(state):
            raise ValueError(f"the state lacks {sorted(missing)}: give what state_dict() returned")
        shapes = {name: tuple(mask.shape) for name, mask in self.masks.items()}
        theirs = {name: tuple(mask.shape) for name, mask in state["masks"].items()}
        if shapes != theirs:
            odd = next(n for n in {**shapes, **theirs} if shapes.get(n) != theirs.get(n))
            raise ValueError(
                f"the state is of another model: '{odd}' has shape {theirs.get(odd)} there,"
                f" {shapes.get(odd)} here"
            )
        self.taken, self.asked, self.start = state["taken"], state["asked"], state["start"]
        self.masks = {name: state["masks"][name].clone().bool() for name in self.masks}
        self._hold()

    def _level(self, step: int) -> float:
        if callable(self.schedule):
            return float(self.schedule(step))
        if isinstance(self.schedule, Sequence):
            return self.schedule[min(step, self.length) - 1]
        # 1e-9: no rounding may delay an update by a step
        due = min(UPDATES, int(UPDATES * step / self.length + 1e-9))
        return exponential_sparsity(self.start, self.schedule, due / UPDATES)

    def _weights(self) -> dict[str, Tensor]:
        return {name: _read(*site) for name, site in self._sites.items()}

    @torch.no_grad()
    def _hold(self) -> None:
        """Set pruned weights to zero."""
        for name, (module, attribute) in self._sites.items():
            mask = parametrized_by(module, attribute, Mask)
            if mask is not None:
                mask.kept.copy_(self.masks[name])
            else:
                weight = _read(module, attribute)
                weight.masked_fill_(~self.masks[name].to(weight.device), 0)

    def _check_open(self) -> None:
        if self.finalized:
            raise ValueError("the pruner is finalized already: make a new one to prune further")


def _length(schedule: Schedule, steps: int | None) -> int:
    """Return how many steps a schedule takes; at least one."""
    if callable(schedule) or isinstance(schedule, Sequence):
        if steps is not None:
            raise ValueError(f"steps {steps} go with a single target, not with {schedule!r}")
        if callable(schedule):
            return 1
        if not schedule:
            raise ValueError("the schedule has no sparsity: give at least one")
        for before, level in zip([0.0, *schedule], schedule):
            check_sparsity(level)
            if level < before:
                raise ValueError(f"sparsity {level} comes after {before}: they may not fall")
        return len(schedule)
    check_sparsity(schedule)
    steps = 1 if steps is None else steps
    require_whole(steps=steps)
    if steps < 1:
        raise ValueError(f"steps {steps} must be 1 or more")
    return steps


def _prunable_sites(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Return each weight by its name, one that is shared once."""
    check_kinds(model)
    computed = {(m, name): type(hook).__name__ for m, name, hook in hooks(model)}
    found: dict[object, tuple[str, tuple[nn.Module, str]]] = {}
    for site, name in full_names(model).items():
        check_zeros_stay(site[0], name)
        if site in computed:
            raise ValueError(
                f"weight '{name}' is computed by a hook, {computed[site]}, that training would"
                " undo: end it by folding.plain(model) first"
            )
        if parametrized_by(*site, FakeQuantize) and not _rounded_only(*site):
            raise ValueError(
                f"weight '{name}' is computed and then rounded in each pass:"
                " prune before fake_quantize_weights"
            )
        found.setdefault(site if _masked(*site) else id(_stored(*site)), (name, site))
    return dict(found.values())


def _rounded_only(module: nn.Module, name: str) -> bool:
    if not parametrize.is_parametrized(module, name):
        return False
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    return all(isinstance(p, FakeQuantize) for p in chain)


def _masked(module: nn.Module, name: str) -> bool:
    """Whether a weight is computed, so that only a mask behind can hold it at zero."""
    return parametrize.is_parametrized(module, name) and not _rounded_only(module, name)


def _stored(module: nn.Module, name: str) -> Tensor:
    """Return the parameter that is set to zero: the weight, or the one behind its rounding."""
    if _rounded_only(module, name):
        return module.parametrizations[name].original  # type: ignore[index, union-attr]
    weight = module._parameters[name]
    assert weight is not None
    return weight


def _read(module: nn.Module, name: str) -> Tensor:
    """Return a weight as pruning sees it, in its own memory where it is stored."""
    return effective(module, name) if _masked(module, name) else _stored(module, name).detach()
