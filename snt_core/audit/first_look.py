"""The look before an audit: a batch runs, the task is inferred, time and memory are estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from snt_core.audit import calls
from snt_core.audit.scene import Scene, Sizes, answer, score
from snt_core.audit.user_files import in_a_line
from snt_core.common.errors import UserError
from snt_core.common.timing import seconds_of
from snt_core.methods.tasks.feed import leaves, moved

FEW = 2  # samples that are timed
QUICK = 4.0  # seconds
PROBE = 32  # forward passes of a sample that trying a product takes: four for each of 2 * FEW + 4
MUCH = 0.1  # of the budget
NO_TIME = "no time"
# of the budget: each evaluation, all layers alone, a Hessian product; two thirds of it in all,
# since other work on the machine makes measurements slower than the first look found them
SHARES = {"evaluate": 0.009, "layer": 0.16, "product": 0.004}


@dataclass(frozen=True)
class FirstLook:
    """What is known of a net before it is measured.

    Attributes:
        outputs: the shape of an answer, without the batch.
        covered: share of the weights that compression touches.
        untouched: parameters that it does not, with the reason and how to mend it.
        unsupported: what cannot be measured, with the reason.
        memory: bytes that the measurements are expected to need at most.
        is_vit: whether tokens can be merged or pruned.
        product: seconds a sample of a Hessian-vector product; 0 where there is none.
        layers: how many weights each layer has that can be treated alone.
    """

    outputs: tuple[int, ...]
    parameters: int
    covered: float
    touched: list[dict[str, Any]]
    untouched: list[dict[str, Any]]
    unsupported: dict[str, str]
    memory: int
    is_vit: bool
    product: float = 0.0
    layers: Mapping[str, int] = field(default_factory=dict)


def outputs_of(model: nn.Module, inputs: Tensor) -> Any:
    """Return what the net answers to some inputs; where that is an object with logits, those.

    Raises UserError: the net cannot take them.
    """
    try:
        with torch.no_grad():
            found = model(inputs)
    except Exception as error:  # whatever a user's net raises
        raise UserError(
            f"the net cannot take a batch of the shape {tuple(inputs.shape)}: {in_a_line(error)}; "
            f"check its input size, define transform(image) in the net's file, or give --data "
            f"FILE.py:NAME that makes what it takes"
        ) from error
    return found


def speak_in_logits(model: nn.Module) -> None:
    """Let a net that answers with an object, as Hugging Face's do, answer with its logits."""

    def logits(module: nn.Module, args: Any, output: Any) -> Any:
        return logits_of(output)

    model.register_forward_hook(logits)


def logits_of(output: Any) -> Any:
    """Return the logits of an answer that has some, else the answer."""
    if isinstance(output, Mapping):
        return output.get("logits", output)
    return getattr(output, "logits", output)


def classes_of(output: Any) -> int:
    """Return how many classes an answer is of.

    Raises UserError where it is none of a classifier: then a task has to say what the loss is.
    """
    if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] > 1:
        return int(output.shape[1])
    what = (
        f"a tensor of {tuple(output.shape)}"
        if isinstance(output, Tensor)
        else type(output).__name__
    )
    raise UserError(
        f"the net answers with {what}, not with B x classes; give --task FILE.py:NAME with a Task "
        f"whose loss_fn(output, target) says what is lost"
    )


def look(scene: Scene, budget: float = math.inf) -> FirstLook:
    """Return what is known at once. Nothing is left changed.

    Where a single Hessian product would take much of the `budget` seconds, none is tried.
    """
    touched, untouched = calls.coverage(scene.model)
    total = sum(row["weights"] for row in touched + untouched)
    output = _first_answer(scene)
    unsupported: dict[str, str] = {}
    if not touched:
        unsupported["compression"] = (
            "no convolution, linear, attention or recurrent layer is in the net"
        )
    elif isinstance(output, Tensor) and not output.isfinite().all():
        unsupported["compression"] = "the float net answers with values that are not finite"
    device = torch.device(scene.device)
    expected = PROBE * seconds_of(lambda: _first_answer(scene), device)
    if expected > MUCH * budget:
        why = f"{NO_TIME}: a Hessian product takes about {expected:.0f} s; give a larger --budget"
        product = 0.0
    else:
        why, product = _curvature(scene)
    if why:
        unsupported["curvature"] = why
    is_vit, why_not = _tokens(scene)
    if not is_vit:
        unsupported["tokens"] = why_not
    return FirstLook(
        outputs=tuple(output.shape[1:]) if isinstance(output, Tensor) else (),
        parameters=total,
        covered=sum(row["weights"] for row in touched) / max(total, 1),
        touched=touched,
        untouched=untouched,
        unsupported=unsupported,
        memory=_memory(scene, total),
        is_vit=is_vit,
        product=product,
        layers={name: p.numel() for name, p in calls.weights(scene.plain).items()},
    )


