"""When a training has diverged: one rule, for pretraining, fine-tuning and pruning rounds alike.

A net has diverged when a number of it is not finite, or when it ends far worse than guessing. It is
recorded as diverged then, and never judged.
"""

from __future__ import annotations

import math

import torch
from torch import nn

# In units of the loss of guessing. Published trainings end below 1 in both losses.
LIMIT = 3.0  # of the loss on training batches and on validation images, both
# Of the validation loss alone, which running statistics that ran away show in. It lies high, since
# they have not settled after the few steps of a training in profile smoke.
RUNAWAY = 1000.0


class Diverged(Exception):
    """An error: a training ended in a net that says nothing. `step` is where it was noticed."""

    def __init__(self, step: int, what: str = "the loss is not finite") -> None:
        super().__init__(f"{what} at step {step}")
        self.step = step


def not_finite(model: nn.Module, loss: float) -> str:
    """Return what is not finite: the loss, or a weight or running statistic; empty if all are."""
    if not math.isfinite(loss):
        return "the loss"
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return ""


def require_trained(step: int, train_loss: float, val_loss: float, num_classes: int) -> None:
    """Raise Diverged if a training ended far above the loss of guessing.

    Args:
        train_loss: mean cross-entropy in nats of the steps since the last reading.
        val_loss: that of the weights that count, in eval mode.
        num_classes: guessing among them costs `log(num_classes)`.
    """
    chance = math.log(num_classes)
    if min(train_loss, val_loss) > LIMIT * chance or val_loss > RUNAWAY * chance:
        raise Diverged(step, f"the loss is {val_loss / chance:.3g} times that of guessing")
