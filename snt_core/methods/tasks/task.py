r"""What a model is for: how it is called on a batch, and the loss of what it says.

`Task()` is classification of batches `(images, labels)` by the cross-entropy. Anything else is said
once, and every function that takes a ``task`` follows it::

    import torch.nn.functional as F

    from snt_core.methods.tasks.task import Task

    regression = Task(loss_fn=F.mse_loss)
    binary = Task(loss_fn=F.binary_cross_entropy_with_logits)
    segmentation = Task(  # batches (images, classes of pixels); the model returns {"out": ...}
        loss_fn=F.cross_entropy,
        forward=lambda model, batch: model(batch[0])["out"],
    )
    language = Task(  # batches {"input_ids": ..., "labels": ...}, as of Hugging Face
        loss_fn=lambda logits, labels: F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
        forward=lambda model, batch: model(input_ids=batch["input_ids"]).logits,
        target=lambda batch: batch["labels"],
        weight=lambda batch: (batch["labels"] != -100).sum(),
    )
    autoencoder = Task(loss_fn=F.mse_loss, target=lambda images: images)  # batches are tensors

**The loss of many batches** is :math:`L = \sum_b w_b \ell_b / \sum_b w_b`, with :math:`\ell_b` what
``loss_fn`` returns for batch b and :math:`w_b` its ``weight``. So ``loss_fn`` must return a mean,
and ``weight`` how much that mean is taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

IGNORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True, kw_only=True)
class Task:
    """How a model is called on a batch, and the loss of its output; classification by default.

    Attributes:
        loss_fn: `(output, target) -> scalar`, the mean over what counts in the batch. By default
            the cross-entropy of logits N C for class indices N, without those that are -100.
        forward: `(model, batch) -> output`. It must call the model that it is given, which is a
            copy. By default `model(batch[0])`, or `model(batch)` where the batch is a tensor.
        target: `batch -> target`; by default `batch[1]`.
        weight: `batch -> number`, how much the batch counts in the mean over batches. By default
            the samples, and for the cross-entropy the labels that are not ignored (times their
            class weights, where it has any).

    What ``forward`` and ``loss_fn`` get lies on the model's device, however a batch is nested.
    Floating-point tensors reach ``forward`` in the model's format, integers as they are.

    Raises:
        ValueError: something else than a function was given.
    """

    loss_fn: Callable[[Any, Any], Tensor] | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None
    target: Callable[[Any], Any] | None = None
    weight: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, type):
                raise ValueError(
                    f"{field.name}={value.__name__} is a class: write {value.__name__}(), or its "
                    "function of torch.nn.functional"
                )
            if value is not None and not callable(value):
                raise ValueError(
                    f"{field.name} is a {type(value).__name__}: it must be a function "
                    f"(such as loss_fn=torch.nn.functional.mse_loss) or None"
                )
        reduction = getattr(self.loss_fn, "reduction", "mean")
        # "batchmean", which KLDivLoss alone has, is the mean over the samples
        if reduction not in ("mean", "batchmean") and isinstance(self.loss_fn, nn.Module):
            raise ValueError(
                f"loss_fn has the reduction '{reduction}': it must return the mean over the batch "
                "(reduction='mean')"
            )


def checked_task(task: Task | None) -> Task:
    """Return the task, or classification where there is none.

    Raises:
        ValueError: it is something else.
    """
    if task is not None and not isinstance(task, Task):
        raise ValueError(f"task is a {type(task).__name__}: give task=Task(loss_fn=...)")
    return task or Task()
