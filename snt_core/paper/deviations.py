"""How the numbers move with what the paper leaves open.

measurement: N and the mode of batch normalisation in lambda_max, observers of static quantization.
rho: SAM's radius. architecture: ResNet without the last activation, Mixer with every activation
along the channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from snt_core.common.checks import all_or_one
from snt_core.paper import quantized
from snt_core.paper.evidence import frame
from snt_core.paper.looks import COLOURS, MARKERS, canvas, or_absent
from snt_core.paper.profiles import Profile
from snt_core.paper.recipes import BACKBONES, LABELS, lambda_max, ptq, static, training
from snt_core.runs.kinds.train import TrainSpec
from snt_core.runs.record import Record
from snt_core.runs.spec import Net, Spec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SENSITIVITIES = ("measurement", "rho", "architecture")


def runs(profile: Profile, seeds: Iterable[int], *, about: str = "") -> list[Spec]:
    """Return the runs of each sensitivity."""
    specs: list[Spec] = []
    for seed, what in product(seeds, all_or_one("sensitivity", about, SENSITIVITIES)):
        if what == "measurement":
            specs += _measurement(profile, seed)
        else:
            nets = _radii(profile, seed) if what == "rho" else _architectures(profile, seed)
            for net in nets:
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
            *(replace(four_bits, observer=o) for o in ("minmax", "percentile", "mse")),
        ]
    return specs


def _radii(profile: Profile, seed: int) -> list[Net]:
    sam = training(profile, "cifar100", "sam", seed)
    assert isinstance(sam, TrainSpec)
    rho = sam.recipe.rho
    return [replace(sam, recipe=replace(sam.recipe, rho=r)) for r in (rho / 2, rho, 2 * rho)]


def _architectures(profile: Profile, seed: int) -> list[Net]:
    resnet = training(profile, "cifar100", "arch", seed)
    mixer = training(profile, "cifar10", "arch", seed, "mixer_s")
    changed = replace(resnet, variant="snt-nofinal"), replace(mixer, variant="snt-channels")
    return [resnet, changed[0], mixer, changed[1]]


def lambda_settings(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net and setting of the measurement: images, mode, lambda_max."""
    rows = frame(records, "lambda_max")
    settings = [f"N = {row.n_samples}, {row.bn_mode} mode" for row in rows.itertuples()]
    return rows.assign(setting=settings)


def observers(records: Iterable[Record]) -> pd.DataFrame:
    """Return top-1 (percent) of statically quantized nets, untrained: a row per observer."""
    rows = frame(records, "static")
    table = rows.pivot_table(index="observer", columns="approach", values="before")
    return table.reset_index().rename_axis(columns=None)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Return a row per net with what sets it apart: lambda_max, float and W4 top-1 (percent)."""
    import pandas as pd

    nets: dict[Net, list[Record]] = {}  # approach and seed do not tell them apart here
    for record in records:
        nets.setdefault(record.spec.net, []).append(record)
    rows = [
        quantized.nets(own).assign(setting=_setting(net))
        for net, own in nets.items()
        if len(frame(own, "ptq"))  # not where it diverged
    ]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _setting(net: Net) -> str:
    rho = net.recipe.rho if isinstance(net, TrainSpec) else 0.0
    return f"rho {rho:g}" if rho else f"{BACKBONES[net.model]}, {net.variant}"


@or_absent
def figure(table: pd.DataFrame, columns: dict[str, str]) -> Figure:
    """Draw a row of dots per setting, a panel per column; `columns` maps them to their labels."""
    figure = canvas(9, 0.9 + 0.34 * table.setting.nunique())
    places = {setting: i for i, setting in enumerate(dict.fromkeys(table.setting))}
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, (column, label) in zip(panels, columns.items(), strict=True):
        for approach, rows in table.groupby("approach", sort=False):
            look = {"color": COLOURS.get(approach, "0.35"), "marker": MARKERS.get(approach, "v")}
            at = rows.setting.map(places)
            ax.plot(rows[column], at, ls="", label=LABELS[approach], ms=7, **look)
        ax.set(xlabel=label, xscale="log" if column == "lambda_max" else "linear")
        ax.set_yticks(list(places.values()), list(places))
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure
