"""Records of the sensitivity runs as tables, a row per setting."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from snt_core.paper.frames.compression import headline, of_kind, quantized
from snt_core.paper.recipes import BACKBONES
from snt_core.runs.spec import Net, root
from snt_core.runs.store import Record


def lambda_settings(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net and setting of the measurement: number of images, mode, lambda_max."""
    return pd.DataFrame(
        {
            **net,
            "setting": f"N = {record.n_samples}, {record.spec.bn_mode} mode",
            "lambda_max": record.metrics["lambda_max"],
            "converged": record.metrics["converged"],
        }
        for record, net in of_kind(records, "lambda_max")
    )


def observers(records: Iterable[Record]) -> pd.DataFrame:
    """Top-1 (percent) of statically quantized nets without fine-tuning: a row per observer."""
    frame = quantized(records)
    frame = frame[frame.kind == "static"]
    table = frame.pivot_table(index="observer", columns="approach", values="before")
    return table.reset_index().rename_axis(columns=None)


def variants(records: Iterable[Record]) -> pd.DataFrame:
    """A row per net with what sets it apart: lambda_max, float and W4 top-1 (percent)."""
    nets: dict[Net, list[Record]] = {}  # approach and seed do not tell them apart here
    for record in records:
        nets.setdefault(root(record.spec), []).append(record)
    rows = [
        headline(own).assign(setting=_setting(net))
        for net, own in nets.items()
        if any(of_kind(own, "ptq"))  # not where it diverged
    ]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _setting(net: Net) -> str:
    rho = net.recipe.rho
    return f"rho {rho:g}" if rho else f"{BACKBONES[net.model]}, {net.variant}"
