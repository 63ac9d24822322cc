"""A task on data: what the model is shown, and the loss of what it says, batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snt_core.methods.models.wrapping import copied
from snt_core.methods.tasks.blaming import KINDS, blaming
from snt_core.methods.tasks.class_labels import (
    PARTS,
    checked_labels,
    refuse_others,
    weights_of,
    what_counts,
)
from snt_core.methods.tasks.feed import Feed, floats, leaves, moved
from snt_core.methods.tasks.task import IGNORED, Task, checked_task

Preprocess = Callable[[Tensor], Tensor]  # a chunk of images to what the model takes
DICTS = (
    "give task=Task(forward=lambda model, batch: model(input_ids=batch['input_ids']).logits, "
    "target=lambda batch: batch['labels'])"
)


FIRST = "the model fails on the first batch"
ELSEWHERE = (
    "the loss does not depend on the model's parameters: do forward and loss_fn use the model and "
    "output that they are given, without detach or no_grad?"
)


class Objective:
    """The mean loss of a task over data, as a sum over batches.

    Attributes:
        total: the weights of all batches together, by which the sum of the losses is divided.
        pair: the data, where it is a pair of tensors.
    """

    def __init__(
        self,
        data: Any,
        task: Task | None = None,
        *,
        batch_size: int = 128,
        preprocess: Preprocess | None = None,
    ) -> None:
        self.task = checked_task(task)
        self.batch_size, self.preprocess = batch_size, preprocess
        alone = self.task.target is not None
        self.feed = Feed(data, batch_size, inputs_alone=alone)
        self.pair = self.feed.pair
        # a pass over the data alone: each batch is checked before any work
        self.total = _whole(sum(self.weight(batch) for batch in self.feed))
        if not self.total > 0:
            raise ValueError(
                f"the batches weigh {self.total} in all: the data has no batch, or only labels "
                f"that do not count ({IGNORED})"
            )

    def part(self, data: tuple[Tensor, Tensor]) -> Objective:
        """Return the same task on other data."""
        return Objective(data, self.task, batch_size=self.batch_size, preprocess=self.preprocess)

    def batches(self, device: torch.device) -> Iterator[tuple[Any, float]]:
        """Yield the batches that count, on the device, and their weights.

        Raises:
            ValueError: they weigh something else than in the pass before.
        """
        total: float = 0
        for batch in self.feed:
            weight = self.weight(batch)
            total += weight
            if weight:
                yield moved(batch, device), weight
        # float weights may be added in another order where the data is shuffled
        if abs(total - self.total) > 1e-6 * self.total:
            raise changed(f"weighed {self.total} and then {_whole(total)}")

    def output(self, model: nn.Module, batch: Any, dtype: torch.dtype) -> Any:
        """Return what the model says of a batch that is on its device."""
        if self.task.forward is not None:
            if self.preprocess is not None:
                raise ValueError("preprocess is for models called on batch[0]: do it in forward")
            return self.task.forward(model, floats(batch, dtype))
        x = self._inputs(batch)
        return model(floats(x if self.preprocess is None else self.preprocess(x), dtype))

    def loss(self, output: Any, batch: Any, weight: float) -> Tensor:
        """Return the batch's share of the sum: its mean loss times its weight."""
        target = self._target(batch)
        if self.task.loss_fn is None:
            labels = checked_labels(output, target)
            if self.task.weight is None:
                return F.cross_entropy(output, labels, reduction="sum")
            return F.cross_entropy(output, labels) * weight
        loss = self.task.loss_fn(output, target)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"the shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise ValueError(f"loss_fn returned {what}: it must return one number, a mean tensor")
        return loss.reshape(()) * weight

    def exact_loss(self, output: Any, batch: Any, weight: float) -> Tensor:
        """Return :meth:`loss` with the cross-entropy in float64; other losses know their format."""
        exact = output if self.task.loss_fn else floats(output, torch.float64)
        return self.loss(exact, batch, weight).double()

    def weight(self, batch: Any) -> float:
        """Return how much a batch counts in the mean.

        Raises:
            ValueError: its targets are no class labels and no task says what else, or it is not
                said how much it counts.
        """
        target = self._target(batch)
        if self.task.loss_fn is None:
            refuse_others(target)
        if self.task.weight is not None:
            with blaming("weight fails on a batch"):
                weight = self.task.weight(batch)
            return _number(weight)
        indices = isinstance(target, Tensor) and not target.is_floating_point()
        counted = what_counts(self.task.loss_fn)
        if indices and counted is not None:
            ignored, classes = counted
            counts = target != ignored
            if classes is None:
                return int(counts.sum())
            return float(weights_of(target[counts], classes).sum())
        if indices and (target == IGNORED).any():
            raise ValueError(
                f"some targets are {IGNORED}, and this loss_fn may leave them out: give weight="
                f"lambda batch: (batch[1] != {IGNORED}).sum(), or another count of what it averages"
            )
        tensors = [x for x in (*leaves(target), *leaves(batch)) if x.ndim]
        if not tensors:
            raise ValueError("a batch holds no tensor: give weight=lambda batch: its samples")
        return len(tensors[0])

    def examine(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Check model and loss on the first batch: a loss is a mean, and compares like with like.

        Raises:
            ValueError: one of them fails, or the loss is a sum, broadcasts its target, or does not
                depend on the parameters.
        """
        params = [p for p in model.parameters() if p.requires_grad]
        device = next(model.parameters()).device
        batch, _ = next(self.batches(device))
        plain = self.task.loss_fn is None and self.task.forward is None
        if plain and self.pair is not None and self.task.target is None:
            batch = tuple(x[:2] for x in batch)  # two show whether the model takes them
        if plain:
            model = copied(model)  # it may keep what it computes here, without gradients
        with torch.set_grad_enabled(not plain), torch.autocast(device.type, enabled=False):
            with blaming(FIRST):
                output = self.output(model, batch, dtype)
            if plain:
                return
            target = self._target(batch)
            with (
                warnings.catch_warnings(record=True) as caught,
                blaming("the loss fails on the first batch"),
            ):
                warnings.simplefilter("always")
                loss = self.loss(output, batch, 1.0)
            if params and not _depends(loss, params):
                raise ValueError(ELSEWHERE)
        if self.task.loss_fn is None:
            return
        with torch.no_grad():
            once = float(loss)
            for warning in caught:
                if "target size" in str(warning.message):
                    raise ValueError(
                        f"loss_fn compares an output of shape {tuple(output.shape)} with a target "
                        f"of shape {tuple(target.shape)}, which broadcasts them: make them alike"
                    )
            pair = (output, target)
            if not all(isinstance(x, Tensor) and x.ndim for x in pair):
                return
            if len(output) != len(target):
                return
            try:
                twice = float(self.task.loss_fn(*(torch.cat([x, x]) for x in pair)))
            except (ValueError, *KINDS):  # a loss of batches of one size
                return
        # a mean stays what it was where every sample counts twice
        if once and abs(twice / once - 2) < 1e-3:
            raise ValueError(
                "loss_fn sums over the batch (twice the samples, twice the loss): it must return "
                "the mean (reduction='mean')"
            )

    def _inputs(self, batch: Any) -> Any:
        if isinstance(batch, Tensor):
            return batch
        # one part is that of a DataLoader of a TensorDataset of inputs
        if not (self.task.target and isinstance(batch, list | tuple) and len(batch) == 1):
            _refuse_parts(batch)
        return batch[0]

    def _target(self, batch: Any) -> Any:
        if self.task.target is not None:
            with blaming("target fails on a batch"):
                return self.task.target(batch)
        if isinstance(batch, Tensor):
            raise ValueError("a batch is a tensor without targets: give batches (inputs, targets)")
        _refuse_parts(batch)
        return batch[1]


class Inputs:
    """Data that a model is shown without a loss; targets may be there and do not count."""

    def __init__(
        self,
        data: Any,
        task: Task | None = None,
        *,
        batch_size: int = 128,
        preprocess: Preprocess | None = None,
    ) -> None:
        self.forward = checked_task(task).forward
        self.feed = Feed(data, batch_size, inputs_alone=True)
        self.preprocess = preprocess

    def show(self, model: nn.Module) -> None:
        """Call the model on each batch, on the device of its parameters or else the batch's."""
        device = next((p.device for p in model.parameters()), None)
        shown = 0
        for batch in self.feed:
            place = device or next((x.device for x in leaves(batch)), torch.device("cpu"))
            with (
                torch.autocast(place.type, enabled=False),
                blaming("the model fails on a batch" if shown else FIRST),
            ):
                self._show(model, moved(batch, place))
            shown += 1
        if not shown:
            raise ValueError("the data has no batch (0 images)")

    def _show(self, model: nn.Module, batch: Any) -> None:
        if self.forward is not None:
            if self.preprocess is not None:
                raise ValueError("preprocess is for models called on batch[0]: do it in forward")
            self.forward(model, batch)
            return
        if isinstance(batch, list | tuple) and len(batch) == 1:
            batch = batch[0]  # as of a DataLoader of a TensorDataset of inputs
        if not isinstance(batch, Tensor):
            _refuse_parts(batch)
            batch = batch[0]
        model(batch if self.preprocess is None else self.preprocess(batch))


def _depends(loss: Tensor, params: list[nn.Parameter]) -> bool:
    if not loss.requires_grad:
        return False
    return any(g is not None for g in torch.autograd.grad(loss, params, allow_unused=True))


def changed(how: str) -> ValueError:
    """Return the error for data that two passes do not find the same."""
    return ValueError(
        f"two passes over the data {how}: shuffling that drops or regroups samples, augmentation, "
        "and dropout that is always on make it another function each time; give a list of batches, "
        "such as list(loader)"
    )


def _refuse_parts(batch: Any) -> None:
    if isinstance(batch, Mapping):
        raise ValueError(f"a batch is a {type(batch).__name__} with {list(batch)}: {DICTS}")
    if not isinstance(batch, list | tuple):
        raise ValueError(f"a batch is a {type(batch).__name__}, not (inputs, targets): {PARTS}")
    if len(batch) != 2:
        raise ValueError(f"a batch has {len(batch)} parts, not (inputs, targets): {PARTS}")


def _number(weight: Any) -> float:
    try:
        number = float(weight)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"weight returned {weight!r}: it must return a number") from error
    if not 0 <= number < float("inf"):
        raise ValueError(f"weight returned {number}: it must be >= 0 and finite")
    return _whole(number)


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number
