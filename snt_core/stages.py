"""What each kind of run computes: spec -> metrics. One function a kind."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from torch import nn

from snt_core import models
from snt_core.compress.prune import prune_magnitude
from snt_core.compress.quantize import fake_quantize_weights, freeze, quantize_weights
from snt_core.curvature import lambda_max
from snt_core.data import Dataset, load, normalise
from snt_core.engine import Engine
from snt_core.facts import FACTS
from snt_core.specs import LambdaMaxSpec, OneShotSpec, PTQSpec, Spec, TrainSpec, root
from snt_core.store import Store
from snt_core.train import Diverged, Evaluation, Fit, Progress, evaluate, fit


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found. `dtype` and `fused` are those of its training, if it trained."""

    metrics: dict[str, Any]
    n_samples: int
    dtype: str = "fp32"
    fused: bool = False
    status: str = "done"
    earlier: float = 0.0
    resumed_at_step: int = 0


@cache
def dataset(name: str, val_size: int, device: str) -> Dataset:
    """Loaded once per process."""
    return load(name, val_size).to(device)


def data_of(spec: Spec, engine: Engine) -> Dataset:
    train = root(spec)
    return dataset(train.data, train.val_size, engine.device)


def trained(spec: TrainSpec, store: Store, engine: Engine) -> nn.Module:
    """The net that the training `spec` left in `store`, in eval mode on the engine's device."""
    model = fresh(spec)
    model.load_state_dict(store.get_weights(spec))
    return model.to(engine.device).eval()


def fresh(spec: TrainSpec) -> nn.Module:
    return models.build(spec.model, spec.variant, FACTS[spec.data].num_classes, spec.seed)


def packed(evaluation: Evaluation) -> dict[str, Any]:
    """JSON form of an evaluation; `correct` is one bit an image, base64, for paired intervals."""
    bits = np.packbits(evaluation.correct.numpy())
    return {
        "top1": evaluation.top1,
        "loss": evaluation.loss,
        "n": len(evaluation.correct),
        "correct": base64.b64encode(bits.tobytes()).decode(),
    }


def _after_fit(metrics: dict[str, Any], n_samples: int, engine: Engine, done: Fit) -> Outcome:
    return Outcome(
        metrics=metrics,
        n_samples=n_samples,
        dtype=engine.dtype,
        fused=done.fused,
        earlier=done.earlier,
        resumed_at_step=done.resumed,
    )


def train(spec: TrainSpec, store: Store, engine: Engine, progress: Progress) -> Outcome:
    """Trains, keeps the weights, reads the test set once."""
    data = data_of(spec, engine)
    model = fresh(spec)
    try:
        done = fit(
            model,
            data,
            spec.recipe,
            engine,
            seed=spec.seed,
            checkpoint=store.checkpoint(spec),
            progress=progress,
        )
    except Diverged as error:
        return Outcome(
            metrics={"diverged_at": error.step}, n_samples=0, dtype=engine.dtype, status="diverged"
        )
    store.put_weights(spec, model.state_dict())
    test = evaluate(model, data.test, data.facts)
    metrics = {
        "test": packed(test),
        "history": done.history,
        "steps": done.steps,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return _after_fit(metrics, len(data.test), engine, done)


def sharpness(spec: LambdaMaxSpec, store: Store, engine: Engine, progress: Progress) -> Outcome:
    """lambda_max on the first `n_samples` training images, without augmentation, in fp32."""
    data = data_of(spec, engine)
    part = data.train[: spec.n_samples]
    found = lambda_max(
        trained(spec.parent, store, engine),
        part.images,
        part.labels,
        preprocess=lambda images: normalise(images, data.facts),
        bn_mode=spec.bn_mode,
        tolerance=spec.tolerance,
        max_products=spec.max_products,
        seed=spec.seed,
    )
    metrics = {
        "lambda_max": found.value,
        "residual": found.residual,
        "products": found.products,
        "converged": found.converged,
        "bn_mode": found.bn_mode,
    }
    return Outcome(metrics=metrics, n_samples=found.n_samples)


def one_shot(spec: OneShotSpec, store: Store, engine: Engine, progress: Progress) -> Outcome:
    """Test accuracy at every sparsity, 0 first."""
    data = data_of(spec, engine)
    model = trained(spec.parent, store, engine)
    rows = []
    for i, sparsity in enumerate((0.0, *spec.sparsities)):
        pruned = prune_magnitude(model, sparsity)
        rows.append({"sparsity": sparsity, **packed(evaluate(pruned, data.test, data.facts))})
        progress(i + 1, len(spec.sparsities) + 1)
    return Outcome(metrics={"sweep": rows}, n_samples=len(data.test))


def ptq(spec: PTQSpec, store: Store, engine: Engine, progress: Progress) -> Outcome:
    """Test accuracy of the quantized net before and after fine-tuning, and the curve between."""
    data = data_of(spec, engine)
    model = trained(spec.parent, store, engine)
    bits: dict[str, Any] = {"weight_bits": spec.weight_bits, "per_channel": spec.per_channel}
    quantized = quantize_weights(model, **bits)
    before = evaluate(quantized, data.test, data.facts)
    with engine.autocast():  # as the readings that follow it on the curve
        start = evaluate(quantized, data.val, data.facts)
    student = fake_quantize_weights(model, **bits)
    try:
        done = fit(
            student,
            data,
            spec.finetune,
            engine,
            seed=spec.seed,
            evaluations=spec.curve_points,
            checkpoint=store.checkpoint(spec),
            progress=progress,
        )
    except Diverged as error:
        return Outcome(
            metrics={"before": packed(before), "diverged_at": error.step},
            n_samples=len(data.test),
            dtype=engine.dtype,
            status="diverged",
        )
    after = evaluate(freeze(student), data.test, data.facts)
    first = {"step": 0, "epoch": 0.0, "val_top1": start.top1, "val_loss": start.loss}
    metrics = {
        "before": packed(before),
        "after": packed(after),
        "curve": [first, *done.history],
        "steps": done.steps,
    }
    return _after_fit(metrics, len(data.test), engine, done)


STAGES: dict[str, Callable[[Any, Store, Engine, Progress], Outcome]] = {
    "train": train,
    "lambda_max": sharpness,
    "one_shot": one_shot,
    "ptq": ptq,
}
