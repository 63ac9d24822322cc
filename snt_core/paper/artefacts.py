"""What each figure and table runs: (profile, seeds) -> specs. One function an artefact.

Where an artefact has several parts (backbones, say), an option names one; empty means all. Each
part is published at the best profile that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product

from snt_core.paper.measurements import lambda_max, onward, ptq, static
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import training
from snt_core.runs.kinds.channels import ChannelsSpec
from snt_core.runs.kinds.density import DensitySpec
from snt_core.runs.kinds.entropy import EntropySpec
from snt_core.runs.kinds.imp import IMPSpec
from snt_core.runs.kinds.one_shot import OneShotSpec
from snt_core.runs.kinds.pca import PCASpec
from snt_core.runs.kinds.qat import QATSpec
from snt_core.runs.kinds.step_time import StepTimeSpec
from snt_core.runs.kinds.surface import SurfaceSpec
from snt_core.runs.kinds.tokens import TokenSpec
from snt_core.runs.spec import Spec, one_of

THREE = ("sam", "adam", "arch")  # the longest first, so that workers end together
PTQ_DATA = {"resnet20": "cifar100", "mixer_s": "cifar10", "mobilenet_v1": "cifar100"}
QAT_DATA = {"resnet18": "imagenet", "mixer_s": "cifar10", "mobilenet_v1": "cifar10"}
PRUNED = ("resnet20", "mixer_s")
PRUNING = ("one-shot", "iterative")
KEEP_RATIOS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
PARTS = ("backbone", "method", "about")  # options that name a part of an artefact
SENSITIVITIES = ("measurement", "rho", "architecture")


def _chosen(what: str, value: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """All of `allowed`, or the one that is named."""
    if not value:
        return tuple(allowed)
    one_of(what, value, allowed)
    return (value,)


def table1(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """Table 1: what a step of Adam, SAM and SNT costs, alternating on one machine."""
    return [
        StepTimeSpec(
            data=profile.data[PTQ_DATA[model]],
            val_size=profile.val_size,
            model=model,
            batch_size=profile.step_batch,
            rounds=profile.step_rounds,
            fused=profile.step_rounds >= 10,  # compiling is for long runs
            seed=seed,
        )
        for seed in seeds
        for model in _chosen("backbone", backbone, PTQ_DATA)
    ]


def table2(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Table 2: a vision transformer, ADAM against SAM, under four compressions."""
    specs: list[Spec] = []
    for seed in seeds:
        for approach in ("sam", "adam"):
            net = training(profile, "imagenet", approach, seed, "vit")
            tokens = {"batch_size": profile.speed_batch, "repeats": profile.speed_repeats}
            merged = (2, 4, 6, 8, 11, 14, 16) if net.model == "vit_b16" else (2, 4, 5, 6, 7)
            specs += [
                net,
                lambda_max(profile, net),
                OneShotSpec(parent=net, sparsities=(0.5,)),
                TokenSpec(parent=net, method="prune", settings=KEEP_RATIOS, **tokens),
                TokenSpec(parent=net, method="merge", settings=merged, **tokens),
                static(profile, net, 8, finetune=False),
            ]
    return specs