def _first_answer(scene: Scene) -> Any:
    """Return what the net gives for the first sample, or the first batch that a task takes."""
    with torch.no_grad():
        batch = moved(scene.chunks(1)[0], torch.device(scene.device))
        return answer(scene.model, scene.task, batch)


def _curvature(scene: Scene) -> tuple[str, float]:
    """Return why there is no curvature (empty if there is), and the seconds a sample of a product.

    Each call compares two ways of differentiating, on two samples and on all, so that it takes the
    time of 2 * `FEW` + 4 samples. The first one prepares what later ones find ready: where it is
    quick, it is repeated.
    """
    device = torch.device(scene.device)
    try:
        seconds = seconds_of(lambda: calls.product(scene, FEW), device)
        if seconds < QUICK:
            seconds = min(seconds, seconds_of(lambda: calls.product(scene, FEW), device))
    except Exception as error:  # an operation without a second derivative, or a net that is odd
        return in_a_line(error), 0.0
    return "", seconds / (2 * FEW + 4)


def _tokens(scene: Scene) -> tuple[bool, str]:
    try:
        calls.fewer_tokens(scene, "merge", 0)
    except ValueError as error:
        return False, str(error)
    return True, ""


def _memory(scene: Scene, parameters: int) -> int:
    """Return about how many bytes: samples, copies, activations of a batch, Krylov vectors."""
    activations = 0

    def count(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal activations
        if isinstance(output, Tensor):
            activations += output.numel() * output.element_size()

    hooks = [
        m.register_forward_hook(count) for m in scene.model.modules() if not list(m.children())
    ]
    try:
        with torch.no_grad():
            _first_answer(scene)
    finally:
        for hook in hooks:
            hook.remove()
    held = leaves(scene.raw or scene.inputs)
    samples = sum(one.numel() * one.element_size() for one in held)
    return int(samples + 4 * parameters * (4 + 24) + 8 * 4 * activations)


def sized(scene: Scene, budget: float, look: FirstLook) -> Sizes:
    """Return sample counts with which measurements fit into `budget` seconds; times a batch."""
    n = min(FEW, len(scene.inputs))
    device = torch.device(scene.device)
    # the least of three, since others may be busy
    forward = min(seconds_of(lambda: score(scene.model, scene, n), device) for _ in range(3)) / n
    product, layers = look.product, len(look.layers)
    there = len(scene.inputs)

    def fits(seconds: float, each: float, least: int, most: int) -> int:
        return max(1, min(there, most, max(least, int(seconds / max(each, 1e-9)))))

    tries = max(1, 2 * layers)
    return Sizes(
        forward=forward,
        product=product,
        evaluate=fits(SHARES["evaluate"] * budget, forward, 32, 1000),
        layer=fits(SHARES["layer"] * budget / tries, forward, 16, 256),
        curve=fits(SHARES["product"] * budget, product, 4, 256) if product else 1,
        calibrate=fits(SHARES["evaluate"] * budget / 3, forward, 16, 128),
    )


def as_begun(look: FirstLook, sizes: Sizes) -> FirstLook:
    """Return the look as it was when an audit began, which `sizes` knows.

    Whether there is time for a Hessian product hangs on what else the machine does; what was
    decided first stays, so that an audit that goes on has the same measurements.
    """
    rest = {key: why for key, why in look.unsupported.items() if key != "curvature"}
    why = look.unsupported.get("curvature", "")
    if sizes.product and why.startswith(NO_TIME):
        return replace(look, unsupported=rest)
    if not sizes.product and not why:
        told = f"{NO_TIME}: a Hessian product took too long when this audit began; give another"
        return replace(look, unsupported={**rest, "curvature": f"{told} --budget"})
    return look
