"""The paper's own numbers, read from `data/paper`."""

from __future__ import annotations

from functools import cache

import pandas as pd
import yaml

from snt_core.common.files import paper_dir


@cache
def claims() -> dict[str, dict[str, str]]:
    """id -> where, says, test; in the paper's order."""
    entries = yaml.safe_load((paper_dir() / "claims.yml").read_text(encoding="utf-8"))
    return {entry["id"]: entry for entry in entries}


def table2() -> pd.DataFrame:
    """Table 2 indexed by quantity, columns adam and sam; drops of accuracy are negative."""
    rows = pd.read_csv(paper_dir() / "table2.csv", comment="#")
    return rows.rename(columns=str.lower).set_index("quantity")[["adam", "sam"]]


def table3(scheme: str, backbone: str) -> pd.DataFrame:
    """Rows of Table 3 indexed by approach (adam, sam, arch): lambda_max, top1, bit widths."""
    rows = pd.read_csv(paper_dir() / "table3.csv", comment="#")
    rows = rows[(rows.scheme == scheme) & (rows.backbone == backbone)]
    return rows.assign(approach=rows.approach.str.lower()).set_index("approach")


def table4() -> pd.DataFrame:
    """Table 4 indexed by approach (adam, preact, arch): lambda_max, top1, boost."""
    rows = pd.read_csv(paper_dir() / "table4.csv", comment="#")
    names = {"Baseline": "adam", "+Preact": "preact", "+PReLU/LBias": "arch"}
    return rows.assign(approach=rows.variant.map(names)).set_index("approach")
