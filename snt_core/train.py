"""The one training loop, for pretraining and fine-tuning alike, and the evaluation.

Randomness is a function of (seed, purpose, step), never of what ran before, so a resumed run
draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from snt_core.data import Dataset, Facts, Split, crop_flip, normalise
from snt_core.engine import Engine
from snt_core.errors import UserError
from snt_core.files import atomic_write
from snt_core.sam import SAM
from snt_core.specs import Recipe
from snt_core.transform import SNTActivation, fuse

CHECK_EVERY = 20  # steps between looks at the loss and the clock
SAVE_EVERY = 30.0  # seconds of work between checkpoints
WORTH_COMPILING = 20_000  # images passed; fewer do not earn back the seconds that compiling costs

Progress = Callable[[int, int], None]


class Diverged(Exception):
    """The loss is no longer finite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


@dataclass(frozen=True)
class Evaluation:
    """Top-1 in percent, mean cross-entropy, and for each image whether it was right (bool `N`)."""

    top1: float
    loss: float
    correct: Tensor


@dataclass(frozen=True)
class Fit:
    """`history` has one entry per evaluation: step, epoch, lr, train_loss, val_top1, val_loss.

    `resumed` is the step that this process went on from, `earlier` the seconds spent before it;
    `fused` says whether Eq. (1) ran as a compiled kernel.
    """

    history: list[dict[str, float]]
    steps: int
    earlier: float
    resumed: int
    fused: bool


