"""What each figure and table runs: (profile, seeds) -> specs. One function an artefact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from snt_core.profiles import Profile
from snt_core.specs import LambdaMaxSpec, OneShotSpec, PTQSpec, Recipe, Spec, TrainSpec

# approach -> (architecture variant, optimizer)
APPROACHES = {
    "adam": ("base", "adam"),
    "sam": ("base", "sam"),
    "preact": ("preact", "adam"),
    "arch": ("snt", "adam"),
}
LABELS = {"adam": "ADAM", "sam": "SAM", "preact": "+Preact", "arch": "ARCH"}  # as in the paper
LR = 1e-2  # short tries on CIFAR-100 are in the book's assumptions
WEIGHT_DECAY = 0.05
RHO = {"cifar10": 0.05, "cifar100": 0.1}  # as Foret et al. 2021 on these data


def training(
    profile: Profile, paper_data: str, approach: str, seed: int, model: str = "resnet20"
) -> TrainSpec:
    """One net of the paper at the size of `profile`; `paper_data` names the paper's data set."""
    variant, optimizer = APPROACHES[approach]
    recipe = Recipe(
        optimizer=optimizer,
        rho=RHO[paper_data] if optimizer == "sam" else 0.0,
        epochs=profile.epochs,
        batch_size=profile.batch_size,
        lr=LR,
        warmup_epochs=profile.warmup_epochs,
        weight_decay=WEIGHT_DECAY,
    )
    return TrainSpec(
        data=profile.data[paper_data],
        val_size=profile.val_size,
        model=model,
        variant=variant,
        recipe=recipe,
        seed=seed,
    )


def _lambda_max(profile: Profile, parent: TrainSpec) -> LambdaMaxSpec:
    return LambdaMaxSpec(
        parent=parent, n_samples=profile.n_lambda, max_products=profile.max_products
    )


def _ptq(profile: Profile, parent: TrainSpec, weight_bits: int, per_channel: bool) -> PTQSpec:
    finetune = Recipe(epochs=profile.finetune_epochs, batch_size=profile.batch_size, lr=1e-4)
    return PTQSpec(
        parent=parent,
        weight_bits=weight_bits,
        per_channel=per_channel,
        finetune=finetune,
        seed=parent.seed,
    )


def table3(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Table 3, the row of ResNet-20 on CIFAR-100: 4 and 8 bit, per tensor and per channel."""
    specs: list[Spec] = []
    for seed in seeds:
        for approach in ("sam", "adam", "arch"):
            net = training(profile, "cifar100", approach, seed)
            specs += [net, _lambda_max(profile, net)]
            specs += [_ptq(profile, net, b, c) for b in (4, 8) for c in (False, True)]
    return specs


def table4(profile: Profile, seeds: Iterable[int], *, weight_bits: int = 4) -> list[Spec]:
    """Table 4: pre-activation alone, then Eq. (1) too, after static weight quantization.

    SAM's net is run as well, as the reference that Table 3 gives for the same numbers.
    """
    specs: list[Spec] = []
    for seed in seeds:
        for approach in ("sam", "adam", "arch", "preact"):
            net = training(profile, "cifar100", approach, seed)
            specs += [net, _lambda_max(profile, net), _ptq(profile, net, weight_bits, False)]
    return specs


def figure5(
    profile: Profile,
    seeds: Iterable[int],
    *,
    sparsities: Sequence[float] = OneShotSpec.sparsities,
) -> list[Spec]:
    """Figure 5, one-shot pruning of ResNet-20 on CIFAR-10."""
    specs: list[Spec] = []
    for seed in seeds:
        for approach in ("sam", "adam", "arch"):
            net = training(profile, "cifar10", approach, seed)
            specs += [net, OneShotSpec(parent=net, sparsities=tuple(sparsities))]
    return specs


def figure6(profile: Profile, seeds: Iterable[int], *, weight_bits: int = 4) -> list[Spec]:
    """Figure 6: fine-tuning curves after weight-only quantization of ResNet-20, CIFAR-100."""
    specs: list[Spec] = []
    for seed in seeds:
        for approach in ("sam", "adam", "arch"):
            net = training(profile, "cifar100", approach, seed)
            specs += [net, _ptq(profile, net, weight_bits, False)]
    return specs


ARTEFACTS: dict[str, Callable[..., list[Spec]]] = {
    "table3": table3,
    "table4": table4,
    "figure5": figure5,
    "figure6": figure6,
}
