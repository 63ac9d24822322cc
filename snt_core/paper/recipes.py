"""The nets of the paper: approaches, labels, how each is trained and, mostly, measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from snt_core.paper.profiles import STAND_INS, Profile
from snt_core.runs.kinds.checkpoint import CheckpointSpec
from snt_core.runs.kinds.control import ControlSpec
from snt_core.runs.kinds.lambda_max import LambdaMaxSpec
from snt_core.runs.kinds.ptq import PTQSpec
from snt_core.runs.kinds.qat import QATSpec
from snt_core.runs.kinds.rise import RiseSpec
from snt_core.runs.kinds.scale_free import ScaleFreeSpec
from snt_core.runs.kinds.static import StaticSpec
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.spec import Net, Spec
from snt_core.training.recipe import Recipe

# approach -> (architecture variant, optimizer)
APPROACHES = {
    "adam": ("base", "adam"),
    "sam": ("base", "sam"),
    "preact": ("preact", "adam"),
    "arch": ("snt", "adam"),
}
KINDS = {  # of runs, in words where their own name is none
    "lambda_max": "λ_max",
    "one_shot": "one-shot pruning",
    "imp": "iterative pruning",
    "static": "static quantization",
    "ptq": "quantization",
    "qat": "quantization-aware training",
    "tokens": "token reduction",
    "pca": "principal components",
    "channels": "activation channels",
}
LABELS = {  # approaches as the paper prints them, then our own
    "adam": "ADAM",
    "sam": "SAM",
    "preact": "+Preact",
    "arch": "ARCH",
    "untrained": "untrained",
    "snt-nofinal": "ARCH, no last activation",
    "snt-channels": "ARCH, along channels",
    "arch+sam": "ARCH with SAM",
    "sgd": "SGD",
    "arch+sgd": "ARCH with SGD",
    "leaky": "LeakyReLU",
    "prelu": "PReLU",
    "eq1": "Eq. (1)",
    "preact-leaky": "+Preact, LeakyReLU",
    "preact-prelu": "+Preact, PReLU",
}
BACKBONES = {  # the paper's names
    "resnet20": "ResNet-20",
    "mixer_s": "Mixer-S",
    "mobilenet_v1": "MobileNet-V1",
    "resnet18": "ResNet-18",
    "resnet18_cifar": "ResNet-18",
    "vit": "ViT",
    "vit_tiny": "ViT",
    "vit_b16": "ViT-B",
}
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "digits": "scikit-learn's digits",
    "few-digits": "96 of scikit-learn's digits",
}
LR = {  # peak of the schedule; only ResNet-20's was tried, the others are usual ones
    "resnet20": 1e-2,
    "mixer_s": 1e-3,
    "mobilenet_v1": 3e-3,
    "resnet18": 1e-3,
    "resnet18_cifar": 1e-3,
    "vit_tiny": 1e-3,
}
WEIGHT_DECAY = 0.05
RHO = {"cifar10": 0.05, "cifar100": 0.1, "imagenet": 0.1}  # as Foret et al. 2021 on these data
MIXER_RHO = 0.1
THREE = ("sam", "adam", "arch")  # the longest first, so that workers end together
AUGMENTED = ("mixer_s", "vit_tiny")  # those that need more than crops and flips
CHECKPOINTS = {  # public ViT-B/16 of timm and their revisions; records hold the SHA-256
    "adam": (
        "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "3feba41e737e1b28af8e1fd7dca8eed073385972",
    ),
    "sam": ("vit_base_patch16_224.sam_in1k", "main"),
}


def stands_in(net: Net) -> bool:
    """Whether a net is in the place of one that the paper trained on ImageNet."""
    return net.model in STAND_INS.values()


def training(
    profile: Profile, paper_data: str, approach: str, seed: int, model: str = "resnet20"
) -> TrainSpec | CheckpointSpec:
    """Return one net of the paper at the size of `profile`.

    `paper_data` names the paper's data set, `model` its backbone, `vit` and `resnet18` being those
    on ImageNet. A ViT on the real ImageNet is a public checkpoint, whatever the seed.
    """
    data, model = profile.data[paper_data], profile.models.get(model, model)
    if model == "vit_b16":
        source, revision = CHECKPOINTS[approach]
        return CheckpointSpec(
            data=data, model=model, source=source, revision=revision, approach=approach
        )
    variant, optimizer = APPROACHES[approach]
    rho = MIXER_RHO if model == "mixer_s" else RHO[paper_data]
    augment = profile.augment if model in AUGMENTED else "crop-flip"
    recipe = Recipe(
        optimizer=optimizer,
        rho=rho if optimizer == "sam" else 0.0,
        epochs=profile.large_epochs if model in profile.models.values() else profile.epochs,
        batch_size=profile.batch_size,
        lr=LR[model],
        warmup_epochs=profile.warmup_epochs,
        weight_decay=WEIGHT_DECAY,
        augment="random-resized-crop" if data == "imagenet" else augment,
    )
    return TrainSpec(
        data=data,
        val_size=profile.val_size,
        model=model,
        variant=variant,
        recipe=recipe,
        seed=seed,
    )


def lambda_max(profile: Profile, parent: Net, **changes: Any) -> LambdaMaxSpec:
    """Return the spec of lambda_max for `parent`; the large nets use `n_lambda_large` images."""
    large = parent.model in profile.models.values()
    n_samples = profile.n_lambda_large if large else profile.n_lambda
    spec = LambdaMaxSpec(parent=parent, n_samples=n_samples, max_products=profile.max_products)
    return replace(spec, **changes)


def sharpness(profile: Profile, parent: Net) -> list[Spec]:
    """Return what the proxy asks of `parent` beside lambda_max, on the same images.

    The rise of the loss under compressions, and sharpness that rescaling does not change.
    """
    n_samples = min(lambda_max(profile, parent).n_samples, profile.n_rise)
    return [
        RiseSpec(parent=parent, n_samples=n_samples),
        ScaleFreeSpec(
            parent=parent,
            n_samples=n_samples,
            max_products=profile.max_products,
            probes=profile.trace_probes,
        ),
    ]


def ptq(profile: Profile, parent: Net, weight_bits: int, per_channel: bool) -> PTQSpec:
    """Return the spec of weight-only quantization, with the epoch of fine-tuning after it."""
    return PTQSpec(
        parent=parent,
        weight_bits=weight_bits,
        per_channel=per_channel,
        finetune=finetuning(profile, parent),
        curve_points=profile.curve_points,
        seed=parent.seed,
    )


def trained_on(profile: Profile, parent: Net) -> ControlSpec:
    """Return the spec of the float net trained on as long as a quantized one is."""
    return ControlSpec(parent=parent, finetune=finetuning(profile, parent), seed=parent.seed)


def static(profile: Profile, parent: Net, bits: int, *, finetune: bool) -> StaticSpec:
    """Return the spec of static quantization of weights and activations, both of `bits`."""
    return StaticSpec(
        parent=parent,
        weight_bits=bits,
        act_bits=bits,
        n_calibration=profile.n_calibration,
        finetune=finetuning(profile, parent) if finetune else None,
        seed=parent.seed,
    )


def qat(
    profile: Profile, parent: Net, *, form: Literal["symmetric", "affine"] = "symmetric"
) -> QATSpec:
    """Return the spec of quantization-aware training with 4-bit weights and activations."""
    return QATSpec(
        parent=parent,
        weight_bits=4,
        act_bits=4,
        n_calibration=profile.n_calibration,
        finetune=retraining(profile, parent, profile.qat_epochs),
        seed=parent.seed,
        form=form,
    )


def finetuning(profile: Profile, net: Net) -> Recipe:
    """Return the recipe of the epoch after quantization, at a small rate for all nets."""
    return Recipe(
        epochs=profile.finetune_epochs,
        batch_size=profile.batch_size,
        lr=1e-4,
        augment=_recipe(net).augment,
    )


def retraining(profile: Profile, net: Net, epochs: int) -> Recipe:
    """Return the recipe of training that goes on from a finished net.

    Adam for all approaches, at a tenth of the net's peak rate.
    """
    return Recipe(
        epochs=epochs,
        batch_size=profile.batch_size,
        lr=LR[net.model] / 10,
        warmup_epochs=0.1 * epochs,
        weight_decay=_recipe(net).weight_decay,
        augment=_recipe(net).augment,
    )


def _recipe(net: Net) -> Recipe:
    if not isinstance(net, TrainSpec):
        raise TypeError(f"{net.model} is a checkpoint, and its recipe is not known")
    return net.recipe