def generator(device: str, *keys: int) -> Generator:
    """Random stream that belongs to `keys` alone."""
    seed = int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return Generator(device).manual_seed(seed)


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine from `peak` to zero at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def optimizer_for(model: nn.Module, recipe: Recipe) -> SAM | torch.optim.Optimizer:
    """Adam with decoupled weight decay on weight matrices and kernels only; SAM around it."""
    spared = {
        id(p) for m in model.modules() if isinstance(m, SNTActivation) for p in m.parameters()
    }
    params = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in params if p.ndim > 1 and id(p) not in spared]
    others = [p for p in params if p.ndim <= 1 or id(p) in spared]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    if recipe.optimizer == "adam":
        return adam
    return SAM(adam, rho=recipe.rho, adaptive=recipe.adaptive, buffers=model.buffers())


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    engine: Engine,
    *,
    seed: int,
    evaluations: int | None = None,
    checkpoint: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Fit:
    """Train `model` in place on `data.train`; `data` must lie on `engine.device`.

    Args:
        evaluations: how often validation accuracy is read, evenly spaced (default: every epoch).
        checkpoint: file that holds the state under way; if it exists the run goes on from it and
            ends bitwise equal to an uninterrupted one (CPU, same thread count).
        progress: called with steps done and steps in all.

    Raises:
        Diverged: the loss stopped being finite.
        UserError: the checkpoint is another net's, damaged, or of another number format.
    """
    per_epoch = max(1, len(data.train) // recipe.batch_size)
    steps = recipe.epochs * per_epoch
    warmup = round(recipe.warmup_epochs * per_epoch)
    reads = evaluations or recipe.epochs
    read_at = {round(steps * (i + 1) / reads) for i in range(reads)}

    model.to(engine.device).to(memory_format=torch.channels_last)
    fused = engine.fused and steps * recipe.batch_size >= WORTH_COMPILING
    fuse(model, fused)
    optimizer = optimizer_for(model, recipe)
    loss = torch.zeros((), dtype=torch.float64, device=engine.device)
    state = _State(loss, numerics=f"{engine.dtype}{', fused' if fused else ''}")
    if checkpoint is not None and checkpoint.exists():
        state.restore(checkpoint, model, optimizer)
    first = state.step
    started = saved = time.monotonic()

    model.train()
    for step, images, labels in _batches(data, recipe, seed, first, steps):
        rate = learning_rate(step, steps, warmup, recipe.lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        state.loss += _update(model, optimizer, images, labels, engine)
        state.step, state.since = step + 1, state.since + 1
        read, checked = state.step in read_at, state.step % CHECK_EVERY == 0
        if (read or checked) and not math.isfinite(state.loss):
            raise Diverged(state.step)
        if read:
            state.history.append(_read(model, data, engine, state, per_epoch, rate))
            model.train()
        if checked:
            progress(state.step, steps)
            now = time.monotonic()
            if checkpoint is not None and now - saved > SAVE_EVERY:
                state.save(checkpoint, model, optimizer, now - started)
                saved = now
    fuse(model, False)
    model.eval()
    return Fit(state.history, steps, state.seconds, first, fused)


def _batches(
    data: Dataset, recipe: Recipe, seed: int, first: int, steps: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Batches from step `first` on: a new permutation each epoch, the ragged rest left out."""
    train = data.train
    device = str(train.images.device)
    size = min(recipe.batch_size, len(train))
    per_epoch = len(train) // size
    order = torch.empty(0)
    for step in range(first, steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0 or step == first:
            order = torch.randperm(len(train), generator=generator("cpu", seed, 0, epoch))
            order = order.to(device)
        rows = order[place * size : (place + 1) * size]
        images = train.images[rows]
        if recipe.augment == "crop-flip":
            images = crop_flip(images, generator(device, seed, 1, step))
        yield step, normalise(images, data.facts), train.labels[rows]


def _update(
    model: nn.Module,
    optimizer: SAM | torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    engine: Engine,
) -> Tensor:
    """One optimizer step; the loss before it."""

    def closure() -> Tensor:
        with engine.autocast():
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    if isinstance(optimizer, SAM):
        return optimizer.step(closure)
    optimizer.zero_grad()
    loss = closure()
    optimizer.step()
    return loss.detach()


def _read(
    model: nn.Module, data: Dataset, engine: Engine, state: _State, per_epoch: int, rate: float
) -> dict[str, float]:
    with engine.autocast():
        val = evaluate(model, data.val, data.facts)
    mean = float(state.loss) / state.since
    state.loss.zero_()
    state.since = 0
    return {
        "step": state.step,
        "epoch": state.step / per_epoch,
        "lr": rate,
        "train_loss": mean,
        "val_top1": val.top1,
        "val_loss": val.loss,
    }


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, facts: Facts, batch_size: int = 500) -> Evaluation:
    """Accuracy and loss of `model` in eval mode on every image of `split`, in the given order."""
    model.eval()
    losses, correct = [], []
    for start in range(0, len(split), batch_size):
        part = split[start : start + batch_size]
        logits = model(normalise(part.images, facts)).float()
        losses.append(F.cross_entropy(logits, part.labels, reduction="sum"))
        correct.append(logits.argmax(1) == part.labels)
    right = torch.cat(correct)
    loss = float(torch.stack(losses).sum()) / len(split)
    return Evaluation(100 * float(right.double().mean()), loss, right.cpu())


@dataclass
class _State:
    """What a resumed run needs beside the weights: place, sums since the last reading, history."""

    loss: Tensor
    numerics: str
    step: int = 0
    since: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path, model: nn.Module, optimizer: Any, seconds: float) -> None:
        buffer = io.BytesIO()
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "loss": self.loss,
            "step": self.step,
            "since": self.since,
            "seconds": self.seconds + seconds,
            "history": self.history,
            "numerics": self.numerics,
        }
        torch.save(state, buffer)
        atomic_write(path, buffer.getvalue())

    def restore(self, path: Path, model: nn.Module, optimizer: Any) -> None:
        try:
            saved = torch.load(path, map_location=self.loss.device, weights_only=True)
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} does not fit ({reason}); remove it to start anew") from error
        if saved["numerics"] != self.numerics:
            raise UserError(
                f"{path} was begun in {saved['numerics']}, not {self.numerics}: go on with the "
                f"options and the machine that it was begun with, or remove the file to start anew"
            )
        self.loss.copy_(saved["loss"])
        self.step, self.since = saved["step"], saved["since"]
        self.seconds, self.history = saved["seconds"], saved["history"]
