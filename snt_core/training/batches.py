"""The batches of a training: which images each step takes is a function of seed and step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from snt_core.data.augment import generator
from snt_core.data.split import Dataset, Draw, normalise
from snt_core.training import ranks
from snt_core.training.recipe import Recipe


def batches(
    data: Dataset, recipe: Recipe, seed: int, first: int, steps: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield this rank's part of the batches from step `first` on: step, images, labels.

    Images are normalised, `B C H W`.
    """
    size = min(recipe.batch_size, len(data.train))
    draws = _draws(len(data.train), size, seed, first, steps)
    parts = data.train.drawn(draws, recipe.augment, seed, ranks.share(size))
    for step, part in zip(range(first, steps), parts, strict=True):
        yield step, normalise(part.images, data.facts), part.labels


def _draws(n: int, size: int, seed: int, first: int, steps: int) -> Iterator[Draw]:
    """Yield the draws of each step: a new permutation of `n` images each epoch, no ragged rest."""
    order = torch.empty(0)
    for step in range(first, steps):
        epoch, place = divmod(step, n // size)
        if place == 0 or step == first:
            # 0: the purpose, as 1 is augmentation; on the CPU, so that devices agree
            order = torch.randperm(n, generator=generator("cpu", seed, 0, epoch))
        yield Draw(step, epoch, order[place * size : (place + 1) * size])
