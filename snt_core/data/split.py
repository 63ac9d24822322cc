"""A data set in memory: images, labels, and how batches are drawn from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from snt_core.data.augment import augment, generator
from snt_core.data.facts import Facts


class Draw(NamedTuple):
    """The images of one training step: `rows` (int64) of the split, at `step` of the run."""

    step: int
    epoch: int
    rows: Tensor


class Images(Protocol):
    """A part of a data set, in memory (`Split`) or in files (`imagenet.Streamed`).

    Whoever wants pixels asks for `tensors`, `batches` or `drawn`; `Split` says what each gives.
    """

    @property
    def labels(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> Self: ...

    def to(self, device: str) -> Self: ...

    def tensors(self, n: int) -> Split: ...

    def batches(self, size: int) -> Iterator[Split]: ...

    def drawn(
        self, draws: Iterable[Draw], name: str, seed: int, share: slice = ...
    ) -> Iterator[Split]: ...


@dataclass(frozen=True)
class Split:
    """Images in memory: `images` uint8 `N H W C`, `labels` int64 `N`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> Split:
        return Split(self.images[rows], self.labels[rows])

    def to(self, device: str) -> Split:
        """Return a copy on `device`, or the tensors themselves if they are there already."""
        return Split(self.images.to(device), self.labels.to(device))

    def tensors(self, n: int) -> Split:
        """Return the first `n` images (or all, if there are fewer)."""
        return self[:n]

    def batches(self, size: int) -> Iterator[Split]:
        """Yield all images in order, the last batch as small as it is."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def drawn(
        self, draws: Iterable[Draw], name: str, seed: int, share: slice = slice(None)
    ) -> Iterator[Split]:
        """Yield for each draw this rank's `share` of its batch, augmented as `name` says.

        The whole batch is augmented first, so that ranks together see what one process would.
        """
        device = str(self.images.device)
        for draw in draws:
            # pinned, or the copy would wait until the card has done all that was sent to it
            rows = draw.rows.pin_memory() if self.images.is_cuda else draw.rows
            rows = rows.to(device, non_blocking=True)
            # 1: the purpose; 0 is the order of the images (`training.fit`)
            images = augment(self.images[rows], name, generator(device, seed, 1, draw.step))
            yield Split(images[share], self.labels[rows][share])


@dataclass(frozen=True)
class Dataset:
    """Three parts of a data set, with the facts about it.

    `digest` names the exact pixels and labels, whatever files they came from; for a streamed data
    set it names paths and sizes of files.
    """

    name: str
    train: Images
    val: Images
    test: Images
    facts: Facts
    digest: str

    def to(self, device: str) -> Dataset:
        """Return the data set with its parts on `device`."""
        train, val, test = (part.to(device) for part in (self.train, self.val, self.test))
        return replace(self, train=train, val=val, test=test)


def normalise(images: Tensor, facts: Facts) -> Tensor:
    """Return uint8 `B H W C` as float `B C H W`, channels last in memory, each standardised."""
    mean, std = _mean_and_std(facts.mean, facts.std, images.device)
    return ((images - mean) / std).permute(0, 3, 1, 2)


@cache
def _mean_and_std(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel on the scale 0 to 255.

    They are made once: to make them, the host waits for the card.
    """
    return torch.tensor(mean, device=device) * 255, torch.tensor(std, device=device) * 255
