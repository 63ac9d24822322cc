"""The one training loop, for pretraining and fine-tuning alike.

Randomness is a function of (seed, purpose, step), never of what ran before, so a resumed run
draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from snt_core.common import stopping
from snt_core.common.errors import UserError
from snt_core.data.split import Dataset
from snt_core.fast import graphs
from snt_core.fast.fused import fuse
from snt_core.fast.memory_format import channels_last
from snt_core.methods.optim.sam import SAM
from snt_core.methods.snt.transform import SNTActivation
from snt_core.training import ranks
from snt_core.training.batches import batches
from snt_core.training.divergence import Diverged, not_finite, require_trained
from snt_core.training.engine import Engine
from snt_core.training.evaluate import Evaluation, evaluate
from snt_core.training.recipe import Recipe
from snt_core.training.state import State

# Steps between looks at the loss and the clock. A look at the loss waits for the card.
CHECK_EVERY = 20
SAVE_EVERY = 30.0  # seconds of work between checkpoints
WORTH_COMPILING = 20_000  # images passed; fewer do not earn back the seconds that Triton takes


@dataclass(frozen=True)
class Fit:
    """The course of a training that has ended.

    `history` has one entry per evaluation: step, epoch, lr, train_loss, val_top1, val_loss.
    `resumed` is the step that this process went on from, `earlier` the seconds spent before it;
    `fused` says whether one-pass kernels ran.
    """

    history: list[dict[str, float]]
    steps: int
    earlier: float
    resumed: int
    fused: bool


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Return the rate of a step: a linear warm-up to `peak`, then half a cosine to 0 at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return Adam with decoupled weight decay, inside of SAM if the recipe says so, or SGD.

    Decay acts on weight matrices and kernels, and on parameters named `clip_alpha`: PACT
    regularises its clipping levels like weights (Choi et al., 2018, arXiv:1805.06085, sec. 3).
    """
    spared = {
        id(p) for m in model.modules() if isinstance(m, SNTActivation) for p in m.parameters()
    }
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        weight = p.ndim > 1 and id(p) not in spared
        if p.requires_grad:
            (decayed if weight or name.split(".")[-1] == "clip_alpha" else others).append(p)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=True)
    adam = torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    if recipe.optimizer == "adam":
        return adam
    return SAM(adam, rho=recipe.rho, adaptive=recipe.adaptive, model=model)


