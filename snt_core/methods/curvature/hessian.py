r"""The Hessian of the mean loss as a linear map.

:math:`Hv = \nabla_\theta (\nabla L \cdot v)`, exact. The slope
:math:`\nabla L \cdot v` comes from forward mode where that is right: then Hv is 8 convolutions a
layer where a gradient is 3, and costs 3 gradients on a CPU (forward over reverse: 4, double
backward: 4.5). In torch 2.13 it is not right for LayerNorm, nor for BatchNorm with batch
statistics: the gradient of their forward-mode rules takes the statistics for constants. So both
ways are compared, on two images first and in the first product on every batch, since one may reach
what others do not; double backward serves where they differ. On ViT and Mixer it is no slower.

What has no second derivative in torch (hardsigmoid, fused attention, cuDNN's recurrent layers, our
own one-pass kernels), or a wrong one (weight normalisation in torch 2.13), is computed by operators
that have one; anything else is named. A ``torch.autograd.Function`` of one's own is trusted:
whether its backward pass can be differentiated is for ``torch.autograd.gradgradcheck`` to say. A
model in half precision is computed in float32, and one of several formats in the widest: the
Hessian is that at the same weights, without the rounding of what stands between them.

In bfloat16 weights and activations are rounded and sums are not. BatchNorm with running statistics
is then a part of the convolution before it, where both stand in one ``nn.Sequential``: the rounded
net is nearer to the exact one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from snt_core.fast.fold import fold_with
from snt_core.methods.curvature.exact import (
    Folded,
    Params,
    Passes,
    WrongSecond,
    call_with,
    exact_copy,
    with_second_derivatives,
)
from snt_core.methods.snt.transform import SNTActivation
from snt_core.methods.tasks.feed import floats, leaves
from snt_core.methods.tasks.objective import ELSEWHERE, Objective
from snt_core.methods.tasks.task import Task

BNMode = Literal["eval", "train"]
Loss = Callable[[Params], Tensor]
Slope = Callable[[Loss, Params, Params], tuple[Tensor, Tensor]]  # value, directional derivative
KEPT = (
    "the model keeps what it computed in one call for the next (as timm's attention_bias_cache "
    "does in eval mode), which derivatives would miss: switch that off"
)
# words of torch's errors that name no second derivative
WITHOUT_DERIVATIVE = ("derivative", "differentiate", "double backward", "require grad")
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


class Hessian:
    """The linear map v -> Hv of one model and one objective."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        bn_mode: BNMode = "eval",
        dtype: torch.dtype | None = None,
    ) -> None:
        if bn_mode not in ("eval", "train"):
            raise ValueError(f"bn_mode '{bn_mode}' is neither 'eval' nor 'train'")
        self.model = exact_copy(model)
        if bn_mode == "train":
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    # without running statistics BatchNorm uses the batch's, and updates nothing
                    module.running_mean = module.running_var = None
        if dtype is not None and bn_mode == "eval":
            fold_with(self.model, Folded)
        # in flat order; folding renames parameters but keeps their order
        self.params: Params = {k: p for k, p in self.model.named_parameters() if p.requires_grad}
        if not self.params:
            raise ValueError("the model has no parameter with requires_grad=True")
        self.like = next(iter(self.params.values())).detach()
        self.size = sum(p.numel() for p in self.params.values())
        self.objective, self.passes = objective, Passes(self.like.dtype)
        self.dtype = self.like.dtype
        objective.examine(self.model, self.dtype)
        self.replaced: Callable[[], AbstractContextManager[object]] = nullcontext
        self.slope: Slope = _forward_slope
        self._try_on_two()
        self.tried = False  # on every batch, as the first product does
        if dtype is not None:
            self.dtype = dtype
            self.passes = Passes(dtype)
            wide = (Folded, SNTActivation, *NORMS)  # these round by themselves
            kept = {
                id(p) for m in self.model.modules() if isinstance(m, wide) for p in m.parameters()
            }
            self.rounded = {k for k, p in self.model.named_parameters() if id(p) not in kept}

    def __call__(self, vector: Tensor) -> Tensor:
        """Return Hv, flat like v and in the parameters' dtype."""
        if vector.shape != (self.size,):
            raise ValueError(f"vector of shape {tuple(vector.shape)}, expected ({self.size},)")
        total = self.objective.total
        loss, product = self.like.new_zeros(()), self.like.new_zeros(self.size)
        exact = loss.clone().double()  # of both, this one decides whether two passes agree
        for batch, weight in self.objective.batches(self.like.device):
            part, row = self._part(_share(self.objective, batch, weight), batch, vector)
            loss += part / total
            exact += part.double() / total
            product += row / total
        if not (loss.isfinite() and product.isfinite().all()):
            raise ValueError(
                f"loss {loss.item()} over {total} images, or its Hessian product, is "
                "not finite: has training diverged, or are the images not normalised?"
            )
        self.passes.compare(exact.item())
        self.tried = True
        return product

    def _part(
        self, objective: Callable[[Any], Tensor], batch: Any, vector: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a batch's value and product, by a way that was found right on each batch."""
        if self.tried:
            return self._product(objective, batch, vector)
        dtype, self.dtype = self.dtype, self.like.dtype  # what is compared is not rounded
        try:
            ((value, row),) = self._by_the_right_way([objective], batch, vector)
        finally:
            self.dtype = dtype
        same = dtype == self.like.dtype
        return (value, row) if same else self._product(objective, batch, vector)

    def _product(
        self,
        objective: Callable[[Any], Tensor],
        batch: Any,
        vector: Tensor,
        slope: Slope | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the value of objective(output) on one batch, and its Hessian times the vector."""
        pieces = vector.to(self.like).split([p.numel() for p in self.params.values()])
        direction = {k: v.view_as(p) for (k, p), v in zip(self.params.items(), pieces, strict=True)}
        # fused attention has no second derivative; autocast would round what must be exact
        exact = torch.autocast(self.like.device.type, enabled=False)
        with torch.enable_grad(), exact, sdpa_kernel(SDPBackend.MATH), self.replaced():

            def loss(params: Params) -> Tensor:
                if self.dtype != self.like.dtype:
                    params = {
                        k: p.to(self.dtype) if k in self.rounded else p for k, p in params.items()
                    }
                return objective(floats(self._output(params, batch), self.like.dtype))

            try:
                value, along = (slope or self.slope)(loss, self.params, direction)
            except RuntimeError as error:
                if "backward through the graph a second time" in str(error):
                    raise ValueError(KEPT) from error
                raise
            # parameters that the slope does not depend on get zeros
            rows = torch.autograd.grad(along, tuple(self.params.values()), materialize_grads=True)
        return value.detach(), torch.cat([row.reshape(-1) for row in rows])

    def _output(self, params: Params, batch: Any) -> Any:
        def call(model: nn.Module) -> Any:
            return self.objective.output(model, batch, self.dtype)

        return call_with(self.model, params, call)

    def _try_on_two(self) -> None:
        """Choose the way on two samples: a wrong one is seen before any work."""
        vector = torch.randn(self.size, generator=torch.Generator().manual_seed(0))
        batch, weight = next(self.objective.batches(self.like.device))
        if self.objective.task == Task() and self.objective.pair is not None:
            batch = tuple(x[:2] for x in batch)
        # not the cross-entropy: its curvature vanishes where every image is fitted perfectly
        probes: list[Callable[[Any], Tensor]] = [_squares]
        if self.objective.task.loss_fn is not None:
            probes.append(_share(self.objective, batch, weight))
        self._by_the_right_way(probes, batch, vector)

    def _by_the_right_way(
        self, objectives: list[Callable[[Any], Tensor]], batch: Any, vector: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Return each objective's value and product, by a way that serves from here on too.

        That is forward mode as long as it gives what double backward does. Operators are replaced
        from the first one on that has no second derivative, or a wrong one.
        """

        def by(slope: Slope) -> list[tuple[Tensor, Tensor]]:
            return [self._product(f, batch, vector, slope) for f in objectives]

        exact: list[tuple[Tensor, Tensor]] | None = None
        try:
            with WrongSecond() as wrong:
                exact = by(_checked_slope)
        except RuntimeError as first:
            if not any(words in str(first) for words in WITHOUT_DERIVATIVE):
                raise
        if exact is None or wrong.met:
            self.replaced = with_second_derivatives
            try:
                exact = by(_checked_slope)
            except RuntimeError as error:
                raise ValueError(_without_derivative(error)) from error
        if self.slope is _reverse_slope:
            return exact
        try:
            found = by(_forward_slope)
        except RuntimeError:  # an operation without a forward-mode rule
            self.slope = _reverse_slope
            return exact
        # half of the digits: rounding stays far below it, a wrong rule errs by far more
        close = torch.finfo(self.like.dtype).eps ** 0.5
        rows = zip(found, exact)
        if all((f - e).norm() <= close * e.norm() for (_, f), (_, e) in rows):
            return found
        self.slope = _reverse_slope
        return exact


def _share(objective: Objective, batch: Any, weight: float) -> Callable[[Any], Tensor]:
    return lambda output: objective.loss(output, batch, weight)


def _squares(output: Any) -> Tensor:
    found = [x.square().sum() for x in leaves(output) if x.is_floating_point()]
    if not found:
        raise ValueError("the model's output holds no floating-point tensor")
    return torch.stack(found).sum() if len(found) > 1 else found[0]


def _without_derivative(error: RuntimeError) -> str:
    reason = str(error).splitlines()[0]
    if "does not require grad" in reason:
        return ELSEWHERE
    return f"no second derivative of this model and loss: {type(error).__name__}: {reason}"


def _forward_slope(loss: Loss, params: Params, direction: Params) -> tuple[Tensor, Tensor]:
    # mypy: with `has_aux` there would be a third
    return cast(tuple[Tensor, Tensor], jvp(loss, (params,), (direction,)))


def _reverse_slope(loss: Loss, params: Params, direction: Params) -> tuple[Tensor, Tensor]:
    value = loss(params)
    inputs = tuple(params.values())
    rows = torch.autograd.grad(value, inputs, create_graph=True, materialize_grads=True)
    along = sum((g * v).sum() for g, v in zip(rows, direction.values(), strict=True))
    return value, cast(Tensor, along)  # mypy: sum() of nothing would be 0


def _checked_slope(loss: Loss, params: Params, direction: Params) -> tuple[Tensor, Tensor]:
    """Return the reverse slope of functions that can be differentiated twice.

    One marked as once differentiable is no error to `torch.autograd.grad`, which finds no path
    through it to the parameters, and takes its second derivative for zero.
    """
    value, along = _reverse_slope(loss, params, direction)
    seen, found = set(), [value.grad_fn, along.grad_fn]
    while found:
        node = found.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if node.name().endswith("::Error"):
                raise RuntimeError(
                    "a function can be differentiated only once (once_differentiable)"
                )
            if node.name() == "CheckpointFunctionBackward":
                raise ValueError(
                    "derivatives miss the weights inside torch.utils.checkpoint with "
                    "use_reentrant=True: give use_reentrant=False"
                )
            found += [child for child, _ in node.next_functions]
    return value, along
