"""The paper's own numbers, read from `data/paper`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from snt_core.common.documents import read_yaml
from snt_core.common.errors import UserError
from snt_core.common.files import paper_dir

if TYPE_CHECKING:
    import pandas as pd


@cache
def claims() -> dict[str, dict[str, Any]]:
    """Return where, says and assertions of each claim, by its id, in the paper's order."""
    file = paper_dir() / "claims.yml"
    entries = read_yaml(file)
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        given = set(entry) if isinstance(entry, dict) else set()
        if lacking := sorted({"id", "where", "says", "assertions"} - given):
            raise UserError(f"claim {number} of {file} lacks {', '.join(lacking)}; add it")
    return {entry["id"]: entry for entry in entries}


def changes() -> list[str]:
    """Return what was changed in the claims, when and why: the log at the head of their file."""
    lines = (paper_dir() / "claims.yml").read_text(encoding="utf-8").splitlines()
    head = [line[2:] for line in lines[: lines.index(next(x for x in lines if x[:1] == "-"))]]
    log = head[head.index("Changes:") + 1 :]
    entries: list[str] = []
    for line in log:
        if line[:1] != " ":
            entries.append(line)
        else:
            entries[-1] += f" {line.strip()}"
    return entries


def table2() -> pd.DataFrame:
    """Return Table 2 indexed by quantity, columns adam and sam; drops of accuracy are negative."""
    rows = _rows("table2")
    return rows.rename(columns=str.lower).set_index("quantity")[["adam", "sam"]]


def table3(scheme: str, backbone: str) -> pd.DataFrame:
    """Return rows of Table 3, indexed by approach (adam, sam, arch): lambda_max, top1, bits."""
    rows = _rows("table3")
    rows = rows[(rows.scheme == scheme) & (rows.backbone == backbone)]
    return rows.assign(approach=rows.approach.str.lower()).set_index("approach")


def table4() -> pd.DataFrame:
    """Return Table 4 indexed by approach (adam, preact, arch): lambda_max, top1, boost."""
    rows = _rows("table4")
    names = {"Baseline": "adam", "+Preact": "preact", "+PReLU/LBias": "arch"}
    return rows.assign(approach=rows.variant.map(names)).set_index("approach")


def figure1() -> pd.DataFrame:
    """Return what the text says of Figure 1: approach, part, components, width, explained."""
    return _rows("figure1")


def figure2() -> pd.DataFrame:
    """Return what the text says of Figure 2: approach, channel, low, high."""
    return _rows("figure2")


def _rows(table: str) -> pd.DataFrame:
    import pandas as pd  # not at the top: the command line starts without it

    return pd.read_csv(paper_dir() / f"{table}.csv", comment="#")
