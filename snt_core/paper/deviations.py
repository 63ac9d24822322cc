"""How the numbers move with what the paper leaves open.

measurement: N and the mode of batch normalisation in lambda_max, observers of static quantization.
rho: SAM's radius. architecture: ResNet without the last activation, Mixer with every activation
along the channels. schedule: a third and three times the epochs. factorial: order of layers times
activation, of which ADAM and ARCH are two corners. optimizer: ARCH with SAM, adaptive SAM, averaged
weights, SGD. pact: the form of PACT where activations have negative values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from snt_core.common.checks import all_or_one
from snt_core.paper import quantized
from snt_core.paper.evidence import frame, means
from snt_core.paper.looks import (
    COLOURS,
    MARKERS,
    described,
    key,
    or_absent,
    panels,
    plain_log,
    values,
)
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import (
    BACKBONES,
    LABELS,
    RHO,
    THREE,
    lambda_max,
    ptq,
    qat,
    static,
    training,
)
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Net, Spec
from snt_core.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ASAM_RHO = 1.0  # on CIFAR-100, as Kwon et al. 2021, section 5
EMA = 0.999  # a step: an average over the last 1,000 or so, 3 of 15 epochs
SUBSETS = 5  # of training images, disjoint, each with a lambda_max of its own
FACTORIAL = {  # variant -> order of layers and activation
    "base": "activation last, ReLU (ADAM)",
    "leaky": "activation last, LeakyReLU",
    "prelu": "activation last, PReLU",
    "eq1": "activation last, Eq. (1)",
    "preact": "activation first, ReLU (+Preact)",
    "preact-leaky": "activation first, LeakyReLU",
    "preact-prelu": "activation first, PReLU",
    "snt": "activation first, Eq. (1) (ARCH)",
}
SGD = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4}  # the rate of Figure 5's caption


def runs(profile: Profile, seeds: Iterable[int], *, about: str = "") -> list[Spec]:
    """Return the runs of each sensitivity."""
    specs: list[Spec] = []
    others = {"measurement": _measurement, "pact": _pact}
    for seed, what in product(seeds, all_or_one("sensitivity", about, (*others, *VARIED))):
        if what in others:
            specs += others[what](profile, seed)
            continue
        nets, _ = VARIED[what]
        for net in nets(profile, seed):
            specs += [net, lambda_max(profile, net), ptq(profile, net, 4, False)]
    return specs


def _measurement(profile: Profile, seed: int) -> list[Spec]:
    specs: list[Spec] = []
    small = max(1, profile.n_lambda // 4)
    for approach in ("sam", "adam", "arch"):
        net = training(profile, "cifar100", approach, seed)
        four_bits = static(profile, net, 4, finetune=False)
        specs += [
            net,
            lambda_max(profile, net),
            lambda_max(profile, net, n_samples=small),
            lambda_max(profile, net, bn_mode="train"),
            *(lambda_max(profile, net, part=k) for k in range(1, SUBSETS)),
            *(replace(four_bits, observer=o) for o in ("minmax", "percentile", "mse")),
        ]
    return specs


def _pact(profile: Profile, seed: int) -> list[Spec]:
    specs: list[Spec] = []
    for approach in THREE:
        net = training(profile, "cifar10", approach, seed, "mobilenet_v1")
        specs += [net, qat(profile, net), qat(profile, net, form="affine")]
    return specs


def _resnet(profile: Profile, approach: str, seed: int, **recipe: Any) -> TrainSpec:
    """ResNet-20 on CIFAR-100, as in Table 3 but for what `recipe` changes."""
    net = training(profile, "cifar100", approach, seed)
    assert isinstance(net, TrainSpec)
    return replace(net, recipe=replace(net.recipe, **recipe))


def _radii(profile: Profile, seed: int) -> list[Net]:
    rho = RHO["cifar100"]
    return [_resnet(profile, "sam", seed, rho=r) for r in (rho / 2, rho, 2 * rho)]


def _architectures(profile: Profile, seed: int) -> list[Net]:
    resnet = training(profile, "cifar100", "arch", seed)
    mixer = training(profile, "cifar10", "arch", seed, "mixer_s")
    changed = replace(resnet, variant="snt-nofinal"), replace(mixer, variant="snt-channels")
    return [resnet, changed[0], mixer, changed[1]]


def _schedules(profile: Profile, seed: int) -> list[Net]:
    epochs = (max(1, profile.epochs // 3), profile.epochs, 3 * profile.epochs)
    return [
        _resnet(profile, approach, seed, epochs=n)
        for n, approach in product(dict.fromkeys(epochs), THREE)
    ]


def _factors(profile: Profile, seed: int) -> list[Net]:
    adam = _resnet(profile, "adam", seed)
    return [replace(adam, variant=variant) for variant in FACTORIAL]


def _optimizers(profile: Profile, seed: int) -> list[Net]:
    usual = [_resnet(profile, approach, seed) for approach in THREE]
    return [
        *usual,
        _resnet(profile, "arch", seed, optimizer="sam", rho=RHO["cifar100"]),
        _resnet(profile, "sam", seed, rho=ASAM_RHO, adaptive=True),
        _resnet(profile, "adam", seed, ema=EMA),
        _resnet(profile, "adam", seed, **SGD),
        _resnet(profile, "arch", seed, **SGD),
    ]


def _label(net: Net) -> str:
    recipe = _recipe(net)
    adaptive, averaged = "adaptive " * recipe.adaptive, ", averaged weights" * bool(recipe.ema)
    return f"{adaptive}{LABELS[net.approach]}{averaged}"


def _recipe(net: Net) -> Recipe:
    assert isinstance(net, TrainSpec)  # none of these nets is a checkpoint
    return net.recipe


# sensitivity -> its nets, and what tells them apart where approach and seed do not
VARIED: dict[str, tuple[Callable[[Profile, int], list[Net]], Callable[[Net], str]]] = {
    "rho": (_radii, lambda net: f"rho {_recipe(net).rho:g}"),
    "architecture": (_architectures, lambda net: f"{BACKBONES[net.model]}, {LABELS[net.approach]}"),
    "schedule": (_schedules, lambda net: f"{_recipe(net).epochs} epochs"),
    "factorial": (_factors, lambda net: FACTORIAL[net.variant]),
    "optimizer": (_optimizers, _label),
}


def lambda_settings(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and setting of the measurement: images, mode, lambda_max."""
    rows = frame(records, "lambda_max")
    rows = rows[rows.part == 0]
    settings = [f"N = {row.n_samples}, {row.bn_mode} mode" for row in rows.itertuples()]
    return rows.assign(setting=settings)


