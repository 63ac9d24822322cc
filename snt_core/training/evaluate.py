"""Top-1 and loss of a net on a split of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.data.facts import Facts
from snt_core.data.split import Images, normalise


@dataclass(frozen=True)
class Evaluation:
    """Top-1 in percent, mean cross-entropy in nats, and whether each image was right (bool `N`)."""

    top1: float
    loss: float
    correct: Tensor


@torch.no_grad()
def evaluate(model: nn.Module, split: Images, facts: Facts, batch_size: int = 500) -> Evaluation:
    """Return top-1 and loss of `model` in eval mode on the images of `split` in their order."""
    model.eval()
    losses, correct = [], []
    for part in split.batches(batch_size):
        logits = model(normalise(part.images, facts)).float()
        # sums, so that a last batch of fewer images counts for what it is
        losses.append(F.cross_entropy(logits, part.labels, reduction="sum"))
        correct.append(logits.argmax(1) == part.labels)
    right = torch.cat(correct)
    loss = float(torch.stack(losses).sum()) / len(split)
    return Evaluation(100 * float(right.double().mean()), loss, right.cpu())
