"""A net beside the book's own, where the classes agree, and how lambda_max may be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from snt_core.paper.evidence import frame, means
from snt_core.paper.recipes import BACKBONES, DATASETS
from snt_core.runs.store import Store

if TYPE_CHECKING:
    from snt_core.audit.auditing import Audit

CLASSES = {  # folders of a copy of the data, as they are called everywhere
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
}
JUDGED = ("resnet20", "mixer_s", "mobilenet_v1", "vit")  # by the proxy chapter
PROXY = "proxy_sharpness.html"
CARE = (
    "lambda_max has no unit: multiplying filters before a normalisation changes it, and nothing "
    "that the net computes. Compare it between trainings of one architecture on the same samples, "
    "and read it beside what was measured above, which says directly what compression costs. The "
    "value with filters normalised does not change so."
)


@dataclass(frozen=True)
class Place:
    """Beside whom a net stands: `table` of the book's nets, or `why` it cannot be compared."""

    table: pd.DataFrame
    why: str = ""


def placed(audit: Audit, book: Store) -> Place:
    """Return the book's nets on the same classes, or why none is comparable."""
    name = data_set_of(audit)
    if name is None:
        known = ", ".join(DATASETS[k] for k in ("cifar10", "imagenet"))
        return Place(
            pd.DataFrame(),
            f"Not comparable: the samples' classes are not those of {known}, on which the book's "
            f"nets are measured.",
        )
    if not audit.trained or not audit.labelled:
        what = "its weights are random" if not audit.trained else "its samples have no labels"
        return Place(pd.DataFrame(), f"Not comparable: {what}.")
    table = beside(book, name)
    if table.empty:
        return Place(table, f"Not comparable: the store holds no record on {DATASETS[name]}.")
    return Place(table)


def data_set_of(audit: Audit) -> str | None:
    """Return the book's data set whose classes, by name and number, the samples have; else None."""
    mine = [name.lower() for name in audit.classes]
    for name, names in CLASSES.items():
        if mine == names and audit.outputs == len(names):
            return name
    ids = all(len(name) == 9 and name[0] == "n" and name[1:].isdecimal() for name in mine)
    return "imagenet" if mine and ids and audit.outputs == 1000 else None


def beside(book: Store, data: str) -> pd.DataFrame:
    """Return a row for each of the book's nets on a data set: top-1 and points lost, as means."""
    records = [r for r in book.records() if r.spec.net.data == data and r.profile != "smoke"]
    keys = ["model", "approach"]
    float_, ptq, one_shot = (frame(records, kind) for kind in ("train", "ptq", "one_shot"))
    if float_.empty:
        return pd.DataFrame()
    found = means(float_, keys, ["top1"]).rename(columns={"top1": "top-1 (%)"})
    four = ptq[(ptq.weight_bits == 4) & (ptq.act_bits == 0) & ptq.per_channel.astype(bool)]
    if len(four):
        tops = float_[["model", "approach", "seed", "top1"]]
        both = four.merge(tops, on=["model", "approach", "seed"])
        both = both.assign(**{"W4 lost (points)": both.top1 - both.before})
        found = found.merge(means(both, keys, ["W4 lost (points)"]), on=keys, how="left")
    half = one_shot[one_shot.sparsity == 0.5]
    if len(half):
        half = half.rename(columns={"drop": "50 % pruned lost (points)"})
        found = found.merge(means(half, keys, ["50 % pruned lost (points)"]), on=keys, how="left")
    return found.assign(model=found.model.map(lambda m: BACKBONES.get(m, m)))


def evidence(book: Store) -> list[str]:
    """Return what the book's records say of lambda_max as a proxy; nothing where none are there."""
    from snt_core.common.errors import UserError
    from snt_core.paper.selection import select
    from snt_core.paper.verdict import judge
    from snt_core.paper.words import outcome

    try:
        selections = [select("proxy", "published", (), book, backbone=b).read(book) for b in JUDGED]
        told = outcome(judge("proxy", *selections))
        return [line for line in told if "Not known" not in line]
    except UserError:  # a package without the paper's numbers
        return []