def subsets(records: Iterable[Record]) -> pd.DataFrame:
    """Return how lambda_max varies with the images: a row per net.

    Mean, smallest and largest over disjoint sets of training images, and the standard deviation in
    percent of the mean. Nets with one set are left out.
    """
    rows = frame(records, "lambda_max")
    most = rows.groupby(["approach", "seed"]).n_samples.transform("max")
    rows = rows[(rows.bn_mode == "eval") & (rows.n_samples == most)]
    rows = rows[rows.groupby(["approach", "seed"]).part.transform("nunique") > 1]
    found = rows.groupby(["approach", "seed", "n_samples"], sort=False).lambda_max
    table = found.agg(["count", "mean", "min", "max", "std"]).reset_index()
    table["std"] *= 100 / table["mean"]
    names = {"n_samples": "images each", "count": "subsets", "std": "standard deviation (%)"}
    return table.rename(columns=names)


def observers(records: Iterable[Record]) -> pd.DataFrame:
    """Return top-1 (percent) of statically quantized nets, untrained: a row per observer."""
    rows = frame(records, "static")
    table = rows.pivot_table(index="observer", columns="approach", values="before")
    return table.reset_index().rename_axis(columns=None)


def forms(records: Iterable[Record]) -> pd.DataFrame:
    """Return top-1 (percent) at 4/4 bits by PACT's form, before and after the training."""
    rows = frame(records, "qat")
    return means(rows, ["approach", "form"], ["before", "after"])


def table(records: Iterable[Record], about: str) -> pd.DataFrame:
    """Return a row per net of one sensitivity: `setting`, lambda_max, float and W4 top-1 (%)."""
    import pandas as pd

    _, setting = VARIED[about]
    nets: dict[Net, list[Record]] = {}  # approach and seed do not tell them apart here
    for record in records:
        nets.setdefault(record.spec.net, []).append(record)
    rows = [
        quantized.nets(own).assign(setting=setting(net))
        for net, own in nets.items()
        if len(frame(own, "ptq"))  # not where it diverged
    ]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def outcome(table: pd.DataFrame) -> list[str]:
    """Return what came out, in words: the nets in order, at each setting that has several."""
    if table.empty:
        return []
    if table.groupby("setting").approach.nunique().max() > 1:
        named = table.assign(name=table.approach.map(LABELS))
        settings = named.groupby("setting", sort=False)
        return [
            f"With {at}, {_in_order(rows, 'name')}."
            for at, rows in settings
            if rows.approach.nunique() > 1  # one alone is in no order
        ]
    return [f"Here {_in_order(table, 'setting')}."]


def _in_order(rows: pd.DataFrame, by: str) -> str:
    """The nets from the flattest on, and from the most accurate at 4 bits on; means over seeds."""
    means = rows.groupby(by)[["lambda_max", "top1"]].mean()
    flat, good = means.lambda_max.sort_values(), means.top1.sort_values(ascending=False)
    flattest = ", ".join(f"{name} ({value:.3g})" for name, value in flat.items())
    best = ", ".join(f"{name} ({value:.2f} %)" for name, value in good.items())
    return f"sharpness rises in the order {flattest}; W4 top-1 falls in the order {best}"


@or_absent
def figure(table: pd.DataFrame, columns: dict[str, str]) -> Figure:
    """Draw a row of dots per setting, a panel per column; `columns` maps them to their labels."""
    places = {setting: i for i, setting in enumerate(dict.fromkeys(table.setting))}
    figure, axes = panels(len(columns), height=0.9 + 0.34 * len(places), sharey=True)
    for ax, (column, label) in zip(axes, columns.items(), strict=True):
        for approach, rows in table.groupby("approach", sort=False):
            look: dict[str, Any] = {
                "color": COLOURS.get(approach, "0.35"),
                "marker": MARKERS.get(approach, "v"),
            }
            at = rows.setting.map(places)
            ax.plot(rows[column], at, ls="", label=LABELS[approach], ms=7, **look)
        ax.set(xlabel=label, ylim=(len(places) - 0.5, -0.5))
        if column == "lambda_max":
            plain_log(ax.xaxis)
            ax.set_xlabel(r"$\lambda_{\max}$ (log scale)")
        ax.margins(x=0.08)  # marks at the edge are drawn whole
        ax.set_yticks(list(places.values()), list(places))
    if table.groupby("setting").approach.nunique().max() > 1:  # else the setting says it all
        key(figure, axes[0])
    told = (f"{label}: {values(table, column, by='setting')}" for column, label in columns.items())
    return described(figure, f"Dot plots, a row for each setting. Means: {'; '.join(told)}.")
