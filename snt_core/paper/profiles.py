"""How much of the paper to run: the same artefacts at four sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from snt_core.common.errors import unknown
from snt_core.runs.kinds._sweep import TENTHS

PUBLISHED = "published"  # not a size: the best profile whose records are there


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The size of every run.

    `data` and `models` say what stands in for the paper's data sets and for its two ImageNet nets;
    those train for `large_epochs` and have lambda_max on `n_lambda_large` images. `sparsities`
    are the rounds of iterative pruning, of `prune_epochs` each; `curve_points` are read while a
    quantized net is fine-tuned; `n_images` serves the analyses of activations; `n_rise` images at
    most show the rise of the loss; tokens are pruned and merged in at most `token_settings` ways;
    a specification curve tries fine-tuning at each of `choice_rates`; `step_rounds` steps are
    timed, of `step_batch` images each. `verdicts` is False where numbers prove nothing.
    """

    name: str
    says: str
    data: Mapping[str, str]
    models: Mapping[str, str]
    augment: str
    val_size: int
    seeds: tuple[int, ...]
    epochs: int
    large_epochs: int
    warmup_epochs: float
    batch_size: int
    finetune_epochs: int
    curve_points: int
    qat_epochs: int
    prune_epochs: int
    sparsities: tuple[float, ...]
    n_lambda: int
    n_lambda_large: int
    max_products: int
    n_calibration: int
    n_images: int
    n_surface: int
    surface_points: int
    density_probes: int
    density_steps: int
    trace_probes: int
    n_rise: int
    token_settings: int
    choice_rates: tuple[float, ...]
    step_batch: int
    step_rounds: int
    speed_batch: int
    speed_repeats: int
    verdicts: bool = True


STAND_INS = {"resnet18": "resnet18_cifar", "vit": "vit_tiny"}

_SMOKE = Profile(
    name="smoke",
    says="96 of scikit-learn's digits, a few steps: proves that every line runs, nothing more",
    data={"cifar10": "few-digits", "cifar100": "few-digits", "imagenet": "few-digits"},
    models=STAND_INS,
    augment="crop-flip",
    val_size=24,
    seeds=(0,),
    epochs=1,
    large_epochs=1,
    warmup_epochs=0.2,
    batch_size=16,
    finetune_epochs=1,
    curve_points=2,
    qat_epochs=1,
    prune_epochs=1,
    sparsities=(0.5, 0.9),
    n_lambda=4,
    n_lambda_large=2,
    max_products=2,
    n_calibration=16,
    n_images=16,
    n_surface=8,
    surface_points=3,
    density_probes=2,
    density_steps=3,
    trace_probes=2,
    n_rise=2,
    token_settings=2,
    choice_rates=(1e-4,),
    step_batch=8,
    step_rounds=2,
    speed_batch=8,
    speed_repeats=3,
    verdicts=False,
)
_CIFAR = Profile(
    name="cifar",
    says="the whole of CIFAR, a short schedule: real numbers without a GPU",
    data={"cifar10": "cifar10", "cifar100": "cifar100", "imagenet": "cifar100"},
    models=STAND_INS,
    augment="crop-flip",
    val_size=5000,
    seeds=(0, 1, 2),
    epochs=15,
    large_epochs=6,
    warmup_epochs=1,
    batch_size=128,
    finetune_epochs=1,
    curve_points=20,
    qat_epochs=3,
    prune_epochs=1,
    sparsities=TENTHS,
    n_lambda=2000,
    n_lambda_large=500,
    max_products=60,
    n_calibration=512,
    n_images=512,
    n_surface=512,
    surface_points=15,
    density_probes=2,
    density_steps=40,
    trace_probes=10,
    n_rise=2000,
    token_settings=7,
    choice_rates=(1e-5, 1e-4, 1e-3),
    step_batch=128,
    step_rounds=40,
    speed_batch=64,
    speed_repeats=9,
)
_PAPER = replace(
    _CIFAR,
    name="paper",
    says="the whole of CIFAR, 200 epochs, three seeds: for a GPU",
    augment="trivial-augment",
    epochs=200,
    large_epochs=200,
    warmup_epochs=5,
    qat_epochs=30,
    prune_epochs=5,
    n_lambda=10_000,
    n_lambda_large=10_000,
    n_surface=2000,
    surface_points=31,
    density_probes=5,
    density_steps=80,
    trace_probes=30,
    n_rise=10_000,
    step_rounds=200,
)
_IMAGENET = replace(
    _PAPER,
    name="imagenet",
    says="ImageNet-1k and the public checkpoints of ViT-B/16, for a GPU: the reader's own images",
    data={**_PAPER.data, "imagenet": "imagenet"},
    models={"resnet18": "resnet18", "vit": "vit_b16"},
    seeds=(0,),
    large_epochs=90,
    speed_batch=128,
)
PROFILES = {profile.name: profile for profile in (_SMOKE, _CIFAR, _PAPER, _IMAGENET)}
BEST_FIRST = ("imagenet", "paper", "cifar")


def profile_named(name: str) -> Profile:
    """Return a profile. Raises UserError, with the nearest name, for one that does not exist."""
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]


def can_judge(name: str) -> bool:
    """Return whether records of a profile prove something; those of one unknown today do not."""
    return name in PROFILES and PROFILES[name].verdicts