def table3(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """Table 3, quantization after training.

    ResNet-20: 4 and 8 bit weights, per tensor and per channel. Mixer-S and MobileNet-V1: static
    8/8, as the table prints, and 4-bit weights, as the text says.
    """
    specs: list[Spec] = []
    for seed, model in product(seeds, _chosen("backbone", backbone, PTQ_DATA)):
        for approach in THREE:
            net = training(profile, PTQ_DATA[model], approach, seed, model)
            specs += [net, lambda_max(profile, net)]
            if model == "resnet20":
                specs += [ptq(profile, net, b, c) for b in (4, 8) for c in (False, True)]
            else:
                specs += [static(profile, net, 8, finetune=True), ptq(profile, net, 4, False)]
    return specs


def table3qat(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """Table 3, quantization-aware training with 4-bit weights and activations."""
    specs: list[Spec] = []
    for seed, model in product(seeds, _chosen("backbone", backbone, QAT_DATA)):
        for approach in ("adam", "arch") if model == "resnet18" else THREE:
            net = training(profile, QAT_DATA[model], approach, seed, model)
            qat = QATSpec(
                parent=net,
                weight_bits=4,
                act_bits=4,
                n_calibration=profile.n_calibration,
                finetune=onward(profile, net, profile.qat_epochs),
                seed=seed,
            )
            specs += [net, lambda_max(profile, net), qat]
    return specs


def table4(profile: Profile, seeds: Iterable[int], *, weight_bits: int = 4) -> list[Spec]:
    """Table 4: pre-activation alone, then Eq. (1) too, after static weight quantization.

    SAM's net is run as well, as the reference that Table 3 gives for the same numbers.
    """
    specs: list[Spec] = []
    for seed in seeds:
        for approach in (*THREE, "preact"):
            net = training(profile, "cifar100", approach, seed)
            specs += [net, lambda_max(profile, net), ptq(profile, net, weight_bits, False)]
    return specs


def figure1(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Figure 1: principal components of a transformer's weights, ADAM against SAM."""
    nets = [
        training(profile, "imagenet", a, seed, "vit") for seed in seeds for a in ("sam", "adam")
    ]
    return [spec for net in nets for spec in (net, PCASpec(parent=net))]


def figure2(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Figure 2: activation channels of a transformer, ADAM against SAM."""
    nets = [
        training(profile, "imagenet", a, seed, "vit") for seed in seeds for a in ("sam", "adam")
    ]
    return [
        spec for net in nets for spec in (net, ChannelsSpec(parent=net, n_samples=profile.n_images))
    ]


def figure3(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Figure 3: distributions before and after SNT, the loss around the nets, its spectrum."""
    specs: list[Spec] = []
    for seed in seeds:
        for approach in THREE:
            net = training(profile, "cifar100", approach, seed)
            specs += [
                net,
                EntropySpec(parent=net, n_samples=profile.n_images),
                SurfaceSpec(parent=net, n_samples=profile.n_surface, points=profile.surface_points),
                DensitySpec(
                    parent=net,
                    n_samples=profile.n_surface,
                    probes=profile.density_probes,
                    steps=profile.density_steps,
                ),
            ]
    return specs


def figure4(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Figure 4: block diagrams, drawn from the code; nothing is run."""
    return []


def figure5(
    profile: Profile,
    seeds: Iterable[int],
    *,
    backbone: str = "",
    method: str = "",
    sparsities: Sequence[float] = OneShotSpec.sparsities,
) -> list[Spec]:
    """Figure 5: pruning on CIFAR-10, one-shot (at `sparsities`) and iterative."""
    methods = _chosen("method", method, PRUNING)
    specs: list[Spec] = []
    for seed, model in product(seeds, _chosen("backbone", backbone, PRUNED)):
        for approach in THREE:
            net = training(profile, "cifar10", approach, seed, model)
            specs.append(net)
            if "one-shot" in methods:
                specs.append(OneShotSpec(parent=net, sparsities=tuple(sparsities)))
            if "iterative" in methods:
                finetune = onward(profile, net, profile.prune_epochs)
                specs.append(
                    IMPSpec(parent=net, sparsities=profile.sparsities, finetune=finetune, seed=seed)
                )
    return specs


def figure6(profile: Profile, seeds: Iterable[int], *, weight_bits: int = 4) -> list[Spec]:
    """Figure 6: fine-tuning curves after weight-only quantization of ResNet-20, CIFAR-100."""
    nets = [training(profile, "cifar100", approach, seed) for seed in seeds for approach in THREE]
    return [spec for net in nets for spec in (net, ptq(profile, net, weight_bits, False))]


def figure7(profile: Profile, seeds: Iterable[int]) -> list[Spec]:
    """Figure 7: one-shot pruning of ResNet-20 on CIFAR-10, with and without augmentation."""
    specs: list[Spec] = []
    for seed, approach in product(seeds, THREE):
        with_it = training(profile, "cifar10", approach, seed)
        without = replace(with_it, recipe=replace(with_it.recipe, augment="none"))
        specs += [spec for net in (with_it, without) for spec in (net, OneShotSpec(parent=net))]
    return specs


def proxy(profile: Profile, seeds: Iterable[int], *, backbone: str = "") -> list[Spec]:
    """lambda_max and every accuracy drop of a backbone's nets, from all the other artefacts."""
    seeds = list(seeds)
    specs: dict[str, Spec] = {}
    for model in _chosen("backbone", backbone, (*PTQ_DATA, "vit")):
        parts = (
            [table2(profile, seeds)] if model == "vit" else [table3(profile, seeds, backbone=model)]
        )
        if model == "resnet20":
            parts.append(table4(profile, seeds))
        if model in PRUNED:
            parts.append(figure5(profile, seeds, backbone=model, method="one-shot"))
        for spec in [spec for part in parts for spec in part]:
            specs.setdefault(repr(spec), spec)
            if spec.leaves_weights:
                sharp = lambda_max(profile, spec)
                specs.setdefault(repr(sharp), sharp)
    return list(specs.values())


def deviations(profile: Profile, seeds: Iterable[int], *, about: str = "") -> list[Spec]:
    """How the numbers move with what the paper leaves open.

    measurement: N and the mode of batch normalisation in lambda_max, observers of static
    quantization. rho: SAM's radius. architecture: ResNet without the last activation, Mixer with
    every activation along the channels.
    """
    specs: list[Spec] = []
    for seed, what in product(seeds, _chosen("sensitivity", about, SENSITIVITIES)):
        adam = training(profile, "cifar100", "adam", seed)
        arch = training(profile, "cifar100", "arch", seed)
        sam = training(profile, "cifar100", "sam", seed)
        mixer = training(profile, "cifar10", "arch", seed, "mixer_s")
        if what == "measurement":
            small = max(1, profile.n_lambda // 4)
            for net in (sam, adam, arch):
                four_bits = static(profile, net, 4, finetune=False)
                specs += [
                    net,
                    lambda_max(profile, net),
                    lambda_max(profile, net, n_samples=small),
                    lambda_max(profile, net, bn_mode="train"),
                    *(replace(four_bits, observer=o) for o in ("minmax", "percentile", "mse")),
                ]
        elif what == "rho":
            for rho in (sam.recipe.rho / 2, sam.recipe.rho, 2 * sam.recipe.rho):
                net = replace(sam, recipe=replace(sam.recipe, rho=rho))
                specs += [net, lambda_max(profile, net), ptq(profile, net, 4, False)]
        else:
            for net in (arch, replace(arch, variant="snt-nofinal")):
                specs += [net, lambda_max(profile, net), ptq(profile, net, 4, False)]
            for net in (mixer, replace(mixer, variant="snt-channels")):
                specs += [net, lambda_max(profile, net), ptq(profile, net, 4, False)]
    return specs


ARTEFACTS: dict[str, Callable[..., list[Spec]]] = {
    function.__name__: function
    for function in (
        table1,
        table2,
        table3,
        table3qat,
        table4,
        figure1,
        figure2,
        figure3,
        figure4,
        figure5,
        figure6,
        figure7,
        proxy,
        deviations,
    )
}