def steps_of(recipe: Recipe, data: Dataset) -> int:
    """Return the number of steps of a training; the ragged rest of each epoch is left out."""
    return recipe.epochs * max(1, len(data.train) // recipe.batch_size)


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    engine: Engine,
    *,
    seed: int,
    evaluations: int | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    after_step: Callable[[int], None] | None = None,
) -> Fit:
    """Train `model` in place on `data.train`; `data` must lie on `engine.device`.

    Under torchrun every rank calls it alike (see `training.ranks`); rank 0 alone evaluates,
    writes the checkpoint and reports, and all leave with its net and its history.

    Args:
        evaluations: how often validation accuracy is read, evenly spaced (default: every epoch).
        checkpoint: file that holds the state under way, where every rank can read it; if it exists
            the run goes on from it and ends bitwise equal to an uninterrupted one (CPU, same
            thread count).
        progress: called with steps done and steps in all.
        after_step: called with steps done after each of the optimizer's steps, before evaluation
            and checkpoint; it may change the weights, say put pruned ones back to zero.

    Raises:
        Diverged: the net says nothing (see `training.divergence`).
        Stopped: a signal came; the checkpoint is written first.
        UserError: the checkpoint is another net's, damaged, or of another number format or number
            of ranks; there are no training images; a batch does not divide among the ranks.
    """
    if not len(data.train):
        place = f"SNT_DATA_DIR/{data.name}/train"
        raise UserError(f"{data.name} has no training images; they belong in {place}")
    steps = steps_of(recipe, data)
    per_epoch = steps // recipe.epochs
    warmup = round(recipe.warmup_epochs * per_epoch)
    reads = evaluations or recipe.epochs
    read_at = {round(steps * (i + 1) / reads) for i in range(reads)}

    channels_last(model.to(engine.device))
    fused = engine.fused and (
        engine.device == "cpu" or steps * recipe.batch_size >= WORTH_COMPILING
    )
    fuse(model, fused)
    optimizer = optimizer_for(model, recipe)
    # on the device, so that adding a step's loss does not wait for it
    loss = torch.zeros((), dtype=torch.float64, device=engine.device)
    state = State(loss, numerics=_numerics(engine, fused))
    average = _average(model, recipe)
    kept = nn.ModuleList([model, average]) if average else model
    if checkpoint is not None and checkpoint.exists():
        state.restore(checkpoint, kept, optimizer)
    _follow_main(model)
    step_on = stepper(model, optimizer, engine)
    first = state.step
    started = saved = time.monotonic()

    model.train()
    with stopping.held() if ranks.count() == 1 else nullcontext():
        for step, images, labels in batches(data, recipe, seed, first, steps):
            rate = learning_rate(step, steps, warmup, recipe.lr)
            graphs.set_rate(optimizer, rate)
            state.loss += step_on(images, labels)
            state.step, state.since = step + 1, state.since + 1
            if after_step is not None:
                after_step(state.step)
            if average:
                average.update_parameters(model)
            read, checked = state.step in read_at, state.step % CHECK_EVERY == 0
            if (read or checked) and not math.isfinite(state.loss):
                raise Diverged(state.step)
            if read:
                counts = average.module if average else model
                state.history.append(_read(counts, data, engine, state, per_epoch, rate))
                model.train()
                if state.step == steps:
                    last = state.history[-1]
                    classes = data.facts.num_classes
                    require_trained(steps, last["train_loss"], last["val_loss"], classes)
            if checked and ranks.is_main():
                progress(state.step, steps)
                now = time.monotonic()
                if checkpoint is not None and now - saved > SAVE_EVERY:
                    state.save(checkpoint, kept, optimizer, now - started)
                    saved = now
            if stopping.asked() and ranks.count() == 1:  # several stop when torchrun ends them
                if checkpoint is not None:
                    state.save(checkpoint, kept, optimizer, time.monotonic() - started)
                break
    if average:
        model.load_state_dict(average.module.state_dict())
    _follow_main(model)
    fuse(model, False)
    model.eval()
    return Fit(state.history, steps, state.seconds, first, fused)


def _average(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """Return the moving average of weights and running statistics that the recipe asks for."""
    if not recipe.ema:
        return None
    decay = get_ema_multi_avg_fn(recipe.ema)
    return AveragedModel(model, multi_avg_fn=decay, use_buffers=True)


def _numerics(engine: Engine, fused: bool) -> str:
    """Return what a run must go on with to end as if it had not been interrupted."""
    count = ranks.count()
    kernels = ", one-pass kernels" if fused else ""
    return f"{engine.dtype}{kernels}{f', {count} ranks' if count > 1 else ''}"


def _follow_main(model: nn.Module) -> None:
    """Take over rank 0's weights and statistics."""
    if ranks.count() > 1:
        state = ranks.from_main(lambda: {k: v.cpu() for k, v in model.state_dict().items()})
        model.load_state_dict(state)


def stepper(model: nn.Module, optimizer: torch.optim.Optimizer, engine: Engine) -> graphs.Step:
    """Return `update` as a function of images and labels, a CUDA graph where the engine has them.

    Several ranks meet in the middle of a step, so theirs is not recorded.
    """
    step = partial(update, model, optimizer, engine)
    if not engine.graphs or ranks.count() > 1:
        return step
    graphs.rate_at_fixed_address(optimizer, engine.device)
    return graphs.Recorded(step, notify=partial(print, file=sys.stderr))


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    engine: Engine,
    images: Tensor,
    labels: Tensor,
) -> Tensor:
    """Take one optimizer step, and return the loss before it."""

    def closure() -> Tensor:
        with engine.autocast():
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        ranks.average([loss.detach(), *grads])
        return loss

    if isinstance(optimizer, SAM):
        return optimizer.step(closure)
    optimizer.zero_grad()
    loss = closure()
    optimizer.step()
    return loss.detach()


def _read(
    model: nn.Module, data: Dataset, engine: Engine, state: State, per_epoch: int, rate: float
) -> dict[str, float]:
    """Return an entry of the history, and begin the next mean of the training loss."""

    def validate() -> tuple[Evaluation, str]:
        with engine.autocast():
            found = evaluate(model, data.val, data.facts)
        return found, not_finite(model, found.loss)

    val, wrong = ranks.from_main(validate)
    if wrong:  # on every rank, or the others would wait for ever
        raise Diverged(state.step, f"{wrong} is not finite")
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
