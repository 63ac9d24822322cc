"""Class labels: what they are, what else is refused with the task to give, and which count."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.methods.tasks.task import IGNORED

REGRESSION = "give task=Task(loss_fn=torch.nn.functional.mse_loss) for a regression"
OTHERS = (
    f"{REGRESSION}, binary_cross_entropy_with_logits for binary targets, cross_entropy for soft "
    "labels or for one label a position"
)
PARTS = (
    "give task=Task(forward=lambda model, batch: model(batch[0], batch[1]), "
    "target=lambda batch: batch[2])"
)


def refuse_others(target: Any) -> None:
    """Refuse what is no tensor of N class indices."""
    if not isinstance(target, Tensor):
        raise ValueError(
            f"targets that are a {type(target).__name__} are no class labels: give a tensor of "
            "them, or task=Task(target=lambda batch: ..., loss_fn=...)"
        )
    if target.ndim == 0:
        raise ValueError(
            "a target is a scalar: data is a list of samples, not of batches; give "
            "DataLoader(data, batch_size=128)"
        )
    if target.ndim != 1 or target.is_floating_point() or target.dtype == torch.bool:
        dtype = str(target.dtype).removeprefix("torch.")
        raise ValueError(
            f"targets of shape {tuple(target.shape)} {dtype} are no class labels: {OTHERS}"
        )


def checked_labels(output: Any, target: Tensor) -> Tensor:
    """Return the labels as int64; refuse what is no logits N C, and labels that are none of C."""
    if not isinstance(output, Tensor):
        keys = f" with {list(output)}" if isinstance(output, Mapping) else ""
        raise ValueError(
            f"the model returned a {type(output).__name__}{keys}, not logits: give "
            "task=Task(forward=lambda model, batch: model(batch[0])[...])"
        )
    if output.ndim != 2 or len(output) != len(target):
        raise ValueError(
            f"an output of shape {tuple(output.shape)} is not {len(target)} rows of logits, one "
            f"for each class: {OTHERS}"
        )
    if output.shape[1] < 2:
        raise ValueError(f"an output of shape {tuple(output.shape)} has one class: {OTHERS}")
    labels = target.to(output.device).long()
    counted = labels[labels != IGNORED]
    low, high = counted.aminmax() if len(counted) else (0, 0)
    if low < 0 or high >= output.shape[1]:
        raise ValueError(
            f"labels from {low} to {high} do not fit {output.shape[1]} logits: they must be 0 to "
            f"{output.shape[1] - 1}, or {IGNORED} for what does not count"
        )
    return labels


def weights_of(labels: Tensor, classes: Tensor) -> Tensor:
    """Return the class weight of each label; refuse labels that have none."""
    if labels.numel():
        low, high = labels.aminmax()
        if low < 0 or high >= len(classes):
            raise ValueError(
                f"labels from {low} to {high} do not fit {len(classes)} class weights: give one "
                "weight for each class"
            )
    return classes.to(labels.device)[labels.long()]


def what_counts(loss_fn: Any) -> tuple[int, Tensor | None] | None:
    """Return the ignored label and the class weights of a cross-entropy, or None for another."""
    if loss_fn is None:
        return IGNORED, None
    if isinstance(loss_fn, nn.CrossEntropyLoss | nn.NLLLoss):
        return loss_fn.ignore_index, loss_fn.weight
    options = loss_fn.keywords if isinstance(loss_fn, partial) else {}
    if (loss_fn.func if isinstance(loss_fn, partial) else loss_fn) in (F.cross_entropy, F.nll_loss):
        return options.get("ignore_index", IGNORED), options.get("weight")
    return None
