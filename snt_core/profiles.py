"""How much of the paper to run: the same artefacts at three sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from snt_core.errors import unknown

PUBLISHED = "published"  # not a size: the best profile whose records are there


@dataclass(frozen=True, kw_only=True)
class Profile:
    """`data` says what stands in for each of the paper's data sets; `n_lambda` is the number of
    training images behind lambda_max; `verdicts` is False where numbers prove nothing."""

    name: str
    says: str
    data: Mapping[str, str]
    val_size: int
    seeds: tuple[int, ...]
    epochs: int
    warmup_epochs: float
    batch_size: int
    finetune_epochs: int
    n_lambda: int
    max_products: int
    verdicts: bool = True


_CIFAR = {"cifar10": "cifar10", "cifar100": "cifar100"}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            says="scikit-learn's digits, a few steps: proves that every line runs, nothing more",
            data={"cifar10": "digits", "cifar100": "digits"},
            val_size=180,
            seeds=(0,),
            epochs=2,
            warmup_epochs=0.5,
            batch_size=64,
            finetune_epochs=1,
            n_lambda=128,
            max_products=30,
            verdicts=False,
        ),
        Profile(
            name="cifar",
            says="the whole of CIFAR, a short schedule: real numbers without a GPU",
            data=_CIFAR,
            val_size=5000,
            seeds=(0, 1, 2),
            epochs=15,
            warmup_epochs=1,
            batch_size=128,
            finetune_epochs=1,
            n_lambda=2000,
            max_products=60,
        ),
        Profile(
            name="paper",
            says="the whole of CIFAR, 200 epochs, three seeds: for a GPU",
            data=_CIFAR,
            val_size=5000,
            seeds=(0, 1, 2),
            epochs=200,
            warmup_epochs=5,
            batch_size=128,
            finetune_epochs=1,
            n_lambda=10_000,
            max_products=60,
        ),
    )
}
BEST_FIRST = ("paper", "cifar")


def profile_named(name: str) -> Profile:
    """Raises UserError, with the nearest name, for one that does not exist."""
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]
