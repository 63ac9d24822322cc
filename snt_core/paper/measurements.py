"""Measurements of a net at the size of a profile: what several artefacts ask in the same way."""

from __future__ import annotations

from dataclasses import replace

from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import LR
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.kinds.ptq import PTQSpec
from snt_core.runs.kinds.static import StaticSpec
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.spec import Recipe


def lambda_max(profile: Profile, parent: TrainSpec, **changes: object) -> LambdaMaxSpec:
    """Of any net; fewer images for the large ones."""
    large = parent.model in profile.models.values()
    n_samples = profile.n_lambda_large if large else profile.n_lambda
    spec = LambdaMaxSpec(parent=parent, n_samples=n_samples, max_products=profile.max_products)
    return replace(spec, **changes)


def ptq(profile: Profile, parent: TrainSpec, weight_bits: int, per_channel: bool) -> PTQSpec:
    """Weights alone, then a little fine-tuning."""
    return PTQSpec(
        parent=parent,
        weight_bits=weight_bits,
        per_channel=per_channel,
        finetune=gentle(profile, parent),
        curve_points=profile.curve_points,
        seed=parent.seed,
    )


def static(profile: Profile, parent: TrainSpec, bits: int, *, finetune: bool) -> StaticSpec:
    """Weights and activations."""
    return StaticSpec(
        parent=parent,
        weight_bits=bits,
        act_bits=bits,
        n_calibration=profile.n_calibration,
        finetune=gentle(profile, parent) if finetune else None,
        seed=parent.seed,
    )


def gentle(profile: Profile, net: TrainSpec) -> Recipe:
    """The epoch after quantization."""
    return Recipe(
        epochs=profile.finetune_epochs,
        batch_size=profile.batch_size,
        lr=1e-4,
        augment=net.recipe.augment,
    )


def onward(profile: Profile, net: TrainSpec, epochs: int) -> Recipe:
    """Training that goes on from a finished net: Adam for all, a tenth of its peak rate."""
    return Recipe(
        epochs=epochs,
        batch_size=profile.batch_size,
        lr=LR[net.model] / 10,
        warmup_epochs=0.1 * epochs,
        weight_decay=net.recipe.weight_decay,
        augment=net.recipe.augment,
    )
