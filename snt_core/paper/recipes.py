"""The nets of the paper: approaches, labels, and how each backbone is trained."""

from __future__ import annotations

from snt_core.paper.profiles import STAND_INS, Profile
from snt_core.runs.kinds.checkpoint import CheckpointSpec
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.spec import Net, Recipe

# approach -> (architecture variant, optimizer)
APPROACHES = {
    "adam": ("base", "adam"),
    "sam": ("base", "sam"),
    "preact": ("preact", "adam"),
    "arch": ("snt", "adam"),
}
LABELS = {  # approaches as the paper prints them, then our own
    "adam": "ADAM",
    "sam": "SAM",
    "preact": "+Preact",
    "arch": "ARCH",
    "untrained": "untrained",
    "snt-nofinal": "ARCH, no last activation",
    "snt-channels": "ARCH, along channels",
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
    """One net of the paper at the size of `profile`; `paper_data` names the paper's data set.

    `model` is a backbone of the paper, `vit` and `resnet18` being those on ImageNet. A ViT on the
    real ImageNet is a public checkpoint, whatever the seed.
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
